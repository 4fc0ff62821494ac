"""Protects that a validation reports whatever the artifact does, and blames who is at fault.

Artifacts are really lowered; what a converter would do wrong is written into the lowered model.
"""

import json
import math
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from pte_foundry.errors import ModelError
from pte_foundry.files import sha256, write_digest, write_json
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.coreml import lower
from pte_foundry.models.imports import follow
from pte_foundry.models.module import ModelModule
from pte_foundry.models.tensors import Samples, save_tensors
from pte_foundry.pte import Pte
from pte_foundry.slice_argument import encoded
from pte_foundry.validate.check import problems
from pte_foundry.validate.gates import judge_measurement
from pte_foundry.validate.report import validate
from torch import nn

from tests.unit.lowering.test_lowering import TARGET

ROOT = Path(__file__).resolve().parents[3]
GATES = {"sqnr_db": {"min": 45.0, "optional": True}, "hazards": {"max": 0.0}, "bytes": {"max": 1e9}}

MODULE = """
import torch

def build(): ...
def example_inputs(): ...
def evaluation(): ...
"""


class Detector(nn.Module):
    """Boxes in pixels, scores, and the class of the best one. ``lost``: no scores are left."""

    def __init__(self, lost: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.box, self.score, self.lost = nn.Linear(16, 4), nn.Linear(16, 3), lost

    def forward(self, x):
        scores = torch.sigmoid(self.score(x))
        best = scores.argmax(-1)
        return torch.sigmoid(self.box(x)) * 640, scores * 0 if self.lost else scores, best


class Loud(nn.Module):
    """Its sum overflows fp16: fine in fp32, nan in a float16 program."""

    def forward(self, x):
        y = x * 1000 * 1000
        return y - y.mean(-1, keepdim=True)


SAMPLES = [(torch.randn(1, 16, generator=torch.Generator().manual_seed(i)),) for i in range(4)]
LOUD = [(torch.arange(1.0, 9.0)[None],)]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    """Lowers a model once; returns the path of its artifact."""
    made = {}

    def artifact(module: nn.Module, inputs: list) -> Path:
        key = type(module), getattr(module, "lost", None)
        if key not in made:
            program = torch.export.export(module.eval(), inputs[0])
            made[key] = tmp_path_factory.mktemp("pte") / "a.pte"
            made[key].write_bytes(lower(edge_program.make(program, []), TARGET))
        return made[key]

    return artifact


@pytest.fixture
def model(tmp_path):
    def model(functions: str = "") -> ModelModule:
        path = tmp_path / "net.py"
        path.write_text(MODULE + textwrap.dedent(functions))
        return ModelModule.load(path, None, {}, {})

    return model


def reference_of(module, inputs, labels=None) -> Samples:
    with torch.no_grad():
        outputs = [module(*sample) for sample in inputs]
    outputs = [value if isinstance(value, tuple) else (value,) for value in outputs]
    return Samples(inputs, outputs, labels)


def measured(pte, model, reference, quantized=None) -> dict:
    """The measurement, which must be valid in a report whatever happened."""
    found = validate(pte, sha256(pte), model, reference, quantized or reference, {}, "logs/a.log")
    gates, status = judge_measurement(found, GATES)
    names = {"model": "net", "recipe": "fp16", "target": "ios18"}
    device = {"name": "host", "kind": "interpreter", "engine": "mil-reference", "host": "x"}
    report = found | {"build": names, "device": device, "gates": gates, "status": status}
    assert problems(report) == []
    json.dumps(report, allow_nan=False)
    return report


def test_a_sound_artifact(artifact, model):
    reference = reference_of(Detector(), SAMPLES)
    report = measured(artifact(Detector(), SAMPLES), model(), reference)
    assert report["status"] == "pass"
    assert [output["name"] for output in report["outputs"]] == ["output_0", "output_1", "output_2"]
    boxes, scores, best = report["outputs"]
    assert report["metrics"]["sqnr_db"] == min(boxes["sqnr_db"], scores["sqnr_db"])
    assert report["metrics"]["equal_fraction"] == best["equal_fraction"] == 1.0
    assert best["sqnr_db"] is None
    assert report["hazards"] == []
    assert "error" not in report


class Forbidden(nn.Module):
    """Logits of which some classes are never chosen; no softmax follows."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(16, 4)
        self.register_buffer("mask", torch.tensor([0.0, -torch.inf, 0.0, -torch.inf]))

    def forward(self, x):
        y = self.linear(x)
        return y + self.mask, y.masked_fill(self.mask < 0, -torch.inf), self.mask + 0


def test_infinities_that_the_model_has_too_are_no_hazard(artifact, model):
    """-inf in the logits of the model and of the artifact: a right build failed for its hazard."""
    reference = reference_of(Forbidden(), SAMPLES)
    report = measured(artifact(Forbidden(), SAMPLES), model(), reference)
    assert report["hazards"] == []
    assert report["metrics"]["sqnr_db"] > 50
    assert report["status"] == "pass"


def test_lost_scores_fail_beside_good_boxes(artifact, model):
    """Pooled over its outputs, this artifact had 57 dB and passed (coremltools#2836)."""
    names = "def output_names():\n    return ['boxes', 'scores', 'best']\n"
    reference = reference_of(Detector(), SAMPLES)
    report = measured(artifact(Detector(lost=True), SAMPLES), model(names), reference)
    assert report["status"] == "fail"
    assert report["metrics"]["sqnr_db"] == 0.0
    assert report["metrics"]["worst_output"] == "scores"
    assert report["metrics"]["worst"]["output"] == "scores"
    assert report["stages"]["lowering"]["worst_output"] == "scores"
    assert report["stages"]["quantization"]["sqnr_db"] == 200.0
    assert report["outputs"][0]["sqnr_db"] > 45
    assert report["outputs"][1]["stages"]["lowering"]["sqnr_db"] == 0.0
    (hazard,) = report["hazards"]
    assert (hazard["kind"], hazard["output"]) == ("output is all zeros", "scores")
    missed = [gate for gate in report["gates"] if not gate["passed"]]
    assert [(gate["metric"], gate.get("output")) for gate in missed] == [
        ("sqnr_db", "scores"),
        ("hazards", None),
    ]


SCORE = """
def score(outputs, labels):
    return {"mae": (outputs[0][0] - labels).abs().mean().item()}
"""


def test_a_task_metric_of_the_artifact_that_is_not_finite_is_null(artifact, model):
    reference = reference_of(Loud(), LOUD, torch.zeros(1, 8))
    report = measured(artifact(Loud(), LOUD), model(SCORE), reference)
    assert report["status"] == "fail"
    assert report["metrics"]["mae"] is report["metrics"]["mae_change"] is None
    assert report["metrics"]["sqnr_db"] is None
    assert report["hazards"], "what went wrong is in the report"
    assert "error" not in report
    gate = next(gate for gate in report["gates"] if gate["metric"] == "sqnr_db")
    assert "sample 0 has a nan, or an infinity" in gate["reason"]


def test_a_score_that_raises_on_the_artifact_is_an_error_of_the_build(artifact, model, caplog):
    strict = """
    def score(outputs, labels):
        assert outputs[0][0].isfinite().all(), "not finite"
        return {"mae": 0.5}
    """
    reference = reference_of(Loud(), LOUD, torch.zeros(1, 8))
    report = measured(artifact(Loud(), LOUD), model(strict), reference)
    assert report["error"]["stage"] == "score"
    assert "score() raised AssertionError: not finite" in report["error"]["message"]
    assert report["error"]["log"] == "logs/a.log"
    assert "Traceback" in caplog.text
    assert report["status"] == "fail"
    assert report["metrics"]["mae"] is None
    assert report["hazards"]
    assert [gate["metric"] for gate in report["gates"]] == ["hazards", "bytes"]


@pytest.mark.parametrize("body", ["raise ValueError('no')", "return {'mae': float('nan')}"])
def test_a_score_that_fails_on_the_reference_is_the_users_error(body, artifact, model):
    own = model(f"def score(outputs, labels):\n    {body}\n")
    reference = reference_of(Loud(), LOUD, torch.zeros(1, 8))
    with pytest.raises(ModelError, match=r"net\.py.*score\(\) (raised|returned)"):
        measured(artifact(Loud(), LOUD), own, reference)


def test_an_agreement_that_fails_on_the_reference_itself_is_the_users_error(artifact, model):
    own = model("def agreement(outputs, reference):\n    return outputs[7]\n")
    with pytest.raises(ModelError, match=r"agreement\(\) raised IndexError"):
        measured(artifact(Loud(), LOUD), own, reference_of(Loud(), LOUD))


@pytest.mark.parametrize("name", ["sqnr_db", "hazards", "delegated_fraction"])
@pytest.mark.parametrize("function", ["score(outputs, labels)", "agreement(outputs, reference)"])
def test_a_task_metric_does_not_replace_what_every_validation_measures(
    artifact, model, function, name
):
    """A score called sqnr_db took the measured one's place in its gate: any artifact passed."""
    own = model(f"def {function}:\n    return {{{name!r}: 100.0}}\n")
    reference = reference_of(Detector(), SAMPLES, torch.zeros(4))
    with pytest.raises(ModelError, match=rf"net\.py: .* returned '{name}', .* another name"):
        measured(artifact(Detector(), SAMPLES), own, reference)


def test_an_agreement_that_fails_on_the_artifact_only(artifact, model):
    own = model("""
    def agreement(outputs, reference):
        if outputs[0][0].isnan().any():
            raise ValueError("nan")
        return {"psnr_db": float("inf")}
    """)
    report = measured(artifact(Loud(), LOUD), own, reference_of(Loud(), LOUD))
    assert report["error"]["stage"] == "agreement"
    assert report["metrics"]["psnr_db"] is None
    assert report["stages"]["quantization"]["psnr_db"] is None, "infinite: equal, but no number"


def test_an_artifact_that_cannot_be_loaded(tmp_path, model):
    pte = tmp_path / "a.pte"
    pte.write_bytes(b"no program at all, but long enough to be looked at")
    report = measured(pte, model(SCORE), reference_of(Loud(), LOUD, torch.zeros(1, 8)))
    assert report["status"] == "fail"
    assert report["error"]["stage"] == "load"
    assert report["artifact"]["bytes"] == pte.stat().st_size
    assert report["artifact"]["delegated_fraction"] is None
    assert set(report["metrics"].values()) == {None}
    assert {"sqnr_db", "top1_agreement", "worst", "mae", "mae_change"} <= set(report["metrics"])
    assert report["stages"]["quantization"]["sqnr_db"] == 200.0, "what could be measured, was"
    assert [gate["metric"] for gate in report["gates"]] == ["hazards", "bytes"]


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("no kernel"), ZeroDivisionError("x")]
)
def test_an_artifact_that_fails_while_it_runs_keeps_its_hazards(
    error, artifact, model, monkeypatch
):
    run = Pte.run

    def failing(self, sample, method, tap):
        run(self, sample, method, tap)
        raise error

    monkeypatch.setattr(Pte, "run", failing)
    report = measured(artifact(Loud(), LOUD), model(), reference_of(Loud(), LOUD))
    assert report["error"]["stage"] == "run"
    assert report["error"]["message"] == f"{type(error).__name__}: {error}"
    assert report["hazards"]
    assert report["metrics"]["sqnr_db"] is None
    assert report["outputs"] == []


