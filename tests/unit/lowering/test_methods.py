"""Protects several methods in one ``.pte``: shared weights, canonical bytes, each by itself."""

import inspect
import json
import re

import numpy as np
import pytest
import torch
from executorch.backends.apple.coreml.compiler import CoreMLBackend
from pte_foundry.cli.main import main
from pte_foundry.errors import ConfigError
from pte_foundry.formats.canonical_pte import canonical_pte
from pte_foundry.formats.inspect_pte import describe
from pte_foundry.lowering import edge_program
from pte_foundry.lowering.causes import cause_of
from pte_foundry.lowering.coreml import lower, lower_described
from pte_foundry.models import programs
from pte_foundry.models.export import export_all
from pte_foundry.models.inference import evaluate, played, recalled, reference
from pte_foundry.pte import Pte
from pte_foundry.quantize import weight_only
from pte_foundry.validate.divergence import diverge_all
from pte_foundry.validate.hazards import torch_sources
from pte_foundry.validate.report import validate

from tests.unit.lowering.test_lowering import TARGET
from tests.unit.models.test_methods import DECODER, SPEECH, load

IOS16 = TARGET | {"specification_version": 7}
IOS16["partitioner"] = IOS16["partitioner"] | {"take_over_mutable_buffer": False}
INT8 = {
    "scheme": "affine",
    "types": ["torch.nn.Linear", "torch.nn.Embedding"],
    "names": ["*"],
    "exclude": [],
    "weight_dtype": "int8",
    "granularity": {"axis": 0},
}
LINEARS = 32 * 96 + 32 * 32 + 2 * 64 * 32
"""Elements of the decoder's weights, the embedding included."""


class Built:
    """A model as the steps build it, through files."""

    def __init__(self, folder, path, recipe, target):
        self.model = load(path)
        self.reference = reference(self.model)
        module = self.model.build()
        self.float = export_all(self.model, self.model.build())
        if recipe:
            weight_only.quantize(module, [recipe])
        programs.save_all(export_all(self.model, module), folder / "quantized.pt2")
        self.quantized = evaluate(
            programs.load_all(folder / "quantized.pt2"), self.reference, self.model
        )
        edges = edge_program.make_all(programs.load_all(folder / "quantized.pt2"), [])
        metadata = json.loads(json.dumps(edge_program.save_all(edges, folder / "edge.pt2")))
        loaded = edge_program.load_all(folder / "edge.pt2", metadata)
        written, self.symbols = lower_described(loaded, target)
        self.handles = edge_program.merged(metadata)["debug_handles"]
        self.bytes = canonical_pte(written, "all")
        self.path = folder / "a.pte"
        self.path.write_bytes(self.bytes)

    def pte(self):
        loaded = Pte.load(self.path)
        loaded.add_debug_info(self.symbols)
        return loaded


def caller(pte):
    """``pte.run`` with the method first, as conversations call it."""
    return lambda method, inputs: pte.run(inputs, method)


@pytest.fixture(scope="module")
def decoder(tmp_path_factory):
    return Built(tmp_path_factory.mktemp("decoder"), DECODER, INT8, TARGET)


@pytest.fixture(scope="module")
def speech(tmp_path_factory):
    return Built(tmp_path_factory.mktemp("speech"), SPEECH, None, IOS16)


def test_the_artifact_plays_as_the_quantized_model_does(decoder):
    pte = decoder.pte()
    outputs = played(caller(pte), pte.reset, decoder.reference, decoder.model)
    torch.testing.assert_close(outputs, decoder.quantized.outputs, atol=5e-3, rtol=0)
    calls = recalled(caller(pte), pte.reset, decoder.reference)
    found, expected = ([c.outputs for c in made] for made in (calls, decoder.quantized.calls))
    torch.testing.assert_close(found, expected, atol=5e-3, rtol=0)


def test_quantized_weights_are_stored_once(decoder):
    described = describe(decoder.bytes)
    assert described.weight_bytes["int8"] == LINEARS
    assert described.unshared_bytes == 2 * sum(described.weight_bytes.values())
    assert described.kernels == {}
    (model,) = {delegate.identifier for delegate in described.delegates}
    assert model.startswith("executorch_")
    first, second = decoder.pte().delegates
    assert first.program is second.program, "and loaded once"


def test_bytes_are_canonical(decoder):
    assert canonical_pte(decoder.bytes, "all") == decoder.bytes
    other = canonical_pte(decoder.bytes, "cpu_only")
    specs = [delegate.compile_specs["compute_units"] for delegate in describe(other).delegates]
    assert specs == ["cpu_only"] * 2


