"""Exports a model's module to a torch program."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from pte_foundry.errors import ModelError
from pte_foundry.models.bounds import check_bounds
from pte_foundry.models.containers import unique
from pte_foundry.models.methods import FORWARD, check_buffers, entered, replaced_forward
from pte_foundry.models.refusals import check_program
from pte_foundry.models.user_code import model_errors, place_of
from pte_foundry.names import identifier
from pte_foundry.upstream import torch_size_ranges

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

    from pte_foundry.models.layout import InputLayout
    from pte_foundry.models.module import ModelModule
    from pte_foundry.models.tensors import Sample

_DATA_DEPENDENT = (
    "GuardOnDataDependentSymNode",
    "DataDependentOutputException",
    "PendingUnbackedSymbolNotFound",
)
# torch appends advice on its own debugging to the reason.
_ADVICE = ("\nThe error above occurred when", "\n\nIf you don", "\nSuggested fixes:")
# What torch cannot simplify is true for all sizes.
_JOINED = (
    " The guard comes from a reshape that joins this dimension with another one, as grouped-query "
    "attention does: keep it by itself, q.reshape(batch, kv_heads, groups, length, size), and use "
    "k[:, :, None]."
)
_MORE = re.compile(r"\s*For more information[^\n]*", re.IGNORECASE)


def export_all(model: ModelModule, module: nn.Module) -> dict[str, ExportedProgram]:
    """Exports ``module``: a program for each method, which share its weights.

    Raises:
        ModelError: the model cannot be exported, or its programs cannot go into Core ML.
    """
    programs = {method: export(model, module, method) for method in model.layouts}
    with _in_module(model):
        check_buffers(programs)
    return programs


def export(model: ModelModule, module: nn.Module, method: str | None = None) -> ExportedProgram:
    """Exports a method, by default the first one, with its example inputs and dynamic shapes.

    Raises:
        ModelError: the model cannot be exported, or its program cannot go into Core ML.
    """
    from pte_foundry.models.programs import forget_history
    from pte_foundry.upstream.torch_causal_masks import declared_masks

    method = method or model.first_method
    layout, example = model.layouts[method], _distinct(model.example_inputs(method))
    sizes, specs = model.resolve(module)[method]
    shapes = model.dynamic_shapes(module, method)
    # Parameters that require grad cannot be written to where ExecuTorch keeps a mutable buffer, and
    # nothing here computes gradients.
    module.requires_grad_(False)
    try:
        with _in_module(model), entered(module, method):
            with model_errors(model.path, model.shown_by):
                sizes.check_example(example)
                sizes.check(example, "the example")
            _check_signature(module, layout, example, method)
            with (
                _flat_inputs(module, layout),
                _plain_outputs(model, module, method),
                declared_masks(),
            ):
                program = torch.export.export(module, example, dynamic_shapes=shapes, strict=False)
            check_program(program)
            if sizes.dynamic:
                torch_size_ranges.restore_declared(program, specs)
    except ModelError:
        raise
    except (Exception, SystemExit) as error:
        # Tells of its own errors.
        model.run(module, tuple(tensor.clone() for tensor in example), method)
        raise ModelError(_reason(model, error)) from error
    if sizes.dynamic:
        with _in_module(model):
            check_bounds(model, module, program, method, sizes)
    forget_history(program, model.root)
    return program


def _distinct(sample: Sample) -> Sample:
    """The sample without repetition: torch takes a tensor that is there twice for one input."""
    found: list[torch.Tensor] = []
    for tensor in sample:
        found.append(tensor.clone() if any(tensor is other for other in found) else tensor)
    return tuple(found)


@contextmanager
def _in_module(model: ModelModule) -> Iterator[None]:
    """Within this context a ModelError gets the module's path, unless it has one."""
    try:
        yield
    except ModelError as error:
        text = str(error)
        own = text.startswith(f"{model.path}:")
        raise ModelError(text if own else f"{model.path}: {text}.") from error


