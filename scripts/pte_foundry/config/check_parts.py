"""Checks of recipes and of targets, each by itself."""

import re
from collections.abc import Iterator

from pte_foundry.config.parse import Parsed, RecipeModel
from pte_foundry.config.recipes import Pt2eRecipe, QuantizeRecipe
from pte_foundry.config.systems import IOS18, family, named, oldest
from pte_foundry.config.targets import Target
from pte_foundry.findings import Finding

_DOTTED = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def check_recipes(parsed: Parsed) -> Iterator[Finding]:
    """Check every recipe for contradictions."""
    for name, recipe in parsed.recipes.items():
        path = ("recipes", name)
        if isinstance(recipe, Pt2eRecipe):
            yield from _check_pt2e(path, recipe)
        elif isinstance(recipe, QuantizeRecipe):
            yield from _check_steps(path, recipe)


def _check_pt2e(path: tuple, recipe: Pt2eRecipe) -> Iterator[Finding]:
    for key in ("algorithm", "quantization_scheme"):
        values = sorted({getattr(part, key) for part in recipe.parts})
        if len(values) > 1:
            problem = f"the parts of the recipe disagree on {key}: {' and '.join(values)}"
            fix = f"write the same {key} in all parts; a part that does not say has the default"
            yield Finding(path, problem, "one value for the whole recipe", fix)
    if not any(part.quantizes for part in recipe.parts):
        problem = "the recipe quantizes nothing: every part is null or has float32 weights"
        fix = "set weight_dtype to qint8 somewhere, or use `scheme: none`"
        yield Finding(path, problem, "at least one part with 8-bit weights", fix)
    for kind in recipe.module_type_configs:
        yield from _check_type((*path, "module_type_configs", kind), kind)
    for module in recipe.module_name_configs:
        if any(character in module for character in "*?["):
            problem = "names of modules are not patterns here"
            fix = "name each module; a name covers all that is inside the module"
            yield Finding((*path, "module_name_configs", module), problem, "full names", fix)


def _check_steps(path: tuple, recipe: RecipeModel) -> Iterator[Finding]:
    for index, step in enumerate(recipe.steps):
        below = (*path, "steps", index)
        if (step.affine is None) == (step.codebook is None):
            problem = f"the step has {'both configs' if step.affine else 'no config'}"
            fix = "make two steps" if step.affine else "write e.g. `affine: {weight_dtype: int8}`"
            yield Finding(below, problem, "either affine or codebook", fix)
        for at, kind in enumerate(step.modules.types):
            yield from _check_type((*below, "modules", "types", at), kind)
        affine = step.affine
        if affine is None:
            continue
        hqq = affine.intx_choose_qparams_algorithm == "hqq_scale_only"
        if hqq and affine.mapping_type != "symmetric":
            problem = "hqq_scale_only has no zero points and would ignore the mapping type"
            fix = "leave mapping_type out, or use the affine algorithm"
            key = (*below, "affine", "mapping_type")
            yield Finding(key, problem, "symmetric", fix, affine.mapping_type)


def _check_type(path: tuple, kind: str) -> Iterator[Finding]:
    if not _DOTTED.fullmatch(kind):
        problem = "this is not the full dotted name of a class or function"
        fix = f"did you mean torch.nn.{kind}?" if kind.isidentifier() else "e.g. torch.nn.Linear"
        yield Finding(path, problem, "package.module.Name", fix, kind)


def check_targets(parsed: Parsed, platform: str) -> Iterator[Finding]:
    """Check every target for contradictions; ``platform`` is that of ``sys.platform``."""
    for name, target in parsed.targets.items():
        path = ("targets", name)
        yield from _check_states(path, target)
        yield from _check_full_graph(path, target)
        yield from _check_shapes((*path, "enumerated_shapes"), target)
        yield from _check_spec(path, target)
        if target.model_type == "compiled_model" and platform != "darwin":
            problem = "only a Mac can compile a Core ML model"
            fix = "use model_type: model, which the device compiles at first load"
            key = (*path, "model_type")
            yield Finding(key, problem, "model (on this machine)", fix, target.model_type)


def _raise_system(target: Target) -> str:
    return f"raise minimum_os to {oldest(IOS18, family(target.minimum_os))}"


