"""What is constant in a torch program, computed once.

``torch.fx.experimental.const_fold`` does it too, but computes all constants before it copies each:
the weights of a quantized program are then in memory twice in fp32, and once for each method.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Hashable, Iterable
from typing import Any

import torch
from torch import nn
from torch.fx import GraphModule, Interpreter, Node
from torch.fx.node import map_arg

from pte_foundry.upstream.torch_operators import mutates


class Folding:
    """Folds the programs of methods, which share what is computed of the same weights."""

    def __init__(self) -> None:
        self._numbers: dict[Hashable, int] = {}  # of constants: equal numbers are equal values
        self._known: dict[int, Any] = {}
        self._held: list[Any] = []  # what is known by its address

    def fold(self, module: GraphModule) -> GraphModule:
        """Replaces what a program computes of constants by the results, and returns the program."""
        may_change, keys = _may_change(module), {}
        interpreter = Interpreter(module)
        for node in module.graph.nodes:
            constant = node.op in ("get_attr", "call_function") and not may_change(node)
            if constant and not node.is_impure() and keys.keys() >= set(node.all_input_nodes):
                key = self._key(node, keys, interpreter)
                keys[node] = self._numbers.setdefault(key, len(self._numbers))
        for node in keys:
            if node.op == "call_function" and not keys.keys() >= set(node.users):
                if keys[node] not in self._known:
                    self._known[keys[node]] = _computed(node, keys, interpreter)
                if isinstance(self._known[keys[node]], torch.Tensor):
                    _replace(module, node, self._known[keys[node]], keys)
        for node in reversed(keys):
            if not node.users:
                module.graph.erase_node(node)
        module.recompile()
        return module

    def _key(self, node: Node, keys: dict[Node, int], interpreter: Interpreter) -> Hashable:
        if node.op == "call_function":
            arguments = map_arg((node.args, node.kwargs), lambda given: _Numbered(keys[given]))
            return node.target, repr(arguments)
        value = interpreter.fetch_attr(node.target)
        self._held.append(value)
        if isinstance(value, torch.Tensor) and type(value.data) is torch.Tensor and value.numel():
            return value.data_ptr(), value.dtype, tuple(value.shape), value.stride()
        return (id(value),)


class _Numbered:
    """A constant among the arguments of an operator."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __repr__(self) -> str:
        return f"<{self._number}>"


def _computed(node: Node, constants: Iterable[Node], interpreter: Interpreter) -> Any:
    """The value of a constant; what it is computed of is computed again for other ones."""
    needed, left = set(), [node]
    while left:
        needed.add(one := left.pop())
        left += [given for given in one.all_input_nodes if given not in needed]
    with torch.no_grad():
        for one in (one for one in constants if one in needed):
            interpreter.env[one] = interpreter.run_node(one)
    found = interpreter.env[node]
    interpreter.env.clear()
    return found


def _replace(
    module: GraphModule, node: Node, value: torch.Tensor, constants: Container[Node]
) -> None:
    """Makes a constant a parameter: buffers get their initial values before each sample.

    Other constants are still computed of the node.
    """
    name = f"folded_{node.name}"
    setattr(module, name, nn.Parameter(value.detach(), requires_grad=False))
    with module.graph.inserting_before(node):
        made = module.graph.get_attr(name)
    node.replace_all_uses_with(made, delete_user_cb=lambda user: user not in constants)


def _may_change(module: GraphModule) -> Callable[[Node], bool]:
    """Returns a test for nodes that each call of the module may change.

    They read a buffer, or an operator writes into their result: folded, the result of T5's
    ``buckets += …`` would grow with every sample.
    """
    writing = [node for node in module.graph.nodes if mutates(node.target)]
    if not writing:
        return lambda node: False
    buffers = {name for name, _ in module.named_buffers()}
    written: set[Node] = set()
    for node in writing:
        target = node.args[0] if node.args else None
        while isinstance(target, Node) and target.op == "call_function":
            written.add(target)
            target = target.args[0] if target.args else None  # which a view shares its memory with
    return lambda node: (
        node in written
        or any(given.op == "get_attr" and given.target in buffers for given in node.all_input_nodes)
    )
