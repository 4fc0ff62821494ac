"""Recurrent layers against torch, and against loops in numpy for what torch does not have.

Protects the order of the gates, of the outputs of a reversed sequence, and of the halves of a
bidirectional layer: a mistake in any gives plausible numbers.
"""

import numpy as np
import pytest
import torch
from pte_foundry.mil import Program

from tests.mil.mil_cases import HALF, SINGLE, compute, coremltools

STEPS, BATCH, INPUT, HIDDEN = 4, 3, 5, 2
DIRECTIONS = ["forward", "reverse"]


def sample(*shape, seed=0):
    return np.random.default_rng((seed, *shape)).uniform(-1, 1, shape).astype(SINGLE)


X = sample(STEPS, BATCH, INPUT)


def turned(x, direction):
    return x[::-1] if direction == "reverse" else x


def run(op, opset="iOS18", **arguments):
    return compute(op, opset, {k: v for k, v in arguments.items() if v is not None})


def load(layer, suffix="", **weights):
    """Set the weights of a torch layer, whose gates are in torch's order."""
    with torch.no_grad():
        for name, value in weights.items():
            getattr(layer, f"{name}_l0{suffix}").copy_(torch.from_numpy(value))


def reordered(weight, order):
    """MIL's gates in another order, for example torch's."""
    return np.concatenate([np.split(weight, len(order))[i] for i in order])


def assert_close(got, want, tolerance=2e-6):
    for value, reference in zip(got, want, strict=True):
        assert value.shape == tuple(reference.shape)
        np.testing.assert_allclose(value, reference, rtol=tolerance, atol=tolerance)


