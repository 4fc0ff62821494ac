"""Checks of the builds: names, duplicates, and recipes against minimum OS versions."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

from pte_foundry.config.document import BuildMatrix, Exclude
from pte_foundry.config.parse import Parsed
from pte_foundry.config.recipes.base import BaseRecipe
from pte_foundry.config.systems import family, named, oldest
from pte_foundry.config.targets import Target
from pte_foundry.findings import Finding, did_you_mean, listed

_AXES = (("models", "model"), ("recipes", "recipe"), ("targets", "target"))


@dataclass(frozen=True)
class Combination:
    """One build of an entry of ``builds``, and the key path of the target's name there."""

    model: str
    recipe: str
    target: str
    entry: int
    path: tuple


def combinations(parsed: Parsed, index: int, entry: BuildMatrix) -> list[Combination]:
    """Return the builds of one entry, less its exclusions, whether or not the names exist."""
    wanted = {axis: getattr(entry, axis) for axis, _ in _AXES}
    names = [parsed.declared[axis] if given == "*" else given for axis, given in wanted.items()]
    if entry.recipes != "*":
        names[1] = [recipe for name in entry.recipes for recipe in parsed.sweeps.recipes(name)]
    found = []
    for model, recipe, (at, target) in product(names[0], names[1], enumerate(names[2])):
        path = ("builds", index, "targets") + (() if entry.targets == "*" else (at,))
        found.append(Combination(model, recipe, target, index, path))
    return [one for one in found if not any(_matches(parsed, rule, one) for rule in entry.exclude)]


def every_combination(parsed: Parsed) -> Iterator[Combination]:
    """Yield the builds of all entries, as ``combinations`` returns those of one."""
    for index, entry in parsed.builds.items():
        yield from combinations(parsed, index, entry)


def _matches(parsed: Parsed, rule: Exclude, one: Combination) -> bool:
    recipe = rule.recipe is None or one.recipe in parsed.sweeps.recipes(rule.recipe)
    return recipe and rule.model in (None, one.model) and rule.target in (None, one.target)


def check_builds(parsed: Parsed) -> Iterator[Finding]:
    """Check names, empty matrices, duplicates, and every recipe against its targets."""
    every: list[Combination] = []
    for index, entry in parsed.builds.items():
        yield from _check_names(parsed, index, entry)
        found = combinations(parsed, index, entry)
        every += found
        too_wide = Exclude() in entry.exclude
        if not found and not too_wide and all(parsed.declared[axis] for axis, _ in _AXES):
            problem, fix = "the exclusions leave nothing to build", "remove some of them"
            yield Finding(("builds", index), problem, "at least one build", fix)
    yield from _check_duplicates(parsed, every)
    yield from _check_systems(parsed, every)


def _check_names(parsed: Parsed, index: int, entry: BuildMatrix) -> Iterator[Finding]:
    for axis, key in _AXES:
        known = parsed.known(axis)
        wanted = getattr(entry, axis)
        for at, name in enumerate([] if wanted == "*" else wanted):
            if name not in known:
                fix = did_you_mean(name, known, f"define it under `{axis}:`")
                path = ("builds", index, axis, at)
                yield Finding(path, f"there is no such {key}", listed(known), fix, name)
        for at, rule in enumerate(entry.exclude):
            name = getattr(rule, key)
            if name is not None and name not in known:
                fix = did_you_mean(name, known, "remove it")
                path = ("builds", index, "exclude", at, key)
                yield Finding(path, f"there is no such {key}", listed(known), fix, name)
    whole = combinations(parsed, index, entry.model_copy(update={"exclude": []}))
    for at, rule in enumerate(entry.exclude):
        path = ("builds", index, "exclude", at)
        given = [(axis, name) for axis, key in _AXES if (name := getattr(rule, key)) is not None]
        if not given:
            fix = "name a model, a recipe or a target"
            yield Finding(path, "this exclude matches every build", "at least one name", fix)
        elif all(name in parsed.known(axis) for axis, name in given) and not any(
            _matches(parsed, rule, one) for one in whole
        ):
            fix = "remove it, or correct its names"
            yield Finding(path, "this exclude matches no build", "a combination of this entry", fix)


def _check_duplicates(parsed: Parsed, every: list[Combination]) -> Iterator[Finding]:
    first: dict[tuple[str, str, str], Combination] = {}
    reported = set()
    for one in every:
        build = (one.model, one.recipe, one.target)
        other = first.setdefault(build, one)
        if other is one or (build, one.entry) in reported:
            continue
        reported.add((build, one.entry))
        gates = {entry: parsed.builds[entry].gates for entry in (one.entry, other.entry)}
        differ = " with other gates" if gates[one.entry] != gates[other.entry] else ""
        if one.entry == other.entry:
            problem = f"{'/'.join(build)} occurs twice: a name is listed twice"
        else:
            problem = f"{'/'.join(build)} is in builds[{other.entry}] too{differ}"
        exclusion = f"{{model: {one.model}, recipe: {one.recipe}, target: {one.target}}}"
        fix = "list the name once" if one.entry == other.entry else f"exclude {exclusion} in one"
        yield Finding(("builds", one.entry), problem, "every combination once", fix)


def _check_systems(parsed: Parsed, every: list[Combination]) -> Iterator[Finding]:
    recipes, targets = parsed.document.recipes, parsed.document.targets
    reported = set()
    for one in every:
        if one.recipe not in recipes or one.target not in targets:
            continue
        if (one.recipe, one.target) in reported:
            continue
        if found := too_old(one.recipe, recipes[one.recipe], one.target, targets[one.target]):
            reported.add((one.recipe, one.target))
            problem, allowed, fix = found
            fix += f", or add `exclude: [{{recipe: {one.recipe}, target: {one.target}}}]`"
            yield Finding(one.path, problem, allowed, fix, one.target)


def too_old(
    recipe: str, settings: BaseRecipe, target: str, system: Target
) -> tuple[str, str, str] | None:
    """Return problem, allowed systems and fix if a target is older than what a recipe needs.

    Args:
        recipe: the recipe's name.
        settings: the recipe.
        target: the target's name.
        system: the target.
    """
    version, what = settings.oldest_version()
    if system.specification_version >= version:
        return None
    problem = f"recipe {recipe} needs {named(version)} ({what}), but minimum_os of the target is "
    problem += system.minimum_os
    raised = oldest(version, family(system.minimum_os))
    return problem, f"{named(version)} or newer", f"raise targets.{target}.minimum_os to {raised}"
