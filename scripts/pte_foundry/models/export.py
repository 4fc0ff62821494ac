"""Exports a model's module to a torch program."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pte_foundry.errors import ModelError
from pte_foundry.models import checks
from pte_foundry.models.refusals import check_program
from pte_foundry.models.user_code import place_of

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from pte_foundry.models.module import ModelModule
    from pte_foundry.models.tensors import Sample

_DATA_DEPENDENT = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "PendingUnbackedSymbolNotFound",
)
# torch appends advice on its own debugging to the reason.
_ADVICE = ("\nThe error above occurred when", "\n\nIf you don", "\nSuggested fixes:")
_MORE = re.compile(r"\s*For more information[^\n]*", re.IGNORECASE)


def export(model: ModelModule, module: nn.Module) -> ExportedProgram:
    """Exports ``module`` with the example inputs and dynamic shapes of ``model``.

    Raises:
        ModelError: the model cannot be exported, or its program cannot go into Core ML.
    """
    import torch

    from pte_foundry.models.programs import forget_history
    from pte_foundry.upstream.torch_causal_masks import declared_masks

    example, shapes = model.example_inputs(), model.dynamic_shapes()
    # Parameters that require grad cannot be written to where ExecuTorch keeps a mutable buffer, and
    # nothing here computes gradients.
    module.requires_grad_(False)
    try:
        _check_signature(module, example)
        with _plain_outputs(module), declared_masks():
            program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
        check_program(program)
    except ModelError as error:
        raise ModelError(f"{model.path}: {error}.") from error
    except (Exception, SystemExit) as error:
        model.run(module, tuple(tensor.clone() for tensor in example))  # tells of its own errors
        raise ModelError(_reason(model, error)) from error
    forget_history(program, model.root)
    return program


def _check_signature(module: nn.Module, example: Sample) -> None:
    """Checks that forward() takes as many tensors, by position, as a sample has."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # not written in Python
        return
    try:
        signature.bind(*example)
    except TypeError as error:
        count = f"{len(example)} tensor{'s' * (len(example) != 1)}"
        raise ModelError(
            f"forward{signature} does not take a sample of example_inputs(), {count} given by "
            f"position: {error}; change the samples or the parameters (none after `*`)"
        ) from error


@contextmanager
def _plain_outputs(module: nn.Module) -> Iterator[None]:
    """Within this context a module returns named tuples as plain ones, and nothing but tensors.

    torch.export would keep the structure of a dict or of nested tuples, or fail to write the class
    of a named tuple to disk.
    """

    def plain(_module: nn.Module, _inputs: Any, outputs: Any) -> Any:
        try:
            checks.check_output_kinds(outputs)
        except ModelError as error:
            raise ModelError(f"forward() {error}") from error
        named = isinstance(outputs, tuple) and type(outputs) is not tuple
        return tuple(outputs) if named else None

    hook = module.register_forward_hook(plain)
    try:
        yield
    finally:
        hook.remove()


def _reason(model: ModelModule, error: Exception) -> str:
    where, line = place_of(model.path, error)
    if type(error).__name__ in _DATA_DEPENDENT:
        shown = f": `{line}`" if line else ""
        return (
            f"{where}: torch.export cannot trace a branch or a size that depends on the values of "
            f"a tensor{shown}. Compute both results and choose with torch.where; give loops and "
            "shapes fixed sizes."
        )
    text = str(error).strip()
    for advice in _ADVICE:
        text = text.partition(advice)[0]
    text = _MORE.sub("", text).strip()
    if text.startswith("Constraints violated"):
        text = " ".join(text.split()) + (
            " Leave this dimension out of dynamic_shapes() or narrow its range, or remove what "
            "depends on its size: a recurrent layer, a parameter of that length, a comparison."
        )
    return f"{where}: torch.export could not trace the model: {type(error).__name__}: {text}"