def _check_states(path: tuple, target: Target) -> Iterator[Finding]:
    asked = target.partitioner.take_over_mutable_buffer
    if asked and target.specification_version < IOS18:
        problem = f"Core ML states need {named(IOS18)}, and minimum_os is {target.minimum_os}"
        fix = f"set it to null, or {_raise_system(target)}"
        key = (*path, "partitioner", "take_over_mutable_buffer")
        yield Finding(key, problem, "null, false", fix, asked)


def _check_full_graph(path: tuple, target: Target) -> Iterator[Finding]:
    options = target.partitioner
    if not options.lower_full_graph:
        return
    below = (*path, "partitioner")
    why = "lower_full_graph contradicts this"
    if skipped := options.skip_ops_for_coreml_delegation:
        key = (*below, "skip_ops_for_coreml_delegation")
        yield Finding(key, why, "[]", "empty the list, or set lower_full_graph to false", skipped)
    if not options.take_over_constant_data:
        fix = "set it to true, or lower_full_graph to false"
        yield Finding((*below, "take_over_constant_data"), why, "true", fix, False)
    if options.take_over_mutable_buffer is False:
        fix = "set it to true, or lower_full_graph to false"
        yield Finding((*below, "take_over_mutable_buffer"), why, "true, null", fix, False)
    elif target.specification_version < IOS18:
        problem = f"lower_full_graph takes over mutable buffers, which needs {named(IOS18)}"
        fix = f"{_raise_system(target)}, or set lower_full_graph to false"
        yield Finding(
            (*path, "minimum_os"), problem, f"{named(IOS18)} or newer", fix, target.minimum_os
        )


def _check_shapes(path: tuple, target: Target) -> Iterator[Finding]:
    shapes = target.enumerated_shapes
    if shapes is None:
        return
    if not target.partitioner.lower_full_graph:
        fix = "set partitioner.lower_full_graph to true"
        yield Finding(path, "enumerated shapes need the full graph", "lower_full_graph: true", fix)
    if not shapes:
        yield Finding(
            path, "no input is listed", "input: [shape, shape]", "write null instead", shapes
        )
    if len(shapes) > 1 and target.specification_version < IOS18:
        problem = f"more than one input with enumerated shapes needs {named(IOS18)}"
        yield Finding(path, problem, "one input", _raise_system(target))
    counts = {name: len(listed_shapes) for name, listed_shapes in shapes.items()}
    if len(set(counts.values())) > 1:
        problem = "the n-th shapes of all inputs belong together, but their numbers differ: " + (
            ", ".join(f"{name} {count}" for name, count in counts.items())
        )
        yield Finding(path, problem, "the same number for all inputs", "list the missing shapes")
    for name, listed_shapes in shapes.items():
        if len(listed_shapes) < 2:
            fix = "leave this input out, or add a shape"
            problem = "an input with a single shape must not be listed"
            yield Finding((*path, name), problem, "at least two shapes", fix, listed_shapes)
        if len({len(shape) for shape in listed_shapes}) > 1:
            fix = "give all shapes of an input the same number of dimensions"
            yield Finding((*path, name), "the ranks differ", "one rank", fix, listed_shapes)
        if len({tuple(shape) for shape in listed_shapes}) < len(listed_shapes) and len(shapes) == 1:
            fix = "remove the repetition"
            yield Finding((*path, name), "a shape is listed twice", "each once", fix, listed_shapes)


def _check_spec(path: tuple, target: Target) -> Iterator[Finding]:
    spec = target.op_linear_quantizer_config
    if spec is None or target.specification_version >= IOS18:
        return
    below = (*path, "op_linear_quantizer_config")
    if spec.dtype in ("int4", "uint4"):
        problem = f"4-bit weights need {named(IOS18)}, and minimum_os is {target.minimum_os}"
        fix = f"use int8, or {_raise_system(target)}"
        yield Finding((*below, "dtype"), problem, "int8, uint8", fix, spec.dtype)
    if spec.granularity == "per_block":
        problem = f"blocks need {named(IOS18)}, and minimum_os is {target.minimum_os}"
        fix = f"use per_channel, or {_raise_system(target)}"
        yield Finding((*below, "granularity"), problem, "per_tensor, per_channel", fix, "per_block")
