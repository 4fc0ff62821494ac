"""Generates projects with up to 10,000 builds, to measure how planning scales.

``python -m pte_foundry.bench.matrix --builds 1000 FOLDER`` generates one to try by hand.
"""

import argparse
import hashlib
import shutil
from itertools import count, cycle, islice, product
from pathlib import Path
from typing import Any

import yaml

from pte_foundry.bench import CLONE

PARTS = ("Snakefile", "rules", "scripts", "config", "envs", "profiles", "report")

SHAPES = {100: (4, 5, 5), 1_000: (20, 10, 5), 10_000: (80, 25, 5)}
"""Numbers of models, recipes and targets, by the number of builds, their product."""

# Three Core ML programs, of which compute units are not a part. All recipes are possible on each.
TARGETS: dict[str, dict[str, Any]] = {
    "ios18": {"minimum_os": "iOS18"},
    "ios18_ne": {"minimum_os": "iOS18", "compute_units": "cpu_and_ne"},
    "ios18_gpu": {"minimum_os": "iOS18", "compute_units": "cpu_and_gpu"},
    "ios18_fp32": {"minimum_os": "iOS18", "compute_precision": "float32"},
    "macos26": {"minimum_os": "macOS26"},
}

MODULE = '''\
"""A perceptron with {width} hidden values that tells the larger half of its inputs."""

import numpy as np
import torch
from torch import nn


def network():
    return nn.Sequential(nn.Linear(32, {width}), nn.ReLU(), nn.Linear({width}, 32))


def samples(data):
    return torch.from_numpy(np.loadtxt(data["samples"], delimiter=",", dtype=np.float32))


def train(data, steps=20):
    torch.manual_seed(0)
    model, inputs = network(), samples(data)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.mse_loss(model(inputs), (inputs > 0.5).float()).backward()
        optimizer.step()
    return model.state_dict()


def build(weights):
    from safetensors.torch import load_file

    model = network()
    model.load_state_dict(load_file(weights))
    return model.eval()


def example_inputs():
    return (torch.zeros(1, 32),)


def calibration(data):
    return [(row[None],) for row in samples(data)[::2]]


def evaluation(data):
    return [(row[None],) for row in samples(data)[1::2]], None
'''


def recipes(number: int) -> dict[str, dict[str, Any]]:
    """Returns ``number`` different recipes by name, of all schemes in turn."""
    schemes = cycle([_static(), _codebook(), _affine(), _weights_only()])
    made = {"fp16": {"scheme": "none"}}
    made.update(next(scheme) for scheme in islice(schemes, number - 1))
    return made


def _static():
    """PT2E with activations; each pair of recipes shares a calibration."""
    observers = ("min_max", "moving_average_min_max")
    for samples, observer, per_channel in product(range(4, 32), observers, (True, False)):
        settings = {"activation_observer": observer, "weight_per_channel": per_channel}
        name = f"int8_static_{observer}_{samples}" + ("" if per_channel else "_tensor")
        recipe = {"scheme": "pt2e", "calibration_samples": samples, "global_config": settings}
        yield name, recipe


def _weights_only():
    for samples in count(1):
        settings = {"activation_dtype": "float32"}
        recipe = {"scheme": "pt2e", "calibration_samples": samples, "global_config": settings}
        yield f"int8_weights_{samples}", recipe


def _codebook():
    blocks = ([-1, -1], [16, -1], [8, -1], [-1, 16], [-1, 8])
    for (rows, columns), bits in product(blocks, (4, 6, 8, 3, 2, 1)):
        step = {"codebook": {"dtype": f"uint{bits}", "block_size": [rows, columns]}}
        name = f"lut{bits}_{rows}_{columns}".replace("-1", "all")
        yield name, {"scheme": "quantize", "steps": [step]}


def _affine():
    granularities = ({"axis": 0}, *({"group_size": size} for size in (32, 16, 8)))
    mappings = ("symmetric", "asymmetric", "symmetric_no_clipping_err")
    for mapping, granularity, bits in product(mappings, granularities, (4, 8)):
        (kind, size), *_ = granularity.items()
        step = {
            "affine": {
                "weight_dtype": f"int{bits}",
                "granularity": granularity,
                "mapping_type": mapping,
            }
        }
        yield f"int{bits}_{kind}{size}_{mapping}", {"scheme": "quantize", "steps": [step]}


def make(folder: Path, builds: int) -> None:
    """Writes a project with ``builds`` builds, a key of :data:`SHAPES`, that could be built.

    Only its configuration and its models differ from this clone.
    """
    models, wanted, targets = SHAPES[builds]
    for part in PARTS:
        copy = shutil.copytree if (CLONE / part).is_dir() else shutil.copy2
        copy(CLONE / part, folder / part)
    samples = folder / "config/models/samples.csv"
    samples.write_text(_samples(), encoding="utf-8")
    digest = hashlib.sha256(samples.read_bytes()).hexdigest()
    data = {"samples": {"file": samples.relative_to(folder).as_posix(), "sha256": digest}}
    entries = {}
    for number in range(1, models + 1):
        module = f"config/models/perceptron_{number}.py"
        (folder / module).write_text(MODULE.format(width=32 * number), encoding="utf-8")
        entries[f"perceptron_{number}"] = {
            "module": module,
            "weights": {"train": True},
            "data": data,
            "options": {"steps": 20 + number},
        }
    config = {
        "models": entries,
        "recipes": recipes(wanted),
        "targets": dict(islice(TARGETS.items(), targets)),
        "builds": [{"models": "*", "recipes": "*", "targets": "*"}],
    }
    text = yaml.dump(config, sort_keys=False, Dumper=_Plain)
    (folder / "config/config.yaml").write_text(text, encoding="utf-8")


class _Plain(yaml.SafeDumper):
    """Writes repeated values in full, without YAML's aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _samples() -> str:
    """64 rows of 32 values from 0 to 1 as CSV, the same every time."""
    values = ((1103515245 * at + 12345) % 2**16 / 2**16 for at in count())
    rows = (",".join(f"{value:.4f}" for value in islice(values, 32)) for _ in range(64))
    return "\n".join(rows) + "\n"


def main(argv: list[str] | None = None) -> int:
    """Generates a project."""
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--builds", type=int, choices=SHAPES, required=True)
    parser.add_argument("folder", type=Path, help="of the project; must not exist")
    arguments = parser.parse_args(argv)
    arguments.folder.mkdir(parents=True)
    make(arguments.folder, arguments.builds)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
