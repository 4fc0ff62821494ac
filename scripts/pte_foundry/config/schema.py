"""The JSON Schema of the configuration, and the reference in config/README.md made from it."""

import json
import re
from typing import Any

from pte_foundry.config.document import LONGEST_NAME, METRIC_PATTERN, NAME_PATTERN, Document

_WORDS = {
    "string": "text",
    "integer": "whole number",
    "boolean": "`true`, `false`",
    "null": "`null`",
}
_NAMED = ("models", "recipes", "targets", "devices")

_INTRODUCTION = """\
# The configuration

`config.yaml` is the default build; `full.yaml` adds to it. Snakemake lays config files over one
another: `snakemake --configfile config/full.yaml` reads `config.yaml` first, then merges
`full.yaml` into it, mapping by mapping, and a list (such as `builds`) replaces the former one.
Single values can be set with `--config`.

Everything is checked before any work starts, and all errors are reported at once, with file,
line, key, value, what is allowed, and the fix. To check without building:

    python -m pte_foundry.config check config/config.yaml config/full.yaml

Editors that know JSON Schema check and complete the files as you type, with `schema.json`.

| section | what it holds |
|---|---|
| `models` | the networks: a Python file each, with pinned weights and data |
| `recipes` | the ways to compress them; nothing about devices |
| `targets` | the places they shall run: system, precision, processors |
| `builds` | which combinations to build |
| `gates` | what a validation must reach |
| `devices` | where to validate |
| `divergence` | whether the page tells in which layers the error arises |

Which scheme needs which system:

| scheme | oldest system |
|---|---|
| none; `quantize` with int8 and a scale per row | iOS16, macOS13, watchOS9, tvOS16 |
| `pt2e` | iOS17, macOS14, watchOS10, tvOS17 |
| `quantize` with int4, with groups, or with a codebook | iOS18, macOS15, watchOS11, tvOS18 |

Names of models, recipes and targets become file names: letters, digits, `.`, `_` and `-`.
Modules named in `module_name_configs` cover what is inside them; the longest name wins.
Gates that the config does not set come from the scheme: see `scripts/pte_foundry/config/defaults.py`.

This page is made by `python -m pte_foundry.config docs`; edit the models in `scripts/config/` instead.
"""


def schema() -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a complete configuration."""
    made = _without_titles(Document.model_json_schema())
    for section in _NAMED:
        names = {"pattern": NAME_PATTERN, "maxLength": LONGEST_NAME}
        made["properties"][section] |= {"propertyNames": names}
    for holder in [made, *made["$defs"].values()]:
        if "gates" in holder.get("properties", {}):
            holder["properties"]["gates"]["propertyNames"] = {"pattern": METRIC_PATTERN}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "pte-foundry",
    } | made


def _without_titles(node: Any) -> Any:
    """Drop the titles that pydantic derives from the keys: they only repeat them."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: _without_titles(value)
        for key, value in node.items()
        if not (key == "title" and isinstance(value, str))
    }


def schema_text() -> str:
    """Return the content of config/schema.json."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


def docs_text() -> str:
    """Return the content of config/README.md."""
    whole = schema()
    parts = [_INTRODUCTION, _table("The whole file", whole)]
    parts += [_table(name, whole["$defs"][name]) for name in _in_reading_order(whole)]
    return "\n".join(parts)


def _in_reading_order(whole: dict[str, Any]) -> list[str]:
    """Order the definitions as a reader meets them from the top of the file."""
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
        default = "(required)" if key in required else f"`{json.dumps(value.get('default', {}))}`"
        values, meaning = _values(value), value.get("description", "")
        lines.append(f"| `{key}` | {values} | {default} | {meaning} |".replace(" | | ", " |  | "))
    return "\n".join([*lines, ""])


def _values(node: dict[str, Any]) -> str:
    """Describe in a few words what a value may be."""
    if "$ref" in node:
        name = node["$ref"].rpartition("/")[2]
        return "any JSON" if name == "JsonValue" else f"[{name}](#{name.lower()})"
    if "enum" in node or "const" in node:
        return ", ".join(
            f"`{json.dumps(v).strip(chr(34))}`" for v in node.get("enum", [node.get("const")])
        )
    for key in ("anyOf", "oneOf"):
        if key in node:
            return " or ".join(dict.fromkeys(_values(option) for option in node[key]))
    if node.get("type") == "array":
        return f"list of {_values(node['items'])}"
    if node.get("type") == "object":
        inner = node.get("additionalProperties")
        return f"name: {_values(inner)}" if isinstance(inner, dict) else "mapping"
    words = {
        "string": "text",
        "integer": "whole number",
        "boolean": "`true`, `false`",
        "null": "`null`",
    }
    return words.get(node.get("type", ""), node.get("type", "any"))
