"""``to_edge`` without a decomposition that leaves the program as it is.

Stands against: executorch 1.5.1
Uses: ``_default_decomposition_table`` and ``_generate_edge_program``
    (``exir/program/_program.py``), which ``to_edge`` calls in this order, with a decomposition of
    the program in between. That traces the program again even if it contains no operator to
    decompose: a quarter of the time. ``to_edge_transform_and_lower`` skips it in this case since
    executorch 1.5.
Remove when: ``to_edge`` skips it as well.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

from executorch.exir.graph_module import contains_any_call_fn_target_op
from executorch.exir.program import _program as upstream
from torch.export import ExportedProgram

from pte_foundry.upstream.executorch_edge_config import preserving
from pte_foundry.upstream.torch_operators import OpOverload
from pte_foundry.upstream.versions import require

for _function, _parameters in (
    ("_default_decomposition_table", "_use_old_decomp_table"),
    ("_generate_edge_program", "config program core_aten_ops_exception_list preserve_ops"),
):
    require(upstream, _function, _parameters, patch=__name__)


Decomposition = Callable[..., Any]


def to_edge(
    program: ExportedProgram,
    preserved: list[OpOverload],
    rewritten: Mapping[OpOverload, Decomposition] = MappingProxyType({}),
) -> ExportedProgram:
    """Return the program in the edge dialect.

    Args:
        program: a functional program, as ``run_decompositions`` returns it.
        preserved: operators that are not decomposed.
        rewritten: decompositions that were applied to the program; if others are decomposed, these
            are applied to what they are decomposed into.
    """
    config = preserving(preserved)
    table = upstream._default_decomposition_table()
    for operator in preserved:
        table.pop(operator, None)
    if contains_any_call_fn_target_op(program.graph_module, table):
        for operator, rewrite in rewritten.items():
            # Not table.get(): torch's class does not define it, so dict's finds nothing.
            other = table[operator] if operator in table else None  # noqa: SIM401
            table[operator] = _either(rewrite, other)
        program = program.run_decompositions(table)
    return upstream._generate_edge_program(config, program, preserve_ops=config.preserve_ops)


def _either(first: Decomposition, second: Decomposition | None) -> Decomposition:
    """The first decomposition, or the second where the first does not apply."""

    def decompose(*args: Any, **kwargs: Any) -> Any:
        result = first(*args, **kwargs)
        return second(*args, **kwargs) if result is NotImplemented and second else result

    return decompose
