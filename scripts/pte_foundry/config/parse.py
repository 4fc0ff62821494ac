"""From plain data to the models, entry by entry, so that one wrong entry hides no other."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from pydantic import TypeAdapter, ValidationError

from pte_foundry.config.document import (
    LONGEST_NAME,
    METRIC_PATTERN,
    NAME_PATTERN,
    BuildMatrix,
    Document,
    Interpreter,
)
from pte_foundry.config.gates import Gate
from pte_foundry.config.models import Model
from pte_foundry.config.recipes import SCHEMES, NoneRecipe, Pt2eRecipe, QuantizeRecipe
from pte_foundry.config.targets import Target
from pte_foundry.config.translate import findings_of
from pte_foundry.findings import Finding, did_you_mean, listed

NAMES = "letters, digits, `.`, `_` and `-`, starting with a letter or a digit"
RecipeModel = NoneRecipe | Pt2eRecipe | QuantizeRecipe

_DYNAMIC_FIX = (
    "use PT2E static quantization (`scheme: pt2e`, activation_dtype quint8: the default config's "
    "int8_static), or quantize the weights only"
)


@dataclass
class Parsed:
    """Every entry that is well-formed by itself, and the names of all that were tried."""

    models: dict[str, Model] = field(default_factory=dict)
    recipes: dict[str, RecipeModel] = field(default_factory=dict)
    targets: dict[str, Target] = field(default_factory=dict)
    builds: dict[int, BuildMatrix] = field(default_factory=dict)
    gates: dict[str, Gate | None] = field(default_factory=dict)
    devices: dict[str, Interpreter] = field(default_factory=dict)
    divergence: bool = False
    declared: dict[str, list[str]] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)


def parse(data: Any) -> Parsed:
    """Parse a whole configuration; what is wrong is in ``findings``, the rest is usable."""
    parsed = Parsed()
    if not isinstance(data, dict):
        fix = "start with `models:`"
        parsed.findings.append(Finding((), "no mapping", "a mapping of sections", fix, data))
        return parsed
    known = list(Document.model_fields)
    for key, value in data.items():
        if key not in known:
            fix = did_you_mean(key, known, "remove it")
            finding = Finding((str(key),), "unknown key", listed(known), fix, value)
            parsed.findings.append(finding)
    for section, kind in (("models", Model), ("targets", Target), ("devices", Interpreter)):
        for name, value in _named_entries(parsed, section, data):
            _validate(parsed, (section, name), kind, value)
    if "devices" not in data:
        parsed.devices = {"host": Interpreter(kind="interpreter")}
    for name, value in _named_entries(parsed, "recipes", data):
        _recipe(parsed, name, value)
    for metric, value in _mapping(parsed, "gates", data).items():
        _validate(parsed, ("gates", metric), Gate | None, value)
    for index, value in enumerate(_build_list(parsed, data)):
        _validate(parsed, ("builds", index), BuildMatrix, value)
    parsed.divergence = _flag(parsed, "divergence", data)
    parsed.findings.extend(_metric_names(parsed))
    return parsed


def _flag(parsed: Parsed, section: str, data: dict[str, Any]) -> bool:
    value = data.get(section, False)
    if not isinstance(value, bool):
        fix = f"write `{section}: true` or leave it out"
        parsed.findings.append(Finding((section,), "neither yes nor no", "true, false", fix, value))
    return value is True


def _mapping(parsed: Parsed, section: str, data: dict[str, Any]) -> dict[Any, Any]:
    value = data.get(section, {})
    if isinstance(value, dict):
        return value
    fix = f"write `{section}: {{}}` or leave it out" if value is None else "write names with colons"
    parsed.findings.append(Finding((section,), "no mapping", "name: entry", fix, value))
    return {}


def _build_list(parsed: Parsed, data: dict[str, Any]) -> list[Any]:
    builds = data.get("builds")
    if isinstance(builds, list) and builds:
        return builds
    allowed = "a list of at least one {models, recipes, targets}"
    fix = 'say what to build, e.g. `builds: [{models: "*", recipes: "*", targets: "*"}]`'
    parsed.findings.append(Finding(("builds",), "there is nothing to build", allowed, fix, builds))
    return []


def _named_entries(parsed: Parsed, section: str, data: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield the entries of a section whose names may become file names; report the others."""
    entries = _mapping(parsed, section, data)
    if section != "devices" and not entries and data.get(section) in (None, {}):
        fix = f"define at least one under `{section}:`"
        finding = Finding((section,), "there are none", "at least one entry", fix)
        parsed.findings = [f for f in parsed.findings if f.path != (section,)] + [finding]
    by_lower_case: dict[str, str] = {}
    parsed.declared[section] = [name for name in entries if isinstance(name, str)]
    for name, value in entries.items():
        if not isinstance(name, str):
            fix = f'quote it: "{name}"'
            finding = Finding((section, str(name)), "the name is not text", NAMES, fix, name)
            parsed.findings.append(finding)
            continue
        if not re.fullmatch(NAME_PATTERN, name) or len(name) > LONGEST_NAME:
            problem = "the name becomes a file name in the results folder, and cannot be one"
            allowed = f"{NAMES}; at most {LONGEST_NAME} characters"
            better = re.sub(r"[^A-Za-z0-9._-]+|^[._-]+", "_", name).strip("_")[:LONGEST_NAME]
            fix = f"rename it, e.g. to {better}" if better else "rename it"
            parsed.findings.append(Finding((section, name), problem, allowed, fix, name))
        elif other := by_lower_case.get(name.lower()):
            problem = f"differs from {other} only in case: one file on a Mac"
            fix = "rename one of the two"
            finding = Finding((section, name), problem, "names that differ in letters", fix, name)
            parsed.findings.append(finding)
        by_lower_case.setdefault(name.lower(), name)
        yield name, value


