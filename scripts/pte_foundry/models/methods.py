"""The methods of a program: what each of them calls in the model, and checks of their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from torch import nn

from pte_foundry.errors import ModelError
from pte_foundry.models.containers import kind_of

if TYPE_CHECKING:
    from torch.export import ExportedProgram

FORWARD = "forward"
"""The method of a program that has only one."""


def check_methods(found: Any) -> dict[str, Any]:
    """Checks what ``methods()`` returned: a dict of samples by names that an app can call.

    Raises:
        ModelError: it is not one.
    """
    if not isinstance(found, Mapping) or not found:
        raise ModelError(f"returned {kind_of(found)}; return a dict of samples by method")
    for name in found:
        if not isinstance(name, str) or not name.isidentifier() or name.startswith("_"):
            raise ModelError(f"names a method {name!r}; use a name such as 'prefill'")
        if name != FORWARD and hasattr(nn.Module, name):
            raise ModelError(
                f"names a method {name!r}, which every torch.nn.Module has; use another name"
            )
    if twice := sorted({n for n in found if sum(n.lower() == m.lower() for m in found) > 1}):
        raise ModelError(f"has methods that differ only in case: {', '.join(twice)}; rename one")
    return dict(found)


def by_method(found: Any, methods: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Checks a dict that a function of the module returned by method.

    Raises:
        ModelError: it is none, or has other methods.
    """
    if not isinstance(found, Mapping):
        raise ModelError(f"returned {kind_of(found)}; return a dict of {what} by method")
    if unknown := [name for name in found if name not in methods]:
        known = ", ".join(methods)
        raise ModelError(f"names {unknown[0]!r}, which is no method; methods: {known}")
    return dict(found)


def entry(module: nn.Module, method: str) -> Callable[..., Any]:
    """Returns what a method calls: the model's attribute of that name, or ``forward()``."""
    own = None if method == FORWARD else getattr(module, method, None)
    return own if callable(own) else module.forward


@contextmanager
def entered(module: nn.Module, method: str) -> Iterator[None]:
    """Within this context ``module.forward`` is what a method calls."""
    called = entry(module, method)
    if called == module.forward:
        yield
        return
    with replaced_forward(module, _calling(called)):
        yield


@contextmanager
def replaced_forward(module: nn.Module, function: Callable[..., Any]) -> Iterator[None]:
    """Within this context ``module.forward`` is a function."""
    own = vars(module).get(FORWARD)
    module.forward = function
    try:
        yield
    finally:
        del module.forward
        if own is not None:
            module.forward = own


def _calling(called: Callable[..., Any]) -> Callable[..., Any]:
    """A function that calls another, or a submodule, with its parameters' names."""

    def forward(*arguments: Any, **keywords: Any) -> Any:
        return called(*arguments, **keywords)

    # torch.export names inputs after parameters.
    target = called.forward if isinstance(called, nn.Module) else called
    forward.__signature__ = inspect.signature(target)
    return forward


def check_buffers(programs: Mapping[str, ExportedProgram]) -> None:
    """Checks that methods share no buffer that one of them writes to.

    Raises:
        ModelError: they do. Each method of a ``.pte`` has states and buffers of its own (executorch
            1.5: a Core ML model for each method, with an ``MLState`` each).
    """
    if len(programs) < 2:
        return
    from pte_foundry.models import operators

    used, written = {}, {}
    for method, program in programs.items():
        graph = program.module(check_guards=False).graph
        # torch gives the module of a program every buffer, read or not.
        read = (node for node in graph.nodes if node.op == "get_attr" and node.users)
        used[method] = {str(node.target) for node in read}
        written[method] = {str(node.target) for node in operators.states(graph)}
    for method, buffers in written.items():
        for other in programs:
            if other != method and (shared := sorted(buffers & used[other])):
                raise ModelError(
                    f"{method}() writes to the buffer{'s' * (len(shared) > 1)} "
                    f"{', '.join(shared[:4])}{' …' * (len(shared) > 4)}, and {other}() uses the "
                    "same. In a .pte each method has states of its own, so it would never see what "
                    "the other writes. Make them inputs that both methods take and outputs that "
                    "they return, or keep one method, with dynamic shapes"
                )
