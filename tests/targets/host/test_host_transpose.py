"""Transpositions in register tiles against numpy."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit
from tvm import relax

DTYPES = ["float32", "float16", "float64", "int8", "uint8", "int16", "int64", "bool"]


def numbered(shape: tuple[int, ...], dtype: str) -> Array:
    count = int(np.prod(shape))
    if dtype == "bool":
        return (np.arange(count) % 3 == 0).reshape(shape)
    return (np.arange(count) % 199).astype(dtype).reshape(shape)


def check(x: Array, axes: list[int], symbolic: bool = False) -> None:
    def build(a: Any) -> Any:
        return relax.op.permute_dims(a, axes)

    want = np.ascontiguousarray(x.transpose(axes))
    shapes: Any = [("n", *x.shape[1:])] if symbolic else None
    with tempfile.TemporaryDirectory() as folder:
        (got,) = run_unit(Path(folder), build, [x], [want], (), shapes)
    np.testing.assert_array_equal(got, want)


@given(st.data())
@settings(max_examples=20, deadline=None)
def test_any_permutation(data: st.DataObject) -> None:
    rank = data.draw(st.integers(2, 5))
    sizes = st.sampled_from([1, 2, 3, 4, 7, 8, 16, 19, 33])
    shape = tuple(data.draw(st.lists(sizes, min_size=rank, max_size=rank)))
    axes = data.draw(st.permutations(range(rank)))
    check(numbered(shape, data.draw(st.sampled_from(DTYPES))), axes, data.draw(st.booleans()))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(67, 131), (130, 8), (8, 515), (3, 300)], ids=str)
def test_matrices_with_odd_ends(shape: tuple[int, int], dtype: str) -> None:
    check(numbered(shape, dtype), [1, 0])


@pytest.mark.parametrize("symbolic", [False, True])
def test_blocks_of_channels_there_and_back(symbolic: bool) -> None:
    check(numbered((2, 3, 8, 9, 11), "float32"), [0, 1, 3, 4, 2], symbolic)
    check(numbered((2, 3, 9, 11, 8), "float32"), [0, 1, 4, 2, 3], symbolic)


def test_what_follows_is_computed_too(tmp_path: Path) -> None:
    x, b = numbered((24, 40), "float32"), numbered((24,), "float32")

    def build(x: Any, b: Any) -> Any:
        return relax.op.add(relax.op.permute_dims(x, [1, 0]), b)

    want = np.ascontiguousarray(x.T + b)
    (got,) = run_unit(tmp_path, build, [x, b], [want])
    np.testing.assert_array_equal(got, want)
