"""The operator that a library was working on when it raised an error, and the pass that it was in.

Stands against: coremltools 9.0, executorch 1.5.1, torch 2.13.0
Uses: local variables of the frames in an error's traceback, because the messages rarely name the
    operator: ``node`` of ``convert_nodes`` and ``from_exir_node`` (coremltools,
    ``converters/mil/frontend/torch``), ``op`` and ``anchor_op`` of MIL passes, ``graph_pass`` of
    ``PassPipelineManager.apply_pipeline``, ``n`` and ``node`` of ``torch.fx.Interpreter`` and of
    executorch's passes. What is missing is left out of our messages.
Remove when: the errors name the operator and its debug handle.
"""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from types import FrameType
from typing import Any

from coremltools.converters.mil.frontend.torch.internal_graph import InternalTorchIRNode
from coremltools.converters.mil.mil import Operation
from coremltools.converters.mil.mil.passes.graph_pass import AbstractGraphPass
from coremltools.converters.mil.mil.scope import ScopeSource
from torch.fx import Node

_LIBRARIES = ("/coremltools/", "/executorch/exir/", "/torch/fx/", "/torch/export/", "/torchao/")
# Loops that have ended leave their last node behind in these files.
_STALE = ("/executorch/exir/backend/", "/executorch/exir/program/")
_NAMES = ("node", "n", "op", "anchor_op")


@dataclass(frozen=True)
class FailingOperator:
    """What an error's traceback tells of the operator.

    Attributes:
        name: of its node in the edge program, or of its MIL operation.
        debug_handle: of its node, or None.
        meta: of its node (``stack_trace``, ``nn_module_stack`` …); may be empty.
        node: the node itself, or None.
    """

    name: str
    debug_handle: int | None
    meta: dict[str, Any]
    node: Node | None = None


def failing_operator(error: BaseException) -> FailingOperator | None:
    """Return the operator of the innermost frame that has one, or None."""
    for frame in _frames(error):
        file = frame.f_code.co_filename
        if any(part in file for part in _STALE) or not any(part in file for part in _LIBRARIES):
            continue
        for name in _NAMES:
            found = _described(frame.f_locals.get(name))
            if found is not None:
                return found
    return None


def failing_pass(error: BaseException) -> str:
    """Return the MIL pass that raised an error, such as ``common::cast_optimization``, or ''."""
    for frame in _frames(error):
        found = frame.f_locals.get("graph_pass")
        if isinstance(found, AbstractGraphPass):
            return str(found)
    return ""


def _frames(error: BaseException) -> list[FrameType]:
    """The frames of an error, innermost first, before those of the error that caused it."""
    found: list[FrameType] = []
    current: BaseException | None = error
    while current is not None and current.__traceback__ is not None:
        found += reversed([frame for frame, _ in traceback.walk_tb(current.__traceback__)])
        current = current.__cause__
    return found


def _described(value: Any) -> FailingOperator | None:
    if isinstance(value, Node):
        if value.op in ("placeholder", "output"):
            return None
        return FailingOperator(value.name, _handle(value.meta), dict(value.meta), value)
    if isinstance(value, InternalTorchIRNode):
        meta = dict(value.meta or {})
        return FailingOperator(value.name or "", _handle(meta), meta)
    if isinstance(value, Operation):
        scopes = value.scopes
        handles = [h for h in scopes.get(ScopeSource.EXIR_DEBUG_HANDLE, []) if h is not None]
        traces = [t for t in scopes.get(ScopeSource.EXIR_STACK_TRACE, []) if t]
        meta = {"stack_trace": traces[0]} if traces else {}
        return FailingOperator(value.name, handles[0] if handles else None, meta)
    return None


def _handle(meta: dict[str, Any]) -> int | None:
    handle = meta.get("debug_handle")
    return handle if isinstance(handle, int) else None
