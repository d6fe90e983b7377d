"""Every point of the recurrences' schedule space computes the same."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit

from motet.targets.host.kernels.recurrent.family import FAMILY, points, problem_of, width_of
from motet.targets.host.kernels.recurrent.weights import Blocks
from motet.targets.host.machine import Machine, native_machine
from motet.targets.host.space import Point, Problem, forced, selecting
from motet.targets.operators.recurrence import Recurrence, recurrence

RNG = np.random.default_rng(2)
STEPS, HIDDEN = 3, 37
ACTIVATIONS = {"LSTM": ("sigmoid", "tanh", "tanh"), "GRU": ("sigmoid", "tanh"), "RNN": ("tanh",)}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def what_of(cell: str) -> Recurrence:
    operands = ("projected", "recurrent", "h", *(("c",) if cell == "LSTM" else ()))
    return Recurrence(cell, operands, tuple((name, 0.0, 0.0) for name in ACTIVATIONS[cell]))


def operands_of(cell: str, batch: int) -> list[Array]:
    width = GATES[cell] * HIDDEN
    shapes = [(STEPS, batch, width), (HIDDEN, width), *[(batch, HIDDEN)] * what_of(cell).states]
    return [(0.5 * RNG.standard_normal(shape)).astype(np.float32) for shape in shapes]


def logistic(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def expected(cell: str, operands: Sequence[Array]) -> Array:
    """All outputs, in double precision."""
    projected, r, h, *cells = (x.astype(np.float64) for x in operands)
    outputs, n = [], HIDDEN
    c = cells[0] if cells else h
    for x in projected:
        if cell == "RNN":
            h = np.tanh(x + h @ r)
        elif cell == "LSTM":
            i, o, f, g = np.split(x + h @ r, 4, 1)
            c = logistic(f) * c + logistic(i) * np.tanh(g)
            h = logistic(o) * np.tanh(c)
        else:
            z, reset = np.split(logistic(x[:, : 2 * n] + h @ r[:, : 2 * n]), 2, 1)
            h = (1 - z) * np.tanh(x[:, 2 * n :] + (reset * h) @ r[:, 2 * n :]) + z * h
        outputs.append(h)
    return np.stack(outputs)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("cell", ["LSTM", "GRU", "RNN"])
def test_points_agree(cell: str, batch: int, tmp_path: Path):
    what, operands = what_of(cell), operands_of(cell, batch)
    problem = problem_of(what, STEPS, batch, HIDDEN, 32)
    space = points(problem, native_machine())
    want = expected(cell, operands)
    like = [want.astype(np.float32), *operands[2:]]
    for number, point in enumerate({space[0], space[-1], space[len(space) // 3]}):
        folder = tmp_path / str(number)
        folder.mkdir()
        with forced({problem: point}):
            y, *_ = run_unit(folder, lambda *p: recurrence(what, p), operands, like, (1,))
        assert np.abs(y - want).max() < 1e-5, point.key


def test_open_batch_takes_tiles_of_rows_and_single_ones(tmp_path: Path):
    what, operands = what_of("LSTM"), operands_of("LSTM", 5)
    seen: list[Problem] = []

    def tiled(_family: object, problem: Problem, space: Sequence[Point], _m: Machine) -> Point:
        seen.append(problem)
        return next(p for p in space if p["rows"] == 2)

    want = expected("LSTM", operands)
    shapes = [(STEPS, "b", 4 * HIDDEN), (HIDDEN, 4 * HIDDEN), ("b", HIDDEN), ("b", HIDDEN)]
    with selecting(tiled):
        y, *_ = run_unit(tmp_path, lambda *p: recurrence(what, p), operands,
                         [want.astype(np.float32), *operands[2:]], (), shapes)  # fmt: skip
    assert [p["batch"] for p in seen] == [-1]
    assert np.abs(y - want).max() < 1e-5


def test_packed_weights_by_hand():
    blocks = Blocks(3, 2, ((0, 1),))
    packed = blocks.pack(np.arange(18, dtype=np.float32).reshape(3, 6))
    assert blocks.count == 2
    # Block 0 begins at element 0, the last one at element 1; gate 1 is three columns further.
    assert packed[:4].tolist() == [0, 1, 3, 4]
    assert packed[12:16].tolist() == [1, 2, 4, 5]


def test_nests_in_numbers():
    problem, machine = problem_of(what_of("LSTM"), 10, 4, 64, 32), native_machine()
    for point in points(problem, machine):
        nest = FAMILY.describe(problem, point, machine)
        assert nest.flops == 2 * 10 * 4 * 64 * 64 * 4
        assert nest.executed_flops >= nest.flops
        assert 64 >= width_of(problem, point, machine) >= nest.lanes
