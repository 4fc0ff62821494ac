"""Checks of enumerated shapes: of each model by itself, and together with the targets it has."""

from collections.abc import Iterator, Sequence

from pte_foundry.config.check_builds import every_combination
from pte_foundry.config.parse import Parsed
from pte_foundry.config.systems import IOS18, family, named, oldest
from pte_foundry.config.targets import Target
from pte_foundry.findings import Finding, KeyPath
from pte_foundry.models.enumerated import Shapes, by_method

_RANGE = "shapes: range (or fixed) in the target"


def check_shapes(parsed: Parsed) -> Iterator[Finding]:
    """Find enumerations that contradict themselves, or a target of the same build."""
    models, targets = parsed.document.models, parsed.document.targets
    for name, model in models.items():
        path = ("models", name, "enumerated_shapes")
        if model.enumerated_shapes is None:
            continue
        methods = by_method(model.enumerated_shapes)
        if not methods or not all(methods.values()):
            yield Finding(path, "no input is listed", "input: [shape, shape]", "write null", {})
        for method, shapes in methods.items():
            yield from _check_enumeration((*path, method) if method else path, shapes)
    pairs = {
        (one.model, one.target)
        for one in every_combination(parsed)
        if one.model in models and one.target in targets
    }
    for model, target in sorted(pairs):
        given, settings = models[model].enumerated_shapes, targets[target]
        if settings.shapes == "enumerated" and not given:
            yield Finding(
                ("targets", target, "shapes"),
                f"{model} has no enumerated shapes",
                "null, range, fixed",
                f"write null, which enumerates where a model does, or list them in "
                f"models.{model}.enumerated_shapes",
                "enumerated",
            )
        elif given and settings.shapes in (None, "enumerated"):
            yield from _check_target(("targets", target), settings, model, given)


def _check_target(path: KeyPath, target: Target, model: str, given: Shapes) -> Iterator[Finding]:
    """What upstream cannot do with enumerated shapes, which need a graph that is lowered whole."""
    below, options = (*path, "partitioner"), target.partitioner
    why = f"{model} has enumerated shapes, which need all of the graph in Core ML"
    if skipped := options.skip_ops_for_coreml_delegation:
        key = (*below, "skip_ops_for_coreml_delegation")
        yield Finding(key, why, "[]", f"empty the list, or write {_RANGE}", skipped)
    if not options.take_over_constant_data:
        fix = f"set it to true, or write {_RANGE}"
        yield Finding((*below, "take_over_constant_data"), why, "true", fix, False)
    if options.take_over_mutable_buffer is False:
        fix = f"set it to null, or write {_RANGE}"
        yield Finding((*below, "take_over_mutable_buffer"), why, "true, null", fix, False)
    several = max((len(shapes) for shapes in by_method(given).values()), default=0) > 1
    if several and target.specification_version < IOS18:
        raised = oldest(IOS18, family(target.minimum_os))
        yield Finding(
            (*path, "minimum_os"),
            f"{model} has several inputs with enumerated shapes, which need {named(IOS18)}",
            f"{named(IOS18)} or newer",
            f"raise minimum_os to {raised}, or write {_RANGE}",
            target.minimum_os,
        )


def _check_enumeration(path: KeyPath, shapes: Shapes) -> Iterator[Finding]:
    counts = {name: len(listed) for name, listed in shapes.items()}
    if len(set(counts.values())) > 1:
        problem = "the n-th shapes of all inputs belong together, but their numbers differ: " + (
            ", ".join(f"{name} {count}" for name, count in counts.items())
        )
        yield Finding(path, problem, "the same number for all inputs", "list the missing shapes")
    for name, listed in shapes.items():
        yield from _check_list((*path, name), listed, alone=len(shapes) == 1)


def _check_list(path: KeyPath, listed: Sequence[Sequence[int]], alone: bool) -> Iterator[Finding]:
    if len(listed) < 2:
        fix = "leave this input out, or add a shape"
        problem = "an input with a single shape must not be listed"
        yield Finding(path, problem, "at least two shapes", fix, listed)
    if len({len(shape) for shape in listed}) > 1:
        fix = "give all shapes of an input the same number of dimensions"
        yield Finding(path, "the ranks differ", "one rank", fix, listed)
    if len({tuple(shape) for shape in listed}) < len(listed) and alone:
        yield Finding(path, "a shape is listed twice", "each once", "remove the repetition", listed)