def test_values_of_every_method_have_their_torch_operators(decoder):
    labels = {}
    for delegate in decoder.pte().delegates:
        function = delegate.program.function(delegate.function)
        sources = torch_sources(delegate.debug_info, decoder.handles)
        labels[delegate.method] = {
            sources.get(output.name) for one in function.operations() for output in one.outputs
        }
    assert labels.keys() == {"prefill", "decode"}
    for found in labels.values():
        assert {"aten.linear.default @ head", "aten.linear.default @ out"} <= found


def test_the_report_measures_every_method_by_itself(decoder):
    arguments = decoder.model, decoder.reference, decoder.quantized, decoder.handles
    report = validate(decoder.path, "0", *arguments, symbols=decoder.symbols)
    assert "error" not in report
    assert report["metrics"]["sqnr_db"] > 20
    assert report["artifact"]["methods"] == ["decode", "prefill"]
    assert report["artifact"]["unshared_weight_bytes"] > sum(
        report["artifact"]["weight_bytes"].values()
    )
    assert [output["name"] for output in report["outputs"]] == ["logits"]
    by_name = {method["name"]: method for method in report["methods"]}
    assert [facts["shape"] for facts in by_name["decode"]["inputs"]][:2] == [[1, 1], [1, 1, 1, 17]]
    assert [facts["name"] for facts in by_name["prefill"]["outputs"]] == [
        "logits",
        "keys",
        "values",
    ]
    for method in by_name.values():
        assert method["stages"]["lowering"]["sqnr_db"] > 50
        assert 20 < method["metrics"]["sqnr_db"] < method["stages"]["lowering"]["sqnr_db"]


def test_layers_of_every_method_are_compared(decoder):
    found = diverge_all(decoder.pte(), decoder.float, decoder.handles, decoder.reference)
    layers = {(layer["method"], label) for layer in found["layers"] for label in layer["layer"]}
    for method in ("prefill", "decode"):
        assert (method, "aten.linear.default @ head") in layers
    only = diverge_all(
        decoder.pte(), decoder.float, decoder.handles, decoder.reference, method="decode"
    )
    assert {layer["method"] for layer in only["layers"]} == {"decode"}
    linear = next(la for la in only["layers"] if la["layer"][-1] == "aten.linear.default @ head")
    assert 15 < linear["introduced_sqnr_db"] < 60, "int8 rounding, and no more"


def test_inspect_prints_a_method_alone(decoder, capsys):
    assert main(["inspect", str(decoder.path), "--method", "decode"]) == 0
    printed = capsys.readouterr().out
    assert "int32[1, 1]" in printed
    assert "int32[1, 4]" not in printed
    assert re.search(r"weights +\S+ kB, and \S+ kB if methods shared none", printed)
    assert main(["inspect", str(decoder.path), "--method", "other"]) == 1
    assert "no method 'other'; the program has decode, prefill" in capsys.readouterr().err


def test_run_needs_a_method_where_there_is_a_choice(decoder, capsys, tmp_path):
    call = decoder.reference.calls[0]
    given = []
    for number, tensor in enumerate(call.inputs):
        np.save(tmp_path / f"{number}.npy", tensor.numpy())
        given += ["--input", str(tmp_path / f"{number}.npy")]
    assert main(["run", str(decoder.path), *given]) == 1
    assert "--function or --method: decode, prefill" in capsys.readouterr().err
    assert main(["run", str(decoder.path), *given, "--method", call.method, "--json"]) == 0
    shapes = [output["shape"] for output in json.loads(capsys.readouterr().out).values()]
    assert shapes == [list(output.shape) for output in call.outputs]


def test_older_systems_store_the_weights_of_every_method(speech):
    """A Core ML model with several functions needs iOS18."""
    described = describe(speech.bytes)
    assert described.specification_version == 7
    assert described.unshared_bytes is None
    pte = speech.pte()
    outputs = played(caller(pte), pte.reset, speech.reference, speech.model)
    torch.testing.assert_close(outputs, speech.reference.outputs, atol=2e-2, rtol=0)


def test_shared_weights_are_refused_on_older_systems():
    target = IOS16 | {"multimethod_weight_sharing_strategy": "positional"}
    with pytest.raises(ConfigError, match="needs iOS18 or macOS15; raise minimum_os, or write dis"):
        lower({"encode": None, "decode": None}, target)


def test_methods_with_other_numbers_of_delegates_cannot_share():
    """Upstream's words, and what is told of them."""
    words = "POSITIONAL weight sharing"
    assert words in inspect.getsource(CoreMLBackend.preprocess_multimethod)
    cause = cause_of("", f"ValueError: Method 'b' has 2 partitions, but 'a' has 1. {words} …")
    assert "multimethod_weight_sharing_strategy: disabled" in cause.fix
