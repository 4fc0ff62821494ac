"""The JSON Schema of the configuration, and the reference in config/README.md made from it."""

import json
import re
from typing import Any

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from pte_foundry.config.document import Document
from pte_foundry.config.sweep_options import classes, takes_one_value
from pte_foundry.config.translate import bare

_INTRODUCTION = """\
# The configuration

| file | what it builds |
|---|---|
| `config.yaml` | the default build: three models |
| `full.yaml` | all schemes, and SmolLM2; it extends `config.yaml` |
| `gallery.yaml` | a small model of each kind, to copy from |
| `llm.yaml` | SmolLM2 with its cache in every style, for `pte-foundry generate` |
| `large.yaml` | a language model of 1.24 billion parameters, for `make bench-large` |

`extends: default` lays a config over the default one, `extends: FILE` over another one. Mappings
are merged key by key; a list, such as `builds`, replaces the one below. A config with models,
recipes, targets and builds stands alone. One that lacks any of them extends the default config
without saying so; `extends: null` prevents that. `snakemake --configfile A B` lays B over A, and
`--config` sets single values.

Paths are relative to the file that gives them. A file in a folder `config` can also name paths from
the folder above, which is then the project in which models find modules, and every config those of
this clone.

All of it is checked before any work starts. All errors are reported at once, each with file, line,
key, value, the allowed values and the fix. To check without building:

    pte-foundry check FILE…

Editors that support JSON Schema check and complete the files as you type, with `schema.json`.

| section | contents |
|---|---|
| `models` | networks: Python files, snapshots, decoders, timm architectures or exported programs |
| `recipes` | compression: scheme and settings; nothing about devices |
| `targets` | deployment targets: OS version, precision, compute units |
| `builds` | which combinations to build |
| `gates` | thresholds that a validation must meet |
| `devices` | where to validate |
| `divergence` | whether the page includes per-layer error reports |

Names of models, data files, recipes, targets and devices are used as file names: letters, digits,
`.`, `_` and `-`.

This page is made by `pte-foundry config docs`; edit the models in `scripts/pte_foundry/config/`.

## Add a recipe

Add an entry under `recipes`, with the keys of [NoneRecipe](#nonerecipe), [Pt2eRecipe](#pt2erecipe)
or [QuantizeRecipe](#quantizerecipe), and its name to an entry of `builds`.

| scheme | compression | minimum OS |
|---|---|---|
| `none` | none | iOS16, macOS13, watchOS9, tvOS16 |
| `pt2e` | 8-bit weights and activations, or weight-only | iOS17, macOS14, watchOS10, tvOS17 |
| `quantize`, int8 per channel | weight-only | iOS16, macOS13, watchOS9, tvOS16 |
| `quantize`, int4 or per block | weight-only | iOS18, macOS15, watchOS11, tvOS18 |
| `quantize`, codebook | palettization (LUT) with 1 to 8 bits | iOS18, macOS15, watchOS11, tvOS18 |
| `quantize`, stored | the quantized weights of a GGUF file | iOS18, macOS15, watchOS11, tvOS18 |

`quantize` compresses linears and embeddings, `pt2e` convolutions and linears. The weights of
convolutions get 4 bits by a target with `op_linear_quantizer_config`, such as `ios18_weights4`.
Weights that do not fit an option, such as 10 rows in groups of 16, stay in floating point; the
report lists them. A recipe that compresses no weight of a model is refused.

Without gates of its own, a build has the default gates of its scheme, from
`scripts/pte_foundry/config/gates.py`.

### Sweeps

A list where an option of a recipe takes one value makes the recipe a sweep: one recipe for every
combination of the values. In `builds`, the name of the sweep means all of them, and each can be
named by itself:

    recipes:
      lut:
        scheme: quantize
        steps: [{codebook: {bits: [3, 4, 6], group_size: [16, 32]}}]
    builds:
      - {models: "*", recipes: [lut], targets: [ios18], exclude: [{recipe: lut_bits3_group_size32}]}

Their names are that of the sweep and a word for every list, in the order of the file: a number
follows its key (`lut_bits3_group_size16`), a word stands alone (`int8_min_max`). It follows its key
too if several lists have words, as true, false and null always do, and a key that several lists
have follows what they are in (`q_step1_bits4_step2_bits8`). A new value renames no other recipe, so
only what is new is built. A list of one value is a sweep of one.

Options that are lists by nature, such as `names` and `block_size`, are never swept. Gates in a
sweep apply to all of its recipes; those of a single one belong in an entry of `builds` that names
it.

## Add a target

Add an entry under `targets`, with the keys of [Target](#target), and its name to an entry of
`builds`.

## Add a model

`pte-foundry new NAME` writes what follows, also `--from hf:FOLDER` and others (see its `--help`).
By hand: add an entry under `models`, with the keys of [Model](#model), and its name to an entry of
`builds`. A model is defined by one of these:

| key | model | weights |
|---|---|---|
| `module` | a Python file, see below | a pinned file, `train: true`, or `random: SEED` |
| `hf` | a snapshot of a transformers model, local or on the Hub | its own, or `random: SEED` |
| `decoder` | a language model with a cache: a snapshot or GGUF file | its own, or `random: SEED` |
| `timm` | an architecture of timm | a pinned file, or `random: SEED` |
| `program` | an exported program (`torch.export.save`) | its own |

The functions of a Python file are documented in `scripts/pte_foundry/models/module.py`. The others
need none; `timm` must be installed: `make environment EXTRA=FILE`, with `timm` in FILE.

    models:
      vit:
        hf: {repo: google/vit-base-patch16-224, revision: COMMIT}
        data: {images: {folder: samples}}
      untrained: {timm: efficientnet_b0, weights: {random: 0}}
      sentences: {hf: {folder: all-MiniLM-L6-v2}, data: {text: {file: text.txt, sha256: …}}}

Every second image or line of the data is for calibration, the others are for validation. A model
without samples, a `module` without `calibration()` or `evaluation()` included, gets seeded ones
around its example inputs; the table, the page and the reports name them as synthetic.
"""

