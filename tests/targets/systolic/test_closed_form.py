"""Closed forms against SCALE-Sim's figures and against a register-level model."""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from systolic_register_model import simulate

from motet.targets.systolic.closed_form import (
    DATAFLOWS,
    conv1d_cycles,
    fuseconv_1d_cycles,
    fuseconv_depthwise_cycles,
    fuseconv_gemm_cycles,
    gemm_cycles,
    gemm_cycles_array,
    os_double_buffered_cycles,
    spatial_double_buffered_cycles,
    spatial_words,
    ws_double_buffered_cycles,
)

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


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: gemm_cycles(1, 1, 1, 4, 4, "row-stationary"), "row-stationary"),
        (lambda: gemm_cycles(1, 1, 1, 4, 4, "output-stationary", "exact"), "exact"),
        (lambda: gemm_cycles(1, 1, 1, 4, 4, "input-stationary", "fuseconv"), "input-stationary"),
        (lambda: ws_double_buffered_cycles([3, 0], 4, 4), "at least one row"),
        (lambda: os_double_buffered_cycles([3, 0], 4, 4), "at least one product"),
    ],
)
def test_what_has_no_closed_form(call, says):
    with pytest.raises(ValueError, match=says):
        call()


SIZES = st.integers(1, 40)


@given(m=SIZES, n=SIZES, k=SIZES, rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_whole_products_are_their_tiles_in_a_row(m, n, k, rows, columns):
    def folds(down, across):
        return math.ceil(down / rows) * math.ceil(across / columns)

    def cycles(dataflow):
        return gemm_cycles(m, n, k, rows, columns, dataflow, "double-buffered")

    weights, inputs, outputs = folds(k, n), folds(k, m), folds(m, n)
    assert cycles("weight-stationary") == ws_double_buffered_cycles([m] * weights, rows, columns)
    assert cycles("input-stationary") == ws_double_buffered_cycles([n] * inputs, rows, columns)
    assert cycles("output-stationary") == os_double_buffered_cycles([k] * outputs, rows, columns)


@given(m=SIZES, n=SIZES, k=SIZES, rows=st.integers(1, 9), columns=st.integers(1, 9))
def test_fuseconv_sums_its_folds(m, n, k, rows, columns):
    down = [min(rows, m - at) for at in range(0, m, rows)]
    across = [min(columns, n - at) for at in range(0, n, columns)]
    expected = sum(k + r + c - 1 for r in down for c in across)
    assert gemm_cycles(m, n, k, rows, columns, "output-stationary", "fuseconv") == expected
    assert fuseconv_depthwise_cycles(m, n, k, rows, columns) == n * fuseconv_gemm_cycles(
        m, 1, k, rows, columns
    )


# FuSeConv, arXiv 2105.13434: cycles on 64x64, recomputed from the definitions of the networks.
@pytest.mark.parametrize(
    ("variant", "replaced", "cycles"),
    [
        ("base", 0, 2521760),
        ("full", 13, 621072),
        ("half", 13, 375032),
        ("full", 5, 1143728),
        ("half", 5, 1064904),
    ],
)
def test_fuseconv_mobilenet_v1(variant, replaced, cycles):
    assert mobilenet_v1_cycles(variant, replaced) == cycles


def mobilenet_v1_cycles(variant, replaced):
    """FuSeConv's cycles of MobileNetV1 on 64x64 with the first ``replaced`` blocks replaced."""
    outputs = [64, 128, 128, 256, 256, *[512] * 6, 1024, 1024]
    total = fuseconv_gemm_cycles(112 * 112, 32, 27, 64, 64)
    channels, size = 32, 112
    for block, wide in enumerate(outputs):
        stride = 2 if block in (1, 3, 5, 11) else 1
        positions = (size // stride) ** 2
        if block >= replaced:
            total += fuseconv_depthwise_cycles(positions, channels, 9, 64, 64)
            inner = channels
        else:
            each = channels if variant == "full" else channels // 2
            total += 2 * fuseconv_1d_cycles(size * each, size + 2, 3, stride, 64, 64)
            inner = 2 * each
        total += fuseconv_gemm_cycles(positions, wide, inner, 64, 64)
        channels, size = wide, size // stride
    return total + fuseconv_gemm_cycles(1, 1000, 1024, 64, 64)


@given(
    outputs=st.integers(1, 40),
    taps=st.integers(1, 9),
    stride=st.integers(1, 4),
    lines=st.integers(1, 20),
)
def test_spatial_words_are_the_window_that_is_read(outputs, taps, stride, lines):
    read = {x * stride + tap for x in range(outputs) for tap in range(taps)}
    assert spatial_words(outputs, taps, stride) == len(read)
    tiles = [min(5, outputs - at) for at in range(0, outputs, 5)] * math.ceil(lines / 4)
    cycles = spatial_double_buffered_cycles([spatial_words(w, taps, stride) for w in tiles], 4)
    assert conv1d_cycles(lines, outputs, taps, stride, 4, 5) == cycles


@pytest.mark.parametrize("mode", ["scalesim", "double-buffered"])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_arrays_of_sizes(mode, dataflow):
    sizes = [(3, 5, 7), (64, 10, 9), (1, 1, 1)]
    columns = np.array(sizes).T
    got = gemm_cycles_array(*columns, 4, 8, dataflow, mode)
    assert got.tolist() == [gemm_cycles(*each, 4, 8, dataflow, mode) for each in sizes]
