"""How the decoder in a ``.pte`` is called, read from the program itself."""

from __future__ import annotations

from collections.abc import Sequence

from pte_foundry.errors import InputError
from pte_foundry.mil.signature import Input
from pte_foundry.models.decoder.generate import Interface
from pte_foundry.pte import Pte

_STYLES = {
    frozenset({"tokens"}): "none",
    frozenset({"tokens", "positions"}): "states",
    frozenset({"tokens", "positions", "keys", "values"}): "inputs",
}
"""By the names of the inputs (``caches``)."""


def interface_of(program: Pte) -> Interface:
    """Returns how a decoder is called.

    Raises:
        InputError: the program is no decoder of this library, or not one Core ML model.
    """
    lengths: dict[str, Sequence[int]] = {}
    for method in program.methods:
        delegates = program.delegates_of(method)
        if not delegates:
            continue  # a constant
        if len(delegates) > 1:
            raise _other(f"method {method!r} has {len(delegates)} delegates")
        (delegate,) = delegates
        signature = delegate.program.functions[delegate.function]
        inputs = {given.name: given for given in signature.inputs}
        cache = _STYLES.get(frozenset(inputs))
        if cache is None:
            raise _other(f"method {method!r} takes {', '.join(sorted(inputs))}")
        lengths[method] = _lengths(inputs["tokens"])
        if cache == "states":
            if not signature.states:
                raise _other(f"method {method!r} has no states")
            context, shape = signature.states[0].type.tensor.shape[2], ()
        elif cache == "inputs":
            shape = tuple(inputs["keys"].type.shape)
            context = shape[2]
        else:
            context, shape = max(lengths[method]), ()
    if not lengths:
        raise _other("it has no Core ML delegate")
    return Interface(cache, context, lengths, shape)


def _lengths(tokens: Input) -> Sequence[int]:
    """The numbers of tokens that a call can have."""
    if tokens.shapes:
        return sorted(shape[1] for shape in tokens.shapes)
    if tokens.ranges:
        low, high = tokens.ranges[1]
        if high is None:
            raise _other("its number of tokens has no limit")
        return range(low, high + 1)
    return (tokens.type.shape[1],)


def _other(why: str) -> InputError:
    return InputError(
        f"the program is not called like a decoder of pte-foundry: {why}; expected forward(tokens, "
        "positions) with states, prefill and decode(tokens, positions, keys, values), or "
        "forward(tokens)"
    )
