"""Validation of a whole configuration at once; a wrong entry hides no finding about another."""

from dataclasses import dataclass
from typing import Any, get_origin

from pydantic import ValidationError, create_model

from pte_foundry.config.base import Strict
from pte_foundry.config.document import BuildMatrix, Document
from pte_foundry.config.models import origin_findings
from pte_foundry.config.recipes.base import dynamic_requests
from pte_foundry.config.sweeps import Sweeps, expand
from pte_foundry.config.translate import findings_of
from pte_foundry.findings import Finding

# A document whose sections may be empty: what remains of one without its wrong entries.
_Remainder = create_model(
    "_Remainder",
    __base__=Strict,
    **{
        section: (
            info.annotation,
            get_origin(info.annotation)() if info.is_required() else info.default,
        )
        for section, info in Document.model_fields.items()
    },
)


@dataclass
class Parsed:
    """What is usable of a configuration, and what is wrong with the rest.

    Attributes:
        document: the sections, with the entries that are valid by themselves.
        builds: the valid entries of ``builds``, by their index in the config.
        declared: the names of all entries of the other sections, valid or not.
        sweeps: what the recipes were made from.
        findings: every error.
    """

    document: Document
    builds: dict[int, BuildMatrix]
    declared: dict[str, list[str]]
    sweeps: Sweeps
    findings: list[Finding]

    def known(self, section: str) -> list[str]:
        """Return the names that a build can have: of entries, and of sweeps."""
        return [*self.declared[section], *(self.sweeps.by_name if section == "recipes" else ())]


def parse(data: Any) -> Parsed:
    """Validate a configuration, except for what depends on several of its entries."""
    sweeps = expand(data)
    data = sweeps.data
    sections = _mapping(data)
    builds = range(len(entries)) if isinstance(entries := sections.get("builds"), list) else ()
    findings = [
        finding
        for name, model in _mapping(sections.get("models")).items()
        for finding in origin_findings(model, ("models", str(name)))
    ]
    wrong: set[tuple] = {finding.path[:2] for finding in findings}
    try:
        document = Document.model_validate(data)
    except ValidationError as error:
        findings += findings_of(error, Document)
        wrong |= {details["loc"][:2] for details in error.errors(include_url=False)}
    if wrong:
        builds = [at for at in builds if ("builds", at) not in wrong]
        try:
            document = _Remainder.model_validate(_without(sections, wrong))
        except ValidationError:  # a key with a lone surrogate, which `loc` cannot express
            document = _Remainder()
    dynamic = [
        finding
        for name, recipe in _mapping(sections.get("recipes")).items()
        for finding in dynamic_requests(recipe, ("recipes", str(name)))
    ]
    known = {finding.path for finding in dynamic}
    findings = [*dynamic, *(finding for finding in findings if finding.path not in known)]
    findings += sweeps.findings
    declared = {
        section: [name for name in _mapping(sections.get(section)) if isinstance(name, str)]
        for section in ("models", "recipes", "targets", "devices")
    }
    valid = dict(zip(builds, document.builds, strict=False))
    return Parsed(document, valid, declared, sweeps, findings)


def _mapping(value: Any) -> dict[Any, Any]:
    return value if isinstance(value, dict) else {}


def _without(sections: dict[Any, Any], wrong: set[tuple]) -> dict[str, Any]:
    remainder: dict[str, Any] = {}
    for section in Document.model_fields.keys() & sections.keys():
        value = sections[section]
        if isinstance(value, dict):
            keys = [k for k in value if isinstance(k, str) and (section, k) not in wrong]
            value = {key: value[key] for key in keys}
        elif isinstance(value, list):
            value = [item for at, item in enumerate(value) if (section, at) not in wrong]
        if (section,) not in wrong:
            remainder[section] = value
    return remainder