_WORDS = {"boolean": "`true`, `false`", "null": "`null`"}


class _Generator(GenerateJsonSchema):
    """Generates what an editor needs: no titles that repeat keys, and short defaults."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def encode_default(self, dft: Any) -> Any:
        # round_trip leaves out what a file may not contain.
        return TypeAdapter(Any).dump_python(
            dft, mode="json", exclude_defaults=True, round_trip=True
        )

    def dict_schema(self, schema: Any) -> JsonSchemaValue:
        # pydantic's patternProperties would allow any value under a key of another form.
        made = super().dict_schema(schema)
        for pattern, values in made.pop("patternProperties", {}).items():
            names = made.get("propertyNames", {}) | {"pattern": pattern}
            made |= {"additionalProperties": values, "propertyNames": names}
        return made


def schema(sweeps: bool = True) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a complete configuration.

    Args:
        sweeps: whether options of recipes may be lists of values, as they may.
    """
    made = Document.model_json_schema(schema_generator=_Generator)
    for definition in made["$defs"].values():
        definition.pop("title", None)
    for name, kind in classes().items() if sweeps else ():
        for key, field in kind.model_fields.items():
            if takes_one_value(bare(field.annotation)):
                value = made["$defs"][name]["properties"][key]
                kept = {
                    word: value.pop(word) for word in ("default", "description") if word in value
                }
                several = {"type": "array", "items": value, "minItems": 1, "uniqueItems": True}
                made["$defs"][name]["properties"][key] = {"anyOf": [value, several], **kept}
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return head | made | {"title": "pte-foundry"}


def schema_text() -> str:
    """Return the content of config/schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def docs_text() -> str:
    """Return the content of config/README.md."""
    whole = schema(sweeps=False)
    parts = [_INTRODUCTION, _table("The whole file", whole)]
    parts += [_table(name, whole["$defs"][name]) for name in _in_reading_order(whole)]
    return "\n".join(parts)


def _in_reading_order(whole: dict[str, Any]) -> list[str]:
    """Order the definitions as the file refers to them, from its top."""
    order: list[str] = []

    def visit(node: Any) -> None:
        for name in re.findall(r'"#/\$defs/(\w+)"', json.dumps(node)):
            if name not in order and "properties" in whole["$defs"][name]:
                order.append(name)
                visit(whole["$defs"][name])

    visit(whole["properties"])
    return order


def _table(title: str, definition: dict[str, Any]) -> str:
    required = definition.get("required", [])
    lines = [f"## {title}", "", definition.get("description", ""), ""]
    lines += ["| key | values | default | meaning |", "|---|---|---|---|"]
    for key, value in definition["properties"].items():
        alone = key in required or "default" not in value
        default = "(required)" if alone else _default(value)
        values, meaning = _values(value), value.get("description", "")
        lines.append(f"| `{key}` | {values} | {default} | {meaning} |".replace(" | | ", " |  | "))
    return "\n".join([*lines, ""])


def _default(node: dict[str, Any]) -> str:
    """Describe a default. That of a class is empty in the schema: all of its keys have theirs."""
    whole = any("$ref" in option for option in [node, *node.get("anyOf", ())])
    if node["default"] == {} and whole:
        return "its defaults"
    return f"`{_json(node['default'])}`"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _values(node: dict[str, Any]) -> str:
    """Describe in a few words what a value may be."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return "any JSON value" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "enum" in node or "const" in node:
        values = node.get("enum", [node.get("const")])
        return ", ".join(
            f"`{value if isinstance(value, str) else _json(value)}`" for value in values
        )
    for key in ("anyOf", "oneOf"):
        if key in node:
            return " or ".join(dict.fromkeys(_values(option) for option in node[key]))
    if node.get("type") == "array":
        return f"list of {_values(node['items'])}"
    if node.get("type") == "object":
        inner = node.get("additionalProperties")
        return f"name: {_values(inner)}" if isinstance(inner, dict) else "mapping"
    kind = node.get("type", "any JSON value")
    return _WORDS.get(kind, kind)
