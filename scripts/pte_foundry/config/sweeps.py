"""Sweeps: a recipe with a list where an option takes one value stands for several recipes.

They are expanded before anything is validated, so that everything else has ordinary recipes; only
the builds know the name of the sweep, and findings are moved back to where the lists are written.
"""

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin

from pte_foundry.config.base import LONGEST_NAME, NAME_PATTERN
from pte_foundry.config.sweep_names import names
from pte_foundry.config.sweep_options import lists
from pte_foundry.config.yamlfiles import value_at
from pte_foundry.findings import Finding, KeyPath, listed

LARGEST = 100
"""More recipes than this are refused: they are a mistake, such as a list too many."""


@dataclass(frozen=True)
class Sweep:
    """The recipes of one entry.

    Attributes:
        options: key paths of the lists, below the entry.
        recipes: the position in each of these lists, by name of the recipe.
    """

    options: Sequence[KeyPath]
    recipes: Mapping[str, tuple[int, ...]]

    def along(self, path: KeyPath, recipe: str) -> KeyPath:
        """Returns a path below one of the recipes as a path below the entry."""
        for option, at in zip(self.options, self.recipes[recipe], strict=True):
            if path[: len(option)] == option:
                return (*option, at, *path[len(option) :])
        return path

    def at(self, path: KeyPath) -> set[str]:
        """Returns the recipes that a path below the entry belongs to."""
        return {
            recipe
            for recipe, positions in self.recipes.items()
            if all(
                path[: len(option)] != option or path[len(option)] == at
                for option, at in zip(self.options, positions, strict=True)
            )
        }


@dataclass(frozen=True)
class Sweeps:
    """A configuration without sweeps, and what its recipes were made from.

    Attributes:
        data: the configuration.
        by_name: the sweeps.
        findings: errors in lists that make no valid sweep.
    """

    data: Any
    by_name: Mapping[str, Sweep]
    findings: Sequence[Finding]

    def recipes(self, name: str) -> list[str]:
        """Returns the recipes that a name stands for."""
        sweep = self.by_name.get(name)
        return [name] if sweep is None else list(sweep.recipes)

    def sweep_of(self, recipe: str) -> str | None:
        """Returns the sweep that a recipe is of; None: it has an entry of its own."""
        return next((name for name, one in self.by_name.items() if recipe in one.recipes), None)

    def placed(self, findings: Iterable[Finding]) -> list[Finding]:
        """Moves findings about the recipes of a sweep to its entry.

        One that is about several of them is returned once, and says about which, unless it is about
        all or its position tells.
        """
        found: dict[str, tuple[Finding, dict[str, None]]] = {}
        for finding in findings:
            section, recipe, *rest = (*finding.path[:2], "", "")[:2] + finding.path[2:]
            if section == "recipes" and (name := self.sweep_of(str(recipe))):
                path = self.by_name[name].along(tuple(rest), str(recipe))
                moved = replace(finding, path=("recipes", name, *path))
                found.setdefault(str(moved), (moved, {}))[1][str(recipe)] = None
            else:
                found.setdefault(str(finding), (finding, {}))
        return [self._about(finding, recipes) for finding, recipes in found.values()]

    def _about(self, finding: Finding, recipes: Mapping[str, None]) -> Finding:
        if not recipes or recipes.keys() >= self.by_name[str(finding.path[1])].at(finding.path[2:]):
            return finding
        return replace(finding, problem=f"{finding.problem} (in {listed(recipes)})")


def expand(data: Any) -> Sweeps:
    """Replaces every sweep by its recipes.

    Args:
        data: the merged configuration, not validated.
    """
    entries = data.get("recipes") if isinstance(data, Mapping) else None
    if not isinstance(entries, Mapping):
        return Sweeps(data, {}, [])
    sweeps: dict[str, Sweep] = {}
    recipes: dict[Any, Any] = {}
    findings: list[Finding] = []
    for name, entry in entries.items():
        kinds = dict(lists(entry))
        values = {path: value_at(entry, path) for path in kinds}
        is_name = isinstance(name, str) and re.fullmatch(NAME_PATTERN, name) is not None
        small = 0 < math.prod(map(len, values.values())) <= LARGEST
        made = names(name, kinds, values) if kinds and is_name and small else {}
        findings += (wrong := list(_wrong(("recipes", name), values, made)))
        if wrong or not made:
            first = {path: next(iter(values[path]), _valid(kind)) for path, kind in kinds.items()}
            recipes[name] = _with(entry, first) if kinds else entry  # for the other checks
            continue
        taken = dict.fromkeys(entries, "an entry of its own")
        for other, sweep in sweeps.items():
            taken |= dict.fromkeys(sweep.recipes, f"a recipe of the sweep {other}")
        findings += _collisions(name, made, taken)
        sweeps[name] = Sweep(list(kinds), {n: at for n, at in made.items() if n not in taken})
        for recipe, at in sweeps[name].recipes.items():
            chosen = {path: values[path][i] for path, i in zip(kinds, at, strict=True)}
            recipes[recipe] = _with(entry, chosen)
    return Sweeps({**data, "recipes": recipes}, sweeps, findings)


def _valid(kind: Any) -> Any:
    """Returns a value that a list without values could have."""
    return get_args(kind)[0] if get_origin(kind) is Literal else kind(1)


def _with(value: Any, chosen: Mapping[KeyPath, Any], path: KeyPath = ()) -> Any:
    """Returns an entry with one value in place of every list."""
    if path in chosen:
        return chosen[path]
    if isinstance(value, dict):
        return {key: _with(inner, chosen, (*path, key)) for key, inner in value.items()}
    if isinstance(value, list):
        return [_with(inner, chosen, (*path, at)) for at, inner in enumerate(value)]
    return value


def _wrong(
    path: KeyPath, lists: Mapping[KeyPath, list[Any]], made: Collection[str]
) -> Iterator[Finding]:
    """Finds why the lists of a recipe are no sweep."""
    count = math.prod(map(len, lists.values()))
    if max([count, *map(len, lists.values())]) > LARGEST:
        factors = " × ".join(f"{len(values)} of {option[-1]}" for option, values in lists.items())
        fix = "list fewer values, or make several recipes"
        problem = f"the sweep stands for {count} recipes: {factors}"
        yield Finding(path, problem, f"at most {LARGEST} recipes", fix)
        return
    for option, values in lists.items():
        below = (*path, *option)
        if not values:
            allowed = "one value, or a list of values"
            yield Finding(below, "the sweep has no value", allowed, "add one", values)
        for at, value in enumerate(values):
            if any(type(value) is type(other) and value == other for other in values[:at]):
                fix = "list the value once"
                yield Finding((*below, at), "it occurs twice", "every value once", fix, value)
                return
    if made and len(made) < count:
        fix = "write the values differently, or make several recipes"
        yield Finding(path, "two recipes of the sweep have one name", "different names", fix)
    if len(longest := max(made, key=len, default="")) > LONGEST_NAME:
        problem = f"the name of a recipe of the sweep has {len(longest)} characters: {longest}"
        fix = "give the sweep a shorter name, or sweep fewer options"
        yield Finding(path, problem, f"at most {LONGEST_NAME} characters", fix)


def _collisions(name: str, made: Iterable[str], taken: Mapping[str, str]) -> Iterator[Finding]:
    for recipe in made:
        if recipe in taken:
            problem = f"a recipe of the sweep is called {recipe}, as is {taken[recipe]}"
            yield Finding(("recipes", name), problem, "a name that is not taken", "rename one")
