"""Labels of the operators of a torch program, equal in its fp32 and its quantized form."""

from collections import Counter

from torch.fx import Graph, Node

from pte_foundry.upstream.torch_operators import mutates


def labels(graph: Graph) -> dict[str, str]:
    """Returns a label for each operator of a graph, by the name of its node.

    ``aten.linear.default @ encoder.layer.0`` is an operator and the module that calls it; from the
    second call of the operator in that module on, `` #2`` and so on is appended. Quantization
    inserts and removes operators but does not change the labels of the others, so an operator of
    the quantized program has the label of its counterpart in the fp32 program. In-place operators
    have the labels of their out-of-place forms.
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
    """Returns ``operator @ module``: a node's operator and the innermost module that calls it."""
    operator = getattr(node.target, "__name__", str(node.target))
    packet, _, overload = str(node.target).rpartition(".")
    if hasattr(node.target, "overloadpacket"):
        # Not __and__, whose underscores are no sign of an in-place operator.
        packet = packet if packet.endswith("__") else packet.removesuffix("_")
        operator = f"{packet}.{overload}"
    modules = [name for name, _ in (node.meta.get("nn_module_stack") or {}).values() if name]
    return f"{operator} @ {modules[-1]}" if modules else operator


def original(node: Node) -> str | None:
    """Returns the name of the node of the original graph that passes made ``node`` from.

    torch keeps this history in ``from_node`` until a program is saved. None: no history.
    """
    source = next(iter(node.meta.get("from_node") or ()), None)
    while source is not None and source.from_node:
        source = source.from_node[0]
    return None if source is None else source.name


def varying(graph: Graph) -> set[Node]:
    """Returns the nodes whose value depends on inputs or states of the program, not constants."""
    found = states(graph)
    for node in graph.nodes:
        if node.op == "placeholder" or not found.isdisjoint(node.all_input_nodes):
            found.add(node)
    return found


def states(graph: Graph) -> set[Node]:
    """Returns the buffers (``get_attr``) that the graph of a module writes to."""
    return {
        node.args[0]
        for node in graph.nodes
        if mutates(node.target)
        and node.args
        and isinstance(node.args[0], Node)
        and node.args[0].op == "get_attr"
    }