def _check_signature(module: nn.Module, layout: InputLayout, example: Sample, method: str) -> None:
    """Checks that a method takes a sample's inputs."""
    try:
        signature = inspect.signature(module.forward)
    except (TypeError, ValueError):  # not written in Python
        return
    arguments, keywords = layout.arguments(example)
    try:
        signature.bind(*arguments, **keywords)
    except TypeError as error:
        given = f"{len(arguments)} tensor{'s' * (len(arguments) != 1)} given by position"
        fix = "change the samples or the parameters (none after `*`: a dict gives them by keyword)"
        if keywords:
            given, fix = f"given as {', '.join(keywords)}", "change the keys or the parameters"
        source = "example_inputs()" if method == FORWARD else "methods()"
        raise ModelError(
            f"{method}{signature} does not take a sample of {source}, {given}: {error}; {fix}"
        ) from error


@contextmanager
def _flat_inputs(module: nn.Module, layout: InputLayout) -> Iterator[None]:
    """Within this context a module takes the tensors of its sample by position.

    A program of tensors alone has inputs with names, and no structure that its callers must know.
    """
    if layout.plain:
        yield
        return
    with replaced_forward(module, _taking_tensors(module, layout)):
        yield


def _taking_tensors(module: nn.Module, layout: InputLayout) -> Callable[..., Any]:
    """Returns a function that calls forward() with the structure of a sample."""
    forward = module.forward
    names = [identifier(name) for name in layout.names(module)]

    def flat(*tensors: Any) -> Any:
        arguments, keywords = layout.arguments(tensors)
        return forward(*arguments, **keywords)

    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    flat.__signature__ = inspect.Signature([inspect.Parameter(n, kind) for n in unique(names)])
    return flat


@contextmanager
def _plain_outputs(model: ModelModule, module: nn.Module, method: str) -> Iterator[None]:
    """Within this context a module returns its tensors as a tuple, or in a dict by their names.

    torch.export could not write the classes of its containers to disk.
    """

    def plain(_module: nn.Module, _inputs: Any, returned: Any) -> Any:
        try:
            outputs = model.outputs_of(returned, method)
        except ModelError as error:
            raise ModelError(f"{method}() {error}") from error
        return outputs if isinstance(outputs, dict) or not _is_plain(returned) else None

    hook = module.register_forward_hook(plain)
    try:
        yield
    finally:
        hook.remove()


def _is_plain(returned: Any) -> bool:
    """Whether an output is a tensor, or a tuple or list (no subclass) of tensors alone."""
    if isinstance(returned, torch.Tensor):
        return True
    tensors = type(returned) in (tuple, list)
    return tensors and all(isinstance(value, torch.Tensor) for value in returned)


def _reason(model: ModelModule, error: Exception) -> str:
    where, line = place_of(model.path, error)
    if type(error).__name__ in _DATA_DEPENDENT:
        shown = f": `{line}`" if line else ""
        return (
            f"{where}: torch.export cannot trace a branch or a size that depends on the values of "
            f"a tensor{shown}. Compute both results and choose with torch.where; give loops and "
            "shapes fixed sizes. To write at a place that an input gives, index with a tensor of "
            "one dimension: held[:, position] = new, where position has the shape [1] or [n]."
        )
    text = str(error).strip()
    for advice in _ADVICE:
        text = text.partition(advice)[0]
    text = _MORE.sub("", text).strip()
    if text.startswith("Constraints violated"):
        text = (
            " ".join(text.split())
            + (_JOINED if "min(" in text or "max(" in text else "")
            + (
                " Leave this dimension out of dynamic_shapes() or narrow its range, or remove what "
                "depends on its size: a recurrent layer, a parameter of that length, a comparison."
            )
        )
    return f"{where}: torch.export could not trace the model: {type(error).__name__}: {text}"