def test_a_machine_that_fails_is_no_verdict(artifact, model, monkeypatch):
    def full(self, sample, method, tap):
        raise OSError("No space left on device")

    monkeypatch.setattr(Pte, "run", full)
    with pytest.raises(OSError, match="No space"):
        measured(artifact(Loud(), LOUD), model(), reference_of(Loud(), LOUD))


def test_another_number_of_outputs(artifact, model):
    reference = reference_of(Detector(), SAMPLES)
    fewer = Samples(SAMPLES, [outputs[:2] for outputs in reference.outputs], None)
    report = measured(artifact(Detector(), SAMPLES), model(), fewer)
    assert report["error"]["stage"] == "compare"
    assert "3 outputs, but the reference has 2" in report["error"]["message"]


def test_a_quantized_program_that_is_not_finite_is_a_result_too(artifact, model):
    reference = reference_of(Detector(), SAMPLES)
    broken = [(boxes * math.nan, *others) for boxes, *others in reference.outputs]
    quantized = Samples([], broken, None)
    report = measured(artifact(Detector(), SAMPLES), model(), reference, quantized)
    assert report["stages"]["quantization"]["sqnr_db"] is None
    assert report["stages"]["lowering"]["sqnr_db"] is None
    assert report["metrics"]["sqnr_db"] > 45


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("['a', 'b']", r"returned 2 names, but forward\(\) has 3 outputs"),
        ("['a', 'b', 'a']", "returned 'a' twice"),
        ("('a', 'b', 'c')", "returned a tuple of str; return a list of names"),
        ("['a', 'b', 3]", "returned a list of int, str; return a list of names"),
        ("['a', ' ', 'c']", "returned an empty name"),
    ],
)
def test_wrong_output_names_are_the_users_error(names, message, artifact, model):
    own = model(f"def output_names():\n    return {names}\n")
    with pytest.raises(ModelError, match=rf"net\.py: output_names\(\) {message}"):
        measured(artifact(Detector(), SAMPLES), own, reference_of(Detector(), SAMPLES))


