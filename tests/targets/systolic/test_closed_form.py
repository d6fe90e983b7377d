"""Closed forms against SCALE-Sim's figures and against a register-level model."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolic_register_model import simulate

from motet.targets.systolic.closed_form import gemm_cycles, ws_double_buffered_cycles

DATA = Path(__file__).parent / "data" / "scalesim_cycles_excerpt.csv"
ROWS = list(csv.DictReader(x for x in DATA.read_text().splitlines() if not x.startswith("#")))


def test_the_excerpt_is_whole():
    assert len(ROWS) == 42


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['layer']}-{r['rows']}-{r['dataflow']}")
def test_scalesim_figures(row):
    sizes = [int(row[key]) for key in ("m", "n", "k", "rows", "columns")]
    assert gemm_cycles(*sizes, row["dataflow"]) == int(row["scalesim_cycles"])
    if row["double_buffered_cycles"]:
        cycles = gemm_cycles(*sizes, row["dataflow"], "double-buffered")
        assert cycles == int(row["double_buffered_cycles"])


def resnet50_products():
    """(m, n, k) of ResNet-50's convolutions at 224x224, stride in the 3x3, and its classifier."""
    yield 12544, 64, 147
    channels, size = 64, 56
    for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)]):
        for block in range(blocks):
            out = size // 2 if stage and block == 0 else size
            yield size * size, width, channels
            yield out * out, width, 9 * width
            yield out * out, 4 * width, width
            if block == 0:
                yield out * out, 4 * width, channels
            channels, size = 4 * width, out
    yield 1, 1000, 2048


@pytest.mark.parametrize(
    ("side", "ws", "os", "input_stationary", "double_buffered"),
    [(32, 6349260, 5198904, 6620640, 4072117), (128, 916544, 645374, 1070504, 420078)],
)
def test_resnet50_totals(side, ws, os, input_stationary, double_buffered):
    shapes = list(resnet50_products())

    def total(dataflow, mode="scalesim"):
        return sum(gemm_cycles(*shape, side, side, dataflow, mode) for shape in shapes)

    assert total("weight-stationary") == ws
    assert total("output-stationary") == os
    assert total("input-stationary") == input_stationary
    assert total("weight-stationary", "double-buffered") == double_buffered


@settings(max_examples=60, deadline=None)
@given(
    streamed=st.lists(st.integers(1, 9), min_size=1, max_size=5),
    rows=st.integers(1, 5),
    columns=st.integers(1, 5),
)
def test_register_model_agrees(streamed, rows, columns):
    rng = np.random.default_rng(len(streamed))
    tiles = [
        (rng.integers(-5, 6, (count, rows)), rng.integers(-5, 6, (rows, columns)))
        for count in streamed
    ]
    cycles, outputs = simulate(tiles, rows, columns)
    for (inputs, weights), output in zip(tiles, outputs, strict=True):
        np.testing.assert_array_equal(output, inputs @ weights)
    assert cycles == ws_double_buffered_cycles(streamed, rows, columns)


def test_no_tile_takes_no_cycle():
    assert ws_double_buffered_cycles([], 4, 4) == 0


def test_what_has_no_closed_form():
    with pytest.raises(ValueError, match="output-stationary"):
        gemm_cycles(1, 1, 1, 4, 4, "output-stationary", "double-buffered")
    with pytest.raises(ValueError, match="row-stationary"):
        gemm_cycles(1, 1, 1, 4, 4, "row-stationary")
    with pytest.raises(ValueError, match="at least one row"):
        ws_double_buffered_cycles([3, 0], 4, 4)