# ------------------------------------------------------------------------------------ rnn


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("activation", ["tanh", "relu"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_rnn_is_torchs(direction, sequence, activation, with_bias):
    w, r, b = sample(HIDDEN, INPUT), sample(HIDDEN, HIDDEN), sample(HIDDEN)
    h = sample(BATCH, HIDDEN)
    layer = torch.nn.RNN(INPUT, HIDDEN, nonlinearity=activation)
    load(layer, weight_ih=w, weight_hh=r, bias_ih=b * with_bias, bias_hh=0 * b)
    with torch.no_grad():
        outputs, last = layer(torch.from_numpy(turned(X, direction).copy()), torch.tensor(h)[None])
    got = run("rnn", x=X, initial_h=h, weight_ih=w, weight_hh=r, bias=b if with_bias else None,
              direction=direction, output_sequence=sequence, activation=activation)  # fmt: skip
    assert_close(got, [outputs if sequence else outputs[-1:], last[0]])


# Written out again, in float64, with the constants of coremltools' tests against Core ML.
ACTIVATIONS = {
    "tanh": np.tanh,
    "scaled_tanh": np.tanh,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "sigmoid_hard": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "hard_sigmoid": lambda x: np.clip(0.2 * x + 0.5, 0, 1),
    "relu": lambda x: np.maximum(x, 0),
    "linear": lambda x: x,
}


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_rnn_has_every_activation(name):
    w, r, h = 4 * sample(HIDDEN, INPUT), sample(HIDDEN, HIDDEN), sample(BATCH, HIDDEN)
    want, outputs = h.astype(np.float64), []
    for x in X:
        want = ACTIVATIONS[name](x @ w.T + want @ r.T)
        outputs.append(want)
    got = run("rnn", x=X, initial_h=h, weight_ih=w, weight_hh=r, activation=name,
              output_sequence=True)  # fmt: skip
    assert_close(got, [np.stack(outputs), want])


@pytest.mark.parametrize("op", ["rnn", "gru", "lstm"])
@pytest.mark.parametrize(
    ("bad", "message"), [({"activation": "mish"}, "mish"), ({"direction": "up"}, "direction 'up'")]
)
def test_unknown_names_are_refused(op, bad, message):
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[op]
    arguments = {
        "x": X,
        "initial_h": sample(BATCH, HIDDEN),
        "weight_ih": sample(gates * HIDDEN, INPUT),
        "weight_hh": sample(gates * HIDDEN, HIDDEN),
    }
    if op == "lstm":
        arguments["initial_c"] = sample(BATCH, HIDDEN)
    with pytest.raises(ValueError, match=message):
        run(op, **arguments, **bad)


# ------------------------------------------------------------------------------------ gru


def gru_weights():
    return sample(3 * HIDDEN, INPUT), sample(3 * HIDDEN, HIDDEN), sample(BATCH, HIDDEN)


def numpy_gru(x, h, w, r, bias, gate="sigmoid", act="tanh"):
    """The reset gate before the product, one bias; gates in the order reset, output, update."""
    gate, act = ACTIVATIONS[gate], ACTIVATIONS[act]
    (w_r, w_o, w_z), (r_r, r_o, r_z) = np.split(w, 3), np.split(r, 3)
    b_r, b_o, b_z = np.split(bias, 3)
    outputs = []
    for step in x.astype(np.float64):
        reset = gate(step @ w_r.T + h @ r_r.T + b_r)
        update = gate(step @ w_z.T + h @ r_z.T + b_z)
        new = act(step @ w_o.T + (reset * h) @ r_o.T + b_o)
        h = (1 - update) * new + update * h
        outputs.append(h)
    return np.stack(outputs), h


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("opset", ["iOS15", "iOS17", "iOS18"])
@pytest.mark.parametrize("with_bias", [True, False])
def test_gru_resets_before_the_product(opset, direction, sequence, with_bias):
    w, r, h = gru_weights()
    bias = sample(3 * HIDDEN) * with_bias
    outputs, last = numpy_gru(turned(X, direction), h, w, r, bias)
    got = run("gru", opset, x=X, initial_h=h, weight_ih=w, weight_hh=r, direction=direction,
              bias=bias if with_bias else None, output_sequence=sequence)  # fmt: skip
    assert_close(got, [outputs if sequence else outputs[-1:], last])


@pytest.mark.parametrize("act", ["scaled_tanh", "relu", "linear"])
@pytest.mark.parametrize("gate", ["hard_sigmoid", "tanh"])
def test_gru_has_other_activations(gate, act):
    w, r, h = gru_weights()
    want = numpy_gru(X, h, w, r, np.zeros(3 * HIDDEN), gate, act)
    got = run("gru", x=X, initial_h=h, weight_ih=w, weight_hh=r, recurrent_activation=gate,
              activation=act, output_sequence=True)  # fmt: skip
    assert_close(got, want, 1e-5)


def test_gru_with_two_biases_that_resets_before_the_product_adds_them_up():
    w, r, h = gru_weights()
    bias, input_bias = sample(3 * HIDDEN, seed=1), sample(3 * HIDDEN, seed=2)
    got = run("gru", x=X, initial_h=h, weight_ih=w, weight_hh=r, bias=bias, input_bias=input_bias)
    outputs, last = numpy_gru(X, h, w, r, bias + input_bias)
    assert_close(got, [outputs[-1:], last])


@pytest.mark.parametrize("biases", [(True, True), (True, False), (False, True), (False, False)])
def test_gru_that_resets_after_the_product_is_torchs(biases):
    w, r, h = gru_weights()
    bias, input_bias = (sample(3 * HIDDEN, seed=i) * has for i, has in enumerate(biases))
    layer = torch.nn.GRU(INPUT, HIDDEN)
    torchs = [0, 2, 1]  # reset, update, new
    load(layer, weight_ih=reordered(w, torchs), weight_hh=reordered(r, torchs),
         bias_hh=reordered(bias, torchs), bias_ih=reordered(input_bias, torchs))  # fmt: skip
    with torch.no_grad():
        outputs, last = layer(torch.from_numpy(X), torch.tensor(h)[None])
    got = run("gru", x=X, initial_h=h, weight_ih=w, weight_hh=r, reset_after=True,
              output_sequence=True, bias=bias if biases[0] else None,
              input_bias=input_bias if biases[1] else None)  # fmt: skip
    assert_close(got, [outputs, last[0]])


# ------------------------------------------------------------------------------------ lstm

TORCHS = [0, 1, 3, 2]  # input, forget, cell, output


def lstm_weights(seed=0):
    shapes = {"w": (4 * HIDDEN, INPUT), "r": (4 * HIDDEN, HIDDEN), "b": (4 * HIDDEN,)}
    return {name: sample(*shape, seed=seed) for name, shape in shapes.items()}


def load_lstm(layer, weights, suffix=""):
    load(layer, suffix, weight_ih=reordered(weights["w"], TORCHS), bias_hh=0 * weights["b"],
         weight_hh=reordered(weights["r"], TORCHS), bias_ih=reordered(weights["b"], TORCHS),
         )  # fmt: skip


@pytest.mark.parametrize("sequence", [True, False])
@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("with_bias", [True, False])
def test_lstm_is_torchs(direction, sequence, with_bias):
    weights, h, c = lstm_weights(), sample(BATCH, HIDDEN), sample(BATCH, HIDDEN, seed=1)
    weights["b"] *= with_bias
    layer = torch.nn.LSTM(INPUT, HIDDEN)
    load_lstm(layer, weights)
    with torch.no_grad():
        outputs, (last_h, last_c) = layer(
            torch.from_numpy(turned(X, direction).copy()),
            (torch.tensor(h)[None], torch.tensor(c)[None]),
        )
    got = run("lstm", x=X, initial_h=h, initial_c=c, weight_ih=weights["w"], direction=direction,
              weight_hh=weights["r"], bias=weights["b"] if with_bias else None,
              output_sequence=sequence)  # fmt: skip
    assert_close(got, [outputs if sequence else outputs[-1:], last_h[0], last_c[0]])


@pytest.mark.parametrize("sequence", [True, False])
def test_bidirectional_lstm_is_torchs(sequence):
    ahead, back = lstm_weights(), lstm_weights(seed=1)
    h, c = sample(2, BATCH, HIDDEN), sample(2, BATCH, HIDDEN, seed=1)
    layer = torch.nn.LSTM(INPUT, HIDDEN, bidirectional=True)
    load_lstm(layer, ahead)
    load_lstm(layer, back, "_reverse")
    with torch.no_grad():
        outputs, states = layer(torch.from_numpy(X), (torch.tensor(h), torch.tensor(c)))
    got = run("lstm", x=X, initial_h=np.concatenate(h, 1), initial_c=np.concatenate(c, 1),
              weight_ih=ahead["w"], weight_hh=ahead["r"], bias=ahead["b"],
              weight_ih_back=back["w"], weight_hh_back=back["r"], bias_back=back["b"],
              direction="bidirectional", output_sequence=sequence)  # fmt: skip
    # The final output of the backward half stands where its sequence ends: at the first input.
    final = torch.cat([outputs[-1:, :, :HIDDEN], outputs[:1, :, HIDDEN:]], -1)
    assert_close(got, [outputs if sequence else final, *(torch.cat([*s], 1) for s in states)])


def test_bidirectional_lstm_needs_its_backward_weights():
    weights, h = lstm_weights(), sample(BATCH, 2 * HIDDEN)
    with pytest.raises(ValueError, match="weight_ih_back"):
        run("lstm", x=X, initial_h=h, initial_c=h, weight_ih=weights["w"], weight_hh=weights["r"],
            direction="bidirectional")  # fmt: skip


def numpy_lstm(x, h, c, weights, peephole, clip, gate, cell, act):
    gate, cell, act = (ACTIVATIONS[name] for name in (gate, cell, act))
    p_i, p_f, p_o = np.split(peephole, 3)
    outputs = []
    for step in x.astype(np.float64):
        i, f, o, z = np.split(step @ weights["w"].T + h @ weights["r"].T + weights["b"], 4, axis=1)
        c = gate(f + p_f * c) * c + gate(i + p_i * c) * cell(z)
        c = np.clip(c, -clip, clip)
        h = gate(o + p_o * c) * act(c)  # looks at the new cell state
        outputs.append(h)
    return np.stack(outputs), h, c


LSTM_ACTIVATIONS = ["tanh", "scaled_tanh", "sigmoid", "hard_sigmoid", "relu", "linear"]


@pytest.mark.parametrize("place", range(3))
@pytest.mark.parametrize("name", LSTM_ACTIVATIONS)
def test_lstm_has_every_activation_at_every_place(name, place):
    names = ["sigmoid", "tanh", "tanh"]
    names[place] = name
    weights, h = lstm_weights(), sample(BATCH, HIDDEN)
    want = numpy_lstm(X, h, h, weights, np.zeros(3 * HIDDEN), np.inf, *names)
    got = run("lstm", x=X, initial_h=h, initial_c=h, weight_ih=weights["w"], bias=weights["b"],
              weight_hh=weights["r"], recurrent_activation=names[0], cell_activation=names[1],
              activation=names[2].upper(), output_sequence=True)  # fmt: skip
    assert_close(got, want, 2e-5)


@pytest.mark.parametrize("clip", [None, 0.2, 0.01])
@pytest.mark.parametrize("direction", [*DIRECTIONS, "bidirectional"])
def test_lstm_has_peepholes_and_clips_its_cell(direction, clip):
    weights, h, c = lstm_weights(), sample(BATCH, HIDDEN), sample(BATCH, HIDDEN, seed=1)
    peephole = sample(3 * HIDDEN)
    rest = (np.inf if clip is None else clip, "sigmoid", "tanh", "tanh")
    want = [numpy_lstm(turned(X, d), h, c, weights, peephole, *rest) for d in DIRECTIONS]
    arguments = {"weight_ih": weights["w"], "weight_hh": weights["r"], "bias": weights["b"]}
    arguments["peephole"] = peephole
    if direction == "bidirectional":
        (ahead, *states), (back, *back_states) = want
        expected = [np.concatenate([ahead, back[::-1]], 2)]
        expected += [np.concatenate(pair, 1) for pair in zip(states, back_states, strict=True)]
        arguments |= {f"{name}_back": value for name, value in arguments.items()}
        h, c = np.concatenate([h, h], 1), np.concatenate([c, c], 1)
    else:
        expected = want[DIRECTIONS.index(direction)]
    got = run("lstm", x=X, initial_h=h, initial_c=c, direction=direction, clip=clip,
              output_sequence=True, **arguments)  # fmt: skip
    assert_close(got, expected)


@pytest.mark.parametrize("op", ["rnn", "gru", "lstm"])
def test_fp16_layers_round_once(op):
    gates = {"rnn": 1, "gru": 3, "lstm": 4}[op]
    half = {
        "x": X.astype(HALF),
        "initial_h": sample(BATCH, HIDDEN).astype(HALF),
        "weight_ih": sample(gates * HIDDEN, INPUT).astype(HALF),
        "weight_hh": sample(gates * HIDDEN, HIDDEN).astype(HALF),
    }
    if op == "lstm":
        half["initial_c"] = half["initial_h"]
    single = run(op, **{k: v.astype(SINGLE) for k, v in half.items()}, output_sequence=True)
    for value, want in zip(run(op, **half, output_sequence=True), single, strict=True):
        np.testing.assert_array_equal(value, want.astype(HALF))


# ------------------------------------------------------------------------------- whole models


class Layers(torch.nn.Module):
    def __init__(self, kind, **options):
        super().__init__()
        torch.manual_seed(0)
        self.layer = kind(INPUT, 6, batch_first=True, **options)

    def forward(self, x):
        outputs, state = self.layer(x)
        return outputs, *(state if isinstance(state, tuple) else (state,))


MODELS = {
    "lstm": (torch.nn.LSTM, {}),
    "lstm-2-layers": (torch.nn.LSTM, {"num_layers": 2}),
    "lstm-bidirectional": (torch.nn.LSTM, {"num_layers": 2, "bidirectional": True}),
    "lstm-no-bias": (torch.nn.LSTM, {"bias": False}),
    "gru": (torch.nn.GRU, {"num_layers": 2, "bidirectional": True}),
    "rnn-tanh": (torch.nn.RNN, {"num_layers": 2}),
    "rnn-relu": (torch.nn.RNN, {"nonlinearity": "relu"}),
}


@pytest.mark.parametrize("target", ["iOS15", "iOS17", "iOS18"])
@pytest.mark.parametrize("name", list(MODELS))
def test_a_converted_model_agrees_with_torch(name, target, tmp_path):
    ct = coremltools()
    kind, options = MODELS[name]
    model, x = Layers(kind, **options).eval(), torch.from_numpy(sample(2, 7, INPUT))
    converted = ct.convert(
        torch.jit.trace(model, x),
        inputs=[ct.TensorType("x", shape=x.shape)],
        minimum_deployment_target=getattr(ct.target, target),
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    converted.save(str(tmp_path / "m.mlpackage"))
    program = Program.load(tmp_path / "m.mlpackage")
    if name != "gru":  # coremltools writes torch's as a loop
        assert kind.__name__.lower() in {operation.op for operation in program.operations()}
    with torch.no_grad():
        wanted = model(x)
    for got, want in zip(program.run({"x": x.numpy()}).values(), wanted, strict=True):
        noise = np.square(got - want.numpy()).sum().clip(1e-30)
        assert 10 * np.log10(np.square(want.numpy()).sum() / noise) > 90
