"""Interprets a torch graph twice at once: on its own values, and on substituted values."""

from collections.abc import Callable
from typing import Any

import torch
from torch.fx import GraphModule, Interpreter, Node

Substitute = Callable[[Node, Any, Any], Any]
"""``substitute(node, reference, local)`` returns the node's result for the second run."""


class DualInterpreter(Interpreter):
    """Runs every node on the program's own values, and again on the values of a second run.

    After each operator it calls ``substitute`` with both results. The value returned becomes the
    node's result in the second run: the local result itself, or the result of another program for
    the same node.

    Args:
        module: the program. Its buffers change as in any run of it.
        buffers: the buffers of the second run, by name; they change as well.
        substitute: see above; must not change the tensors that it is given.
    """

    def __init__(
        self, module: GraphModule, buffers: dict[str, torch.Tensor], substitute: Substitute
    ) -> None:
        super().__init__(module)
        self._buffers = buffers
        self._substitute = substitute
        self._second_env: dict[Node, Any] = {}

    def run_node(self, n: Node) -> Any:
        reference = super().run_node(n)
        self._second_env[n] = self._run_second(n, reference)
        # The base class deletes the values of ``env`` after their last use; so does the second run.
        for used in self.user_to_last_uses.get(n, ()):
            self._second_env.pop(used, None)
        return reference

    def _run_second(self, node: Node, reference: Any) -> Any:
        if node.op == "placeholder":
            # A clone, because both runs may write into an input in place.
            return reference.clone() if isinstance(reference, torch.Tensor) else reference
        if node.op == "get_attr":
            return self._buffers.get(str(node.target), reference)
        if node.op == "output":
            return reference
        first_env, self.env = self.env, self._second_env
        try:
            local = super().run_node(node)
        finally:
            self.env = first_env
        return self._substitute(node, reference, local)
