"""The schema, the reference and our copy of upstream's options: all must agree."""

import dataclasses
import inspect
import subprocess
import sys
from pathlib import Path

import jsonschema
import pytest
from pte_foundry.config import yamlfiles
from pte_foundry.config.config import load
from pte_foundry.config.recipes.pt2e import LinearQuantizer, Pt2eRecipe
from pte_foundry.config.recipes.torchao_configs import Affine, Codebook, PerAxis
from pte_foundry.config.schema import docs_text, schema, schema_text
from pte_foundry.config.systems import SPECIFICATION_VERSIONS
from pte_foundry.config.targets import LinearQuantizerSpec, Partitioner, Target

ROOT = Path(__file__).resolve().parents[3]
DEFAULT = ["config/config.yaml"]
FULL = [*DEFAULT, "config/full.yaml"]
GALLERY = ["config/gallery.yaml"]
LARGE = ["config/large.yaml"]


def test_schema_file_is_current():
    assert (ROOT / "config/schema.json").read_text() == schema_text(), (
        "run: pte-foundry config schema > config/schema.json"
    )


def test_reference_is_current():
    assert (ROOT / "config/README.md").read_text() == docs_text(), (
        "run: pte-foundry config docs > config/README.md"
    )


def test_every_key_is_explained():
    for name, definition in schema()["$defs"].items():
        for key, value in definition.get("properties", {}).items():
            assert value.get("description"), f"{name}.{key}"


def test_commands_write_the_files():
    made = subprocess.run(
        [sys.executable, "-m", "pte_foundry.cli", "config", "docs"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    assert made.stdout.decode() == docs_text()


@pytest.mark.parametrize("files", [DEFAULT, FULL, GALLERY, LARGE])
def test_our_configurations_pass_both_checks(files):
    """What the pydantic models accept, an editor with the JSON Schema must accept as well."""
    config = load(files, ROOT)
    assert config.builds
    data = yamlfiles.merged(yamlfiles.read(Path(file), ROOT).data for file in files)
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(data, schema())


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("recipes", "fp16", "scheme"), "none2"),
        (("recipes", "int8_static", "global_config", "weight_dtype"), "qint4"),
        (("recipes", "int8_static", "calibration_samples"), 0),
        (("targets", "ios18", "minimum_os"), "iOS15"),
        (("targets", "ios18", "unknown"), 1),
        (("models", "minilm", "weights", "sha256"), "ABC"),
        (("recipes", "a/b"), {"scheme": "none"}),
        (("builds",), []),
        (("devices",), {}),
        (("models", "minilm", "data", "a b"), {"file": "a", "sha256": "0" * 64}),
        (("gates", "a b"), {"min": 1}),
    ],
)
def test_what_is_refused_the_schema_refuses_too(path, value):
    data = yamlfiles.read(Path(DEFAULT[0]), ROOT).data
    node = data
    for key in path[:-1]:
        node = node.setdefault(key, {})
    node[path[-1]] = value
    assert not jsonschema.Draft202012Validator(schema()).is_valid(data)


def test_the_full_configuration_holds_every_scheme():
    """Issue: each row of the table of schemes is a recipe of the full configuration, and built."""
    wanted = {"fp32", "fp16", "int8_static", "int8_weight_only", "int8_mixed", "int8_per_axis"}
    wanted |= {"int4_group32", "int4_per_axis", "lut3_group16", *(f"lut{n}" for n in range(1, 9))}
    config = load(FULL, ROOT)
    builds = config.builds
    assert wanted <= {build.recipe for build in builds}
    assert {build.model for build in builds} == {"digits_cnn", "mobilenet_v2", "minilm", "smollm2"}
    systems = {config.targets[build.target].specification_version for build in builds}
    assert systems == {7, 8, 9, 10}


def test_the_full_configuration_holds_the_default_one():
    """So that going from one to the other rebuilds nothing that is there."""

    def names(files):
        return {(b.model, b.recipe, b.target) for b in load(files, ROOT).builds}

    assert names(DEFAULT) <= names(FULL)


def test_systems_are_upstreams():
    from coremltools.converters.mil._deployment_compatibility import AvailableTarget

    members = AvailableTarget.__members__
    assert {name: member.value for name, member in members.items()} == SPECIFICATION_VERSIONS


def test_linear_quantizer_has_upstreams_keys_and_defaults():
    from coremltools.optimize.torch.quantization import (
        LinearQuantizerConfig,
        ModuleLinearQuantizerConfig,
    )

    upstream = ModuleLinearQuantizerConfig.from_dict({})
    fields = {field.name for field in upstream.__attrs_attrs__ if field.init}
    assert fields == set(LinearQuantizer.model_fields)
    assert ModuleLinearQuantizerConfig.from_dict(LinearQuantizer().model_dump()) == upstream
    keys = {field.name for field in LinearQuantizerConfig.__attrs_attrs__}
    assert keys == set(Pt2eRecipe.model_fields) - {
        "scheme",
        "calibration_samples",
        "gates",
        "optional",
    }


def test_steps_have_upstreams_keys_and_defaults():
    from torchao.prototype.quantization.codebook_coreml import CodebookWeightOnlyConfig
    from torchao.quantization import IntxWeightOnlyConfig

    upstream = {field.name: field.default for field in dataclasses.fields(IntxWeightOnlyConfig)}
    assert set(upstream) == set(Affine.model_fields) - set(Affine.SHORT)
    ours = Affine()
    assert str(upstream["weight_dtype"]) == f"torch.{ours.weight_dtype}"
    assert upstream["granularity"].axis == ours.granularity.axis
    assert ours.granularity == PerAxis(axis=0)
    assert upstream["mapping_type"].name.lower() == ours.mapping_type
    for key in ("scale_dtype", "intx_packing_format", "intx_choose_qparams_algorithm", "version"):
        assert upstream[key] == getattr(ours, key)
    codebook = {field.name for field in dataclasses.fields(CodebookWeightOnlyConfig)}
    assert codebook == set(Codebook.model_fields) - set(Codebook.SHORT)


def test_targets_have_upstreams_keys_and_defaults():
    import coremltools.optimize as cto
    from executorch.backends.apple.coreml.compiler.coreml_preprocess import COMPILE_SPEC_KEYS
    from executorch.backends.apple.coreml.partition import CoreMLPartitioner

    ours = set(Target.model_fields) - {"partitioner"}
    renamed = {
        "minimum_os": "min_deployment_target",
        "compute_precision": "model_compute_precision",
        "shapes": "enumerated_shapes",  # which belong to the model
    }
    specs = {spec.value for spec in COMPILE_SPEC_KEYS}
    assert {renamed.get(key, key) for key in ours} == specs
    arguments = inspect.signature(CoreMLPartitioner.__init__).parameters
    assert set(Partitioner.model_fields) == set(arguments) - {"self", "compile_specs"}
    for key in ("lower_full_graph", "take_over_constant_data"):
        assert arguments[key].default == Partitioner.model_fields[key].default
    made = cto.coreml.OpLinearQuantizerConfig._from_dict(LinearQuantizerSpec().model_dump())
    assert made == cto.coreml.OpLinearQuantizerConfig()
