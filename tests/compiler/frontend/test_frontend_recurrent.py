"""Recurrent operators, unrolled, against onnxruntime."""

import numpy as np
import pytest
from frontend_models import check, load, single

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(3)
STEPS, BATCH, WIDTH, HIDDEN = 4, 2, 3, 5
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


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
    check(single(op, feeds, constants, **options), feeds, tmp_path, 1e-4, 1e-5, "onnxruntime")


def test_gru_with_the_reset_after_the_product(tmp_path):
    feeds = {"x": f(STEPS, BATCH, WIDTH)}
    options = {"linear_before_reset": 1, "hidden_size": HIDDEN, "outputs": 2}
    proto = single("GRU", feeds, weights("GRU"), **options)
    check(proto, feeds, tmp_path, 1e-4, 1e-5, "onnxruntime")


def test_lstm_with_states_and_peepholes(tmp_path):
    states = {n: f(1, BATCH, HIDDEN) for n in ("h", "c")}
    feeds = {"x": f(STEPS, BATCH, WIDTH), **states}
    constants = {**weights("LSTM"), "p": f(1, 3 * HIDDEN)}
    names = ["x", "w", "r", "b", "", "h", "c", "p"]
    proto = single("LSTM", feeds, constants, names, 3, hidden_size=HIDDEN)
    check(proto, feeds, tmp_path, 1e-4, 1e-5, "onnxruntime")


def test_unknown_activations_are_refused(tmp_path):
    options = {"activations": ["Softsign"], "hidden_size": HIDDEN, "outputs": 2}
    proto = single("RNN", {"x": f(STEPS, BATCH, WIDTH)}, weights("RNN"), **options)
    with pytest.raises(UnsupportedOperatorError, match="softsign"):
        load(proto, tmp_path)
