"""Checks of each target by itself: settings that contradict one another or the minimum OS."""

import re
from collections.abc import Iterator

from pte_foundry.config.parse import Parsed
from pte_foundry.config.systems import IOS18, family, named, oldest
from pte_foundry.config.targets import Target
from pte_foundry.findings import Finding

_OPERATOR = re.compile(r"\w+\.\w+\.\w+")


def check_targets(parsed: Parsed, platform: str) -> Iterator[Finding]:
    """Find contradictions within every target; ``platform`` is a value of ``sys.platform``."""
    for name, target in parsed.document.targets.items():
        path = ("targets", name)
        yield from _check_states(path, target)
        yield from _check_skipped(path, target)
        yield from _check_full_graph(path, target)
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


def _check_skipped(path: tuple, target: Target) -> Iterator[Finding]:
    """Whether the operators exist is only known once torch is loaded (the ``edge`` step)."""
    names = target.partitioner.skip_ops_for_coreml_delegation
    for index, name in enumerate(names):
        if not _OPERATOR.fullmatch(name):
            parts = [part for part in re.split(r"[.:]+", name) if part not in ("torch", "ops")]
            parts = parts if len(parts) > 1 else ["aten", *parts]
            meant = ".".join([*parts, "default"][:3])
            yield Finding(
                (*path, "partitioner", "skip_ops_for_coreml_delegation", index),
                "this is not the name of an operator",
                "namespace.name.overload, as reports and error messages have it",
                f"did you mean {meant}?" if _OPERATOR.fullmatch(meant) else "correct the name",
                name,
            )


def _check_full_graph(path: tuple, target: Target) -> Iterator[Finding]:
    options = target.partitioner
    if not options.lower_full_graph:
        return
    below = (*path, "partitioner")
    why = "this contradicts lower_full_graph"
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
        problem = f"per_block needs {named(IOS18)}, and minimum_os is {target.minimum_os}"
        fix = f"use per_channel, or {_raise_system(target)}"
        yield Finding((*below, "granularity"), problem, "per_tensor, per_channel", fix, "per_block")
