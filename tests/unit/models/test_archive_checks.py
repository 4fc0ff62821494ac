"""Protects whoever reads the results folder of somebody else: no ``.pt2`` in it runs code."""

import hashlib
import io
import json
import os
import pickle
import zipfile

import pytest
import torch
from pte_foundry.errors import ProgramError
from pte_foundry.models import programs
from pte_foundry.models.archive_checks import refuse_code

MODEL = "models/model.json"
CONSTANTS = "data/constants/model_constants_config.json"
WEIGHTS = "data/weights/model_weights_config.json"


class Touch:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.linear = torch.nn.Linear(2, 2)
        self.register_buffer("table", torch.arange(2.0))

    def forward(self, x):
        return torch.relu(self.linear(x)) + self.table


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    path = tmp_path_factory.mktemp("pt2") / "good.pt2"
    batch = torch.export.Dim("batch", min=2, max=64)
    program = torch.export.export(Net(), (torch.ones(3, 2),), dynamic_shapes=({0: batch},))
    programs.save(program, path)
    return path


@pytest.fixture
def changed(good, tmp_path):
    """A copy with other records, and a digest that is right."""

    def change(edit, extra=None):
        buffer = io.BytesIO()
        with zipfile.ZipFile(good) as archive, zipfile.ZipFile(buffer, "w") as copy:
            for entry in archive.infolist():
                root, _, name = entry.filename.partition("/")
                data = edit(name, archive.read(entry))
                if data is not None:
                    copy.writestr(entry.filename, data)
            for name, data in (extra or {}).items():
                copy.writestr(f"{root}/{name}", data)
        raw = buffer.getvalue()[:-2] + (64).to_bytes(2, "little")
        path = tmp_path / "evil.pt2"
        path.write_bytes(raw + hashlib.sha256(raw).hexdigest().encode())
        return path

    return change


def edit_json(record, edit):
    def edited(name, data):
        if name != record:
            return data
        value = json.loads(data)
        edit(value)
        return json.dumps(value).encode()

    return edited


def pickled(path_name):
    entry = {"path_name": path_name, "is_param": False, "use_pickle": True, "tensor_meta": None}
    return lambda config: config["config"].update(x=entry)


def nodes(program):
    return program["graph_module"]["graph"]["nodes"]


def refused(path, what):
    """The program is refused, for this reason, and nothing has run."""
    with pytest.raises(ProgramError) as caught:
        programs.load(path)
    assert what in str(caught.value)
    assert not (path.parent / "ran").exists()


def test_our_own_programs_are_read(good, changed):
    assert torch.equal(
        programs.load(good).module()(torch.ones(3, 2)),
        programs.load(good).module()(torch.ones(3, 2)),
    )
    programs.load(changed(lambda name, data: data))  # the fixture itself is not what is refused


@pytest.mark.parametrize("prefix", ["opaque_obj_", "custom_obj_", "tensor_", "weight_"])
@pytest.mark.parametrize("config", [CONSTANTS, WEIGHTS])
def test_pickled_records_are_refused(changed, tmp_path, config, prefix):
    folder = config.rpartition("/")[0]
    data = {f"{folder}/{prefix}9": pickle.dumps(Touch(tmp_path / "ran"))}
    path = changed(edit_json(config, pickled(f"{prefix}9")), data)
    refused(path, "record")


def test_a_pickle_within_torchs_own_format_is_refused(changed, tmp_path):
    buffer = io.BytesIO()
    torch.save(Touch(tmp_path / "ran"), buffer)
    data = {"data/weights/weight_9": buffer.getvalue()}
    refused(changed(edit_json(WEIGHTS, pickled("weight_9")), data), "the pickled record")


@pytest.mark.parametrize("name", ["data/aotinductor/model/a.so", "extra/a.py", "models/other.json"])
def test_other_records_are_refused(changed, name):
    refused(changed(lambda _, data: data, {name: b"x"}), "an unexpected record")


@pytest.mark.parametrize(
    "target",
    [
        "torch.os.system",
        "torch.ops.aten.from_file.default",
        "torch.ops.aten.save.default",
        "torch.ops.load_library",
        "torch.hub.load",
        "_operator.methodcaller",
        "_operator.attrgetter",
        "math.__loader__.load_module",
        "torch.ops.higher_order.call_torchbind",
        "#torch.x",
        "torch.ops.aten.relu.default.__call__",
    ],
)
def test_operators_that_do_not_compute_are_refused(changed, target):
    refused(
        changed(edit_json(MODEL, lambda m: nodes(m)[0].update(target=target))),
        f"the operator {target!r}",
    )


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').mkdir('ran')",
        "Symbol('s0').__class__",
        "preview(Symbol('s0'))",
        "(lambda: 1)()",
        "[x for x in (1,)]",
        "Symbol('s0', integer=print())",
        "exec('1')",
        "s0 if s0 else open",
    ],
)
def test_expressions_that_are_not_sizes_are_refused(changed, text):
    def edit(program):
        program["graph_module"]["graph"]["sym_int_values"]["s99"] = {
            "as_expr": {"expr_str": text, "hint": None}
        }

    refused(changed(edit_json(MODEL, edit)), "the expression")


def test_guards_and_enumerations_are_refused(changed):
    def guard(program):
        program["guards_code"] = ["__import__('os').mkdir('ran')"]

    refused(changed(edit_json(MODEL, guard)), "the guard")

    def enumeration(program):
        program["graph_module"]["module_call_graph"][0]["signature"]["in_spec"] = (
            '[1, {"type": "x", "context": {"__enum__": "True", "fqn": "this:X.A"}}]'
        )

    refused(changed(edit_json(MODEL, enumeration)), "an enumeration")


def test_what_is_no_program_is_one_message(tmp_path):
    for content in (b"", b"text", b"PK\x03\x04" + bytes(100)):
        (tmp_path / "a.pt2").write_bytes(content)
        with pytest.raises(ProgramError, match="not an exported program"):
            refuse_code(tmp_path / "a.pt2")


def test_quantized_weights_of_our_own_are_read(tmp_path):
    """Their tensor types are pickled, and allowed by name."""
    from pte_foundry.models.archive_checks import _QUANTIZED

    for module, names in _QUANTIZED.items():
        loaded = __import__(module, fromlist=names)
        assert all(issubclass(getattr(loaded, name), torch.Tensor) for name in names)
