"""Recurrent operators against onnxruntime."""

import numpy as np
import pytest
from frontend_models import load, saved, single, true_outputs

import motet
from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(3)
STEPS, BATCH, WIDTH, HIDDEN = 4, 2, 3, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def check(proto, feeds, folder, rtol, atol, truth="onnxruntime"):
    """Compile, run, and compare with onnxruntime, or with onnx's reference evaluator."""
    want = true_outputs(proto, feeds, truth)
    got = motet.load(motet.compile(saved(proto, folder))).run("m", feeds)
    for a, b in zip(got.values(), want, strict=True):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=atol)


def weights(op: str, directions: int = 1) -> dict[str, np.ndarray]:
    size = GATES[op] * HIDDEN
    return {
        "w": f(directions, size, WIDTH),
        "r": f(directions, size, HIDDEN),
        "b": f(directions, 2 * size),
    }


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_directions(tmp_path, op, direction):
    feeds = {"x": f(STEPS, BATCH, WIDTH)}
    constants = weights(op, 2 if direction == "bidirectional" else 1)
    outputs = 3 if op == "LSTM" else 2
    options = {"direction": direction, "hidden_size": HIDDEN, "outputs": outputs}
    check(single(op, feeds, constants, **options), feeds, tmp_path, 1e-4, 1e-5)


def test_gru_with_the_reset_after_the_product(tmp_path):
    feeds = {"x": f(STEPS, BATCH, WIDTH)}
    options = {"linear_before_reset": 1, "hidden_size": HIDDEN, "outputs": 2}
    proto = single("GRU", feeds, weights("GRU"), **options)
    check(proto, feeds, tmp_path, 1e-4, 1e-5)


def test_lstm_with_states_and_peepholes(tmp_path):
    states = {n: f(1, BATCH, HIDDEN) for n in ("h", "c")}
    feeds = {"x": f(STEPS, BATCH, WIDTH), **states}
    constants = {**weights("LSTM"), "p": f(1, 3 * HIDDEN)}
    names = ["x", "w", "r", "b", "", "h", "c", "p"]
    proto = single("LSTM", feeds, constants, names, 3, hidden_size=HIDDEN)
    check(proto, feeds, tmp_path, 1e-4, 1e-5)


ACTIVATIONS = [
    ("Affine", [0.7], [0.1]),
    ("LeakyRelu", [0.05], []),
    ("ThresholdedRelu", [0.3], []),
    ("ScaledTanh", [0.8], [1.2]),
    ("HardSigmoid", [0.3], [0.4]),
    ("Elu", [0.9], []),
    ("Softsign", [], []),
    ("Softplus", [], []),
    ("Relu", [], []),
]


@pytest.mark.parametrize(("name", "alpha", "beta"), ACTIVATIONS)
def test_activations(tmp_path, name, alpha, beta):
    options = {"activations": [name], "activation_alpha": alpha, "activation_beta": beta}
    options = {key: value for key, value in options.items() if value}
    feeds = {"x": f(STEPS, BATCH, WIDTH)}
    proto = single("RNN", feeds, weights("RNN"), outputs=2, hidden_size=HIDDEN, **options)
    check(proto, feeds, tmp_path, 1e-4, 1e-5)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_weights_and_lengths_of_the_run(tmp_path, op):
    """Both directions, of sequences of three lengths, one empty; every operand a run-time one."""
    lengths = np.array([4, 1, 3], np.int32)
    feeds = {"x": f(STEPS, 3, WIDTH), **weights(op, 2), "n": lengths, "h": f(2, 3, HIDDEN)}
    options = {"direction": "bidirectional", "hidden_size": HIDDEN}
    if op == "GRU":
        options["linear_before_reset"] = 1
    outputs = 3 if op == "LSTM" else 2
    proto = single(op, feeds, outputs=outputs, **options)
    check(proto, feeds, tmp_path, 1e-4, 1e-5)


@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("hidden", [16, 83])
def test_any_number_of_steps_from_one_model(tmp_path, op, hidden):
    """Vectors and their tails in every block of the product; steps are symbolic."""
    size = GATES[op] * hidden
    constants = {"w": f(1, size, 7), "r": f(1, size, hidden) / 4, "b": f(1, 2 * size)}
    options = {"hidden_size": hidden, "outputs": 3 if op == "LSTM" else 2}
    proto = single(op, {"x": f(1, 1, 7)}, constants, **options)
    for axis, name in enumerate(("steps", "batch")):
        proto.graph.input[0].type.tensor_type.shape.dim[axis].dim_param = name
    for steps, batch in ((9, 2), (1, 1)):
        feeds = {"x": f(steps, batch, 7)}
        check(proto, feeds, tmp_path, 1e-4, 1e-5)


def test_clip_and_input_forget(tmp_path):
    feeds = {"x": 3 * f(STEPS, BATCH, WIDTH)}
    options = {"clip": 0.5, "hidden_size": HIDDEN, "outputs": 3, "input_forget": 1}
    check(single("LSTM", feeds, weights("LSTM"), **options), feeds, tmp_path, 1e-4, 1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
def test_other_widths(tmp_path, dtype):
    feeds = {"x": f(STEPS, BATCH, WIDTH).astype(dtype)}
    constants = {name: array.astype(dtype) for name, array in weights("LSTM").items()}
    proto = single("LSTM", feeds, constants, hidden_size=HIDDEN, outputs=3)
    tolerance = 1e-10 if dtype == np.float64 else 1e-2
    check(proto, feeds, tmp_path, tolerance, tolerance, "onnx")


def test_unknown_activations_are_refused(tmp_path):
    options = {"activations": ["Swish"], "hidden_size": HIDDEN, "outputs": 2}
    proto = single("RNN", {"x": f(STEPS, BATCH, WIDTH)}, weights("RNN"), **options)
    with pytest.raises(UnsupportedOperatorError, match="swish"):
        load(proto, tmp_path)