def _recipe(parsed: Parsed, name: str, value: Any) -> None:
    if not isinstance(value, dict):
        _validate(parsed, ("recipes", name), NoneRecipe, value)
        return
    dynamic = list(_dynamic(value, ("recipes", name)))
    parsed.findings.extend(dynamic)
    scheme = value.get("scheme")
    if isinstance(scheme, str) and scheme in SCHEMES:
        wrong = {finding.path for finding in dynamic}
        _validate(parsed, ("recipes", name), SCHEMES[scheme], value, ignore=wrong)
    elif not any(finding.path[2:] == ("scheme",) for finding in dynamic):
        problem = "no such scheme" if "scheme" in value else "the required key is missing"
        otherwise = "none: as it is; pt2e: 8-bit; quantize: 4 or 8 bits or look-up tables"
        fix = did_you_mean(scheme, SCHEMES, otherwise) if scheme else otherwise
        path = ("recipes", name, "scheme")
        extra = {"value": scheme} if "scheme" in value else {}
        parsed.findings.append(Finding(path, problem, listed(SCHEMES), fix, **extra))


def _dynamic(value: Any, path: tuple) -> Iterator[Finding]:
    """Find every request for dynamic activation quantization, under whatever key it is made."""
    problem = "Core ML has no dynamic quantization of activations"
    allowed = "static quantization, or weights only"
    for key, inner in value.items():
        asks = isinstance(key, str) and "dynamic" in key.lower() and inner not in (False, None)
        if asks or (isinstance(inner, str) and "dynamic" in inner.lower()):
            yield Finding((*path, key), problem, allowed, _DYNAMIC_FIX, inner)
        elif isinstance(inner, dict) and key != "modules":
            yield from _dynamic(inner, (*path, key))
        elif isinstance(inner, list):
            for index, item in enumerate(inner):
                if isinstance(item, dict):
                    yield from _dynamic(item, (*path, key, index))


def _validate(
    parsed: Parsed, path: tuple, kind: Any, value: Any, ignore: set[tuple] = frozenset()
) -> None:
    """Parse one entry into its section, or report what is wrong with it."""
    section, name = path
    try:
        getattr(parsed, section)[name] = TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        found = findings_of(error, path, kind if isinstance(kind, type) else Gate)
        parsed.findings.extend(finding for finding in found if finding.path not in ignore)


def _metric_names(parsed: Parsed) -> Iterator[Finding]:
    owners: list[tuple[tuple, Any]] = [(("gates",), parsed.gates)]
    owners += [(("recipes", name, "gates"), entry.gates) for name, entry in parsed.recipes.items()]
    owners += [(("builds", at, "gates"), entry.gates) for at, entry in parsed.builds.items()]
    for path, gates in owners:
        for metric, gate in gates.items():
            if not re.fullmatch(METRIC_PATTERN, metric):
                fix = "use the metric's name in the validation report, e.g. sqnr_db"
                yield Finding((*path, metric), "no metric's name", "letters, digits, `_`", fix)
            if gate is None:
                continue
            if gate.min is None and gate.max is None:
                fix = "add min or max, or write null to remove the gate"
                yield Finding((*path, metric), "the gate has no limit", "min, max or both", fix)
            elif gate.min is not None and gate.max is not None and gate.min > gate.max:
                value = {"min": gate.min, "max": gate.max}
                fix = "swap the two"
                yield Finding((*path, metric), "nothing can pass", "min ≤ max", fix, value)
