"""Names for the operators of a torch program, the same in its fp32 and its quantized form."""

from collections import Counter

from torch.fx import Graph, Node


def labels(graph: Graph) -> dict[str, str]:
    """What each operator of a graph is called, by the name of its node.

    ``aten.linear.default @ encoder.layer.0`` is an operator and the module that calls it; the
    second call of the operator in that module ends in `` #2``. Quantization inserts operators of
    its own and removes a few, but it keeps what the others are called: by this name an operator of
    the quantized program is found in the fp32 one. An operator in place is called as the other one.
    """
    named: dict[str, str] = {}
    calls: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "call_function":
            label = describe(node)
            calls[label] += 1
            named[node.name] = label if calls[label] == 1 else f"{label} #{calls[label]}"
    return named


def describe(node: Node) -> str:
    """The operator of a node and the innermost module that calls it: ``operator @ module``."""
    operator = getattr(node.target, "__name__", str(node.target))
    packet, _, overload = str(node.target).rpartition(".")
    if hasattr(node.target, "overloadpacket"):
        operator = f"{packet.removesuffix('_')}.{overload}"
    modules = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values() if name]
    return f"{operator} @ {modules[-1]}" if modules else operator


def original(node: Node) -> str | None:
    """The name of the node that a node was made from in the graph that passes began with.

    torch keeps that history in ``from_node`` as long as a program is not saved.
    """
    source = next(iter(node.meta.get("from_node") or ()), None)
    while source is not None and source.from_node:
        source = source.from_node[0]
    return None if source is None else source.name


def varying(graph: Graph) -> set[Node]:
    """Returns the nodes whose value depends on the inputs of the program; the rest is constant."""
    found: set[Node] = set()
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found
