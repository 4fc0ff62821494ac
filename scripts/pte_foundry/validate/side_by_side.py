"""Interprets a torch program twice at once: as it is, and on values that another program gave."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

Meet = Callable[[Node, Any, Any], Any]


class SideBySide(Interpreter):
    """Runs every node on the program's own values, and beside that on replaced ones.

    After each node ``meet(node, reference, local)`` is told both results, and what it returns takes
    the place of the second one for the nodes that follow: the local result itself, or what another
    program computed for this node.

    Args:
        module: the program. Its own buffers change as in any run of it.
        buffers: the buffers of the second run; they change as well.
        meet: told of every operator; must not change the tensors that it is given.
    """

    def __init__(self, module: GraphModule, buffers: dict[str, torch.Tensor], meet: Meet) -> None:
        super().__init__(module)
        self._buffers = buffers
        self._meet = meet
        self._beside: dict[Node, Any] = {}

    def run_node(self, n: Node) -> Any:
        reference = super().run_node(n)
        self._beside[n] = self._second(n, reference)
        # The base class forgets its own values after this node as well.
        for used in self.user_to_last_uses.get(n, ()):
            self._beside.pop(used, None)
        return reference

    def _second(self, node: Node, reference: Any) -> Any:
        if node.op == "placeholder":
            # Operators in place would otherwise write twice into the same input.
            return reference.clone() if isinstance(reference, torch.Tensor) else reference
        if node.op == "get_attr":
            return self._buffers.get(str(node.target), reference)
        if node.op == "output":
            return reference
        kept, self.env = self.env, self._beside
        try:
            local = super().run_node(node)
        finally:
            self.env = kept
        return self._meet(node, reference, local)
