"""Recurrent layers (``iOS15``, ``iOS17`` and ``iOS18/recurrent.py``; iOS17 only adds fp16).

A whole layer runs in fp32, the states between its steps included, and rounds its results once.

``reverse`` reads the sequence from its end and returns the outputs in the order of computation: the
last one is the final state, as in coremltools' tests against Core ML
(``ops/tests/iOS14/test_recurrent.py``). The backward half of a bidirectional layer returns each
output at the position of its input, as in torch.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from pte_foundry.mil.parameters import Upcast
from pte_foundry.mil.registry import op

# The constants of the hard sigmoid are those of Core ML's specification (``NeuralNetwork.proto``,
# "Recurrent Layers"); `lstm` and `rnn` have different names for it. An ML program has no parameter
# for the constants of scaled_tanh, and Core ML takes 1 for both, not the 1.7159 and 2 / 3 of the
# older format: coremltools' test against Core ML (``ops/tests/iOS14/test_recurrent.py``,
# ``test_numpy_numerical``) expects tanh.
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "hard_sigmoid": lambda x: (0.2 * x + 0.5).clamp(0, 1),
    "linear": lambda x: x,
    "relu": torch.relu,
    "scaled_tanh": torch.tanh,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
}
_ACTIVATIONS["sigmoid_hard"] = _ACTIVATIONS["hard_sigmoid"]

# A step: from the projected input at one time and the states before it to the states after it.
States = tuple[Tensor, ...]
Step = Callable[[Tensor, States], States]


def _activation(name: str) -> Callable[[Tensor], Tensor]:
    if name.lower() not in _ACTIVATIONS:
        raise ValueError(f"unknown activation {name!r}; known: {', '.join(sorted(_ACTIVATIONS))}")
    return _ACTIVATIONS[name.lower()]


def _is_reverse(direction: str) -> bool:
    if direction not in ("forward", "reverse"):
        raise ValueError(f"unknown direction {direction!r}")
    return direction == "reverse"


def _scan(inputs: Tensor, reverse: bool, states: States, step: Step) -> tuple[Tensor, States]:
    """Step through ``inputs``.

    Args:
        inputs: ``[steps, batch, gates * hidden]``.
        states: the initial ones, each ``[batch, hidden]``; the hidden state comes first.

    Returns:
        All hidden states in the order of computation, ``[steps, batch, hidden]``, and the last
        states.
    """
    outputs = []
    for x in inputs.flip(0) if reverse else inputs:
        states = step(x, states)
        outputs.append(states[0])
    return torch.stack(outputs), states


@op("rnn")
def rnn(
    *,
    x: Upcast,
    initial_h: Upcast,
    weight_ih: Upcast,
    weight_hh: Upcast,
    bias: Upcast | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    activation: str = "tanh",
) -> tuple[Tensor, Tensor]:
    act = _activation(activation)

    def step(projected: Tensor, states: States) -> States:
        return (act(projected + F.linear(states[0], weight_hh)),)

    projected = F.linear(x, weight_ih, bias)
    outputs, (h,) = _scan(projected, _is_reverse(direction), (initial_h,), step)
    return outputs if output_sequence else outputs[-1:], h


@op("gru")
def gru(
    *,
    x: Upcast,
    initial_h: Upcast,
    weight_ih: Upcast,
    weight_hh: Upcast,
    bias: Upcast | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    activation: str = "tanh",
    reset_after: bool = False,
    input_bias: Upcast | None = None,
) -> tuple[Tensor, Tensor]:
    """The order of the gates is reset, output, update.

    The documented formula does not specify whether the reset gate applies before or after the
    product with the hidden state. It is before, unless ``reset_after`` (iOS18), according to
    ``NeuralNetwork.proto`` and coremltools' tests against Core ML. With ``reset_after``,
    ``input_bias`` and ``bias`` are torch's two biases.
    """
    gate, act = _activation(recurrent_activation), _activation(activation)
    hidden = initial_h.shape[-1]
    bias = weight_hh.new_zeros(3 * hidden) if bias is None else bias
    (w_r, w_o, w_z), (b_r, b_o, b_z) = weight_hh.split(hidden), bias.split(hidden)
    w_rz, b_rz = torch.cat([w_r, w_z]), torch.cat([b_r, b_z])

    def step(projected: Tensor, states: States) -> States:
        (h,) = states
        x_r, x_o, x_z = projected.split(hidden, -1)
        r, z = gate(torch.cat([x_r, x_z], -1) + F.linear(h, w_rz, b_rz)).split(hidden, -1)
        recurrent = r * F.linear(h, w_o, b_o) if reset_after else F.linear(r * h, w_o, b_o)
        return ((1 - z) * act(x_o + recurrent) + z * h,)

    projected = F.linear(x, weight_ih, input_bias)
    outputs, (h,) = _scan(projected, _is_reverse(direction), (initial_h,), step)
    return outputs if output_sequence else outputs[-1:], h


def _lstm(
    inputs: Tensor,
    reverse: bool,
    states: States,
    weight_hh: Tensor,
    peephole: Tensor | None,
    activations: tuple[str, str, str],
    clip: float | None,
) -> tuple[Tensor, States]:
    """One direction; the order of the gates is input, forget, output, cell."""
    gate, cell, act = map(_activation, activations)
    hidden = weight_hh.shape[1]
    peephole = weight_hh.new_zeros(3 * hidden) if peephole is None else peephole
    p_i, p_f, p_o = peephole.split(hidden)

    def step(projected: Tensor, states: States) -> States:
        h, c = states
        i, f, o, z = (projected + F.linear(h, weight_hh)).split(hidden, -1)
        c = gate(f + p_f * c) * c + gate(i + p_i * c) * cell(z)
        # The cell state is clipped, also for the next step, according to ``NeuralNetwork.proto``
        # (cellClipThreshold) and coremltools' tests. The documentation names the cell gate.
        c = c if clip is None else c.clamp(-clip, clip)
        return gate(o + p_o * c) * act(c), c

    return _scan(inputs, reverse, states, step)


@op("lstm")
def lstm(
    *,
    x: Upcast,
    initial_h: Upcast,
    initial_c: Upcast,
    weight_ih: Upcast,
    weight_hh: Upcast,
    bias: Upcast | None = None,
    peephole: Upcast | None = None,
    weight_ih_back: Upcast | None = None,
    weight_hh_back: Upcast | None = None,
    bias_back: Upcast | None = None,
    peephole_back: Upcast | None = None,
    direction: str = "forward",
    output_sequence: bool = False,
    recurrent_activation: str = "sigmoid",
    cell_activation: str = "tanh",
    activation: str = "tanh",
    clip: float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    activations = (recurrent_activation, cell_activation, activation)
    forward = F.linear(x, weight_ih, bias)
    if direction != "bidirectional":
        outputs, (h, c) = _lstm(forward, _is_reverse(direction), (initial_h, initial_c), weight_hh,
                                peephole, activations, clip)  # fmt: skip
        return outputs if output_sequence else outputs[-1:], h, c
    if weight_ih_back is None or weight_hh_back is None:
        raise ValueError("a bidirectional layer needs weight_ih_back and weight_hh_back")
    backward = F.linear(x, weight_ih_back, bias_back)
    # The first half of the initial states is for the forward direction, the second for backward.
    (h_ahead, h_back), (c_ahead, c_back) = initial_h.chunk(2, -1), initial_c.chunk(2, -1)
    ahead, ahead_states = _lstm(forward, False, (h_ahead, c_ahead), weight_hh, peephole,
                                activations, clip)  # fmt: skip
    back, back_states = _lstm(backward, True, (h_back, c_back), weight_hh_back, peephole_back,
                              activations, clip)  # fmt: skip
    if output_sequence:
        outputs = torch.cat([ahead, back.flip(0)], -1)
    else:
        outputs = torch.cat([ahead[-1:], back[-1:]], -1)
    h, c = (torch.cat(pair, -1) for pair in zip(ahead_states, back_states, strict=True))
    return outputs, h, c