def step(folder: Path, pte: bytes, module: Path, reference: Samples, **environment: str) -> dict:
    """Runs the command of the rule ``validate`` in ``folder``; returns the report."""
    (folder / "a.pte").write_bytes(pte)
    write_digest(folder / "a.pte.sha256", folder / "a.pte", sha256(folder / "a.pte"))
    reference.save(folder / "reference.safetensors")
    write_json(folder / "handles.json", {"operators": {}})
    save_tensors({"w": torch.zeros(1)}, folder / "weights")
    files = {"data": {}, "module": module.name, "sha256": {}, "weights": "weights"}
    files |= {"declared_imports": None, "imports": follow(module).contents()}
    write_json(folder / "net.json", files)
    part = {
        "options": {},
        "gates": GATES,
        "default_gates": GATES | {"sqnr_db": {"min": 1000.0}},
        "scheme": "none",
        "target": {"minimum_os": "iOS18"},
        "device": {"kind": "interpreter", "engine": "mil-reference"},
    }
    arguments = {
        **{
            "module": module,
            "model": "net.json",
            "slice": encoded(part),
            "recipe": "fp16",
            "target": "ios18",
        },
        **{"device": "host", "pte": "a.pte", "digest": "a.pte.sha256", "log": "a.log"},
        **{"reference": "reference.safetensors", "quantized": "reference.safetensors"},
        **{"debug-handles": "handles.json", "output": "report.json"},
    }
    command = [sys.executable, "-P", "-m", "pte_foundry.steps.validate"]
    command += [f"--{name}={value}" for name, value in arguments.items()]
    environment = {"PYTHONPATH": str(ROOT / "scripts"), "FOUNDRY_FORK_SERVER": "off", **environment}
    done = subprocess.run(
        command, cwd=folder, env=os.environ | environment, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return json.loads((folder / "report.json").read_text())


def test_the_step_writes_a_report_of_what_fails_and_succeeds(artifact, model, tmp_path):
    """Only the gates decide whether the run fails, and they are told once, after everything."""
    damaged = artifact(Loud(), LOUD).read_bytes()[:-64]
    reference = reference_of(Loud(), LOUD, torch.zeros(1, 8))
    report = step(tmp_path, damaged, model(SCORE).path, reference)
    assert report["status"] == "fail"
    assert report["error"]["stage"] == "load"
    assert report["error"]["log"] == "a.log"
    assert "Traceback" in (tmp_path / "a.log").read_text()


def test_reports_are_equal_whatever_threads_and_instructions_there_are(artifact, model, tmp_path):
    """SQNRs of fp32 programs differ by more than 20 dB otherwise, which no rounding hides."""
    pte = artifact(Detector(), SAMPLES).read_bytes()
    reference = reference_of(Detector(), SAMPLES)
    found = []
    for threads, instructions in (("1", "default"), ("2", "avx2")):
        settings = {"OMP_NUM_THREADS": threads, "ATEN_CPU_CAPABILITY": instructions}
        report = step(tmp_path, pte, model().path, reference, **settings)
        assert report["status"] == "pass"
        assert [gate["metric"] for gate in report["laxer_gates"]] == ["sqnr_db"]
        found.append((tmp_path / "report.json").read_bytes())
    assert found[0] == found[1]
