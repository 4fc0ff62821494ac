"""Checks files that are asked for by path, as the entries of ``builds`` are checked.

Snakemake itself only finds that no rule makes such a file, or plans what cannot work.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping

from pte_foundry.config.check_builds import too_old
from pte_foundry.config.config import Config
from pte_foundry.errors import ConfigError
from pte_foundry.findings import did_you_mean, listed
from pte_foundry.place import Folder
from pte_foundry.upstream.snakemake_storage import Storage
from pte_foundry.workflow.jobs import Jobs

FLOAT = "_float"
"""The exported program among those of recipes, none of which can be called so."""

# What to do about a name without a similar one, for what the config does not define.
_OTHERWISE = {"key": "choose one of these", "program": "define it in the config as recipe"}

_WILDCARD = re.compile(r"\{(\w+)[^{}]*\}")


def check_requested(
    jobs: Jobs,
    paths: Iterable[str],
    products: Mapping[str, Collection[str]],
    place: Folder | Storage,
) -> None:
    """Refuses files that the configuration cannot give.

    Args:
        jobs: the jobs of the configuration.
        paths: what is asked for, relative to the current folder or absolute; other files and names
            of rules are ignored.
        products: rule name to the patterns of its output files, as in a rule.
        place: where the results are.

    Raises:
        ConfigError: with every finding.
    """
    patterns = [
        (rule, re.compile(_relaxed(pattern))) for rule, some in products.items() for pattern in some
    ]
    findings: dict[str, list[str]] = {}
    models: set[str] = set()
    pairs: dict[tuple[str, str], None] = {}
    for path in sorted(paths):
        for rule, pattern in patterns:
            if match := pattern.fullmatch(place.asked(path)):
                names = match.groupdict()
                if problems := list(_problems(jobs, rule, names)):
                    findings[path] = problems
                elif "model" in names:
                    models.add(names["model"])
                if {"model", "recipe"} <= names.keys():
                    pairs[names["model"], names["recipe"]] = None
                break
    if findings:
        count = "1 file" if len(findings) == 1 else f"{len(findings)} files"
        texts = ["\n".join([path, *problems]) for path, problems in findings.items()]
        raise ConfigError("\n".join([f"Cannot make {count} asked for by path:", *texts]))
    jobs.config.check_models(models)
    models = dict.fromkeys(model for model, _ in pairs)
    known = jobs.known_modules(place.target("results"), models)
    jobs.config.check_structure(known, pairs)


def matching(names: Iterable[str], pattern: str) -> dict[str, dict[str, str]]:
    """Returns the files that match the pattern of a rule's output, with their wildcards."""
    expression = re.compile(_relaxed(pattern))
    found = {name: expression.fullmatch(name) for name in sorted(names)}
    return {name: match.groupdict() for name, match in found.items() if match}


def _relaxed(pattern: str) -> str:
    """Returns the expression of a pattern whose wildcards match any name."""
    *parts, last = re.split(r"(\{\w+[^{}]*\})", pattern)
    names = [_WILDCARD.fullmatch(part) for part in parts]
    return "".join(
        f"(?P<{name[1]}>[^/]+)" if name else re.escape(part)
        for part, name in zip(parts, names, strict=True)
    ) + re.escape(last)


def _problems(jobs: Jobs, rule: str, names: Mapping[str, str]) -> Iterator[str]:
    config = jobs.config
    unknown = False
    for kind, name in names.items():
        # Which keys and data there are depends on the other names.
        skipped = unknown and kind in ("key", "name")
        known = None if skipped else _known(jobs, rule, kind, names)
        if known is not None and name not in known:
            unknown = True
            yield _finding(
                f"there is no {kind} {name}",
                listed(sorted(known)),
                did_you_mean(
                    name, known, _OTHERWISE.get(kind, f"define it in the config as {kind}")
                ),
            )
    if unknown:
        return
    recipe, target = names.get("recipe"), names.get("target")
    if rule == "lower":
        target = jobs.target_of(names["key"])
    if recipe and target:
        found = too_old(recipe, config.recipes[recipe], target, config.targets[target])
        if found:
            problem, allowed, fix = found
            yield _finding(problem, allowed, f"{fix}, or ask for another target")
            return
    if rule == "validate" and (names["model"], recipe, target) not in config.by_names:
        build = f"{{models: [{names['model']}], recipes: [{recipe}], targets: [{target}]}}"
        yield _finding(
            "it is not among the builds, so it has no gates to be validated by",
            "a combination of `builds`",
            f"add {build} to `builds`",
        )


def _known(jobs: Jobs, rule: str, kind: str, names: Mapping[str, str]) -> Collection[str] | None:
    """The names that a wildcard can have; None if any."""
    config: Config = jobs.config
    match rule, kind:
        case _, "model":
            return config.models
        case _, "recipe":
            return config.recipes
        case _, "target":
            return config.targets
        case _, "device":
            return config.devices
        case _, "program":
            return [FLOAT, *config.recipes]
        case "fetch", "name":
            return ["weights", *config.models[names["model"]].data]
        case "calibrate", "key":
            return jobs.activations(names["model"])
        case "edge", "key":
            return jobs.edges
        case "lower", "key":
            return jobs.lowered
    return None


def _finding(problem: str, allowed: str, fix: str) -> str:
    return f"    problem: {problem}\n    allowed: {allowed}\n    fix:     {fix}"
