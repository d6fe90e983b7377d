"""Kernel calls in a row as one native call: order, stops between two calls, errors."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from runtime_kernels import Kernels
from vm_programs import Draft

from motet.runtime.boundaries import Boundary, Changes
from motet.runtime.call_rows import CallRow
from motet.runtime.device import Array
from motet.runtime.input_copies import LARGE, MOST_IDLE, InputCopies
from motet.runtime.kernels import KernelLibrary
from motet.runtime.memory import aligned_bytes, view
from motet.runtime.side_by_side import BoundCall
from motet.runtime.vm import Machine, ModelVM, fill
from motet.targets.host.build import build_library
from motet.targets.host.machine import native_machine


@pytest.fixture(scope="module")
def library() -> KernelLibrary:
    kernels = {
        str(variable.name_hint): function.with_attr("global_symbol", str(variable.name_hint))
        for variable, function in Kernels.functions.items()
    }
    return KernelLibrary(build_library(kernels, native_machine()), 1)


def vector(length: int = 4) -> Array:
    return view(aligned_bytes(4 * length), 0, "float32", (length,))


def call(library: KernelLibrary, symbol: str, *arrays: Array) -> BoundCall:
    return symbol, library.function(symbol), tuple(map(tvm_ffi.from_dlpack, arrays))


def doubling(library: KernelLibrary, count: int) -> tuple[CallRow, list[Array]]:
    """A row in which each call doubles what the one before gave."""
    values = [vector() for _ in range(count + 1)]
    values[0][...] = 1
    pairs = itertools.pairwise(values)
    row = library.row([call(library, "double", one, other) for one, other in pairs])
    assert row is not None
    return row, values


def test_a_row_runs_its_calls_in_order(library: KernelLibrary) -> None:
    row, values = doubling(library, 10)
    assert len(row) == 10
    row()
    assert [v[0] for v in values] == [2.0**n for n in range(11)]


def test_a_row_goes_on_where_it_stopped(library: KernelLibrary) -> None:
    """Something has always changed since the boundary was seen: it stops after each call."""
    row, values = doubling(library, 5)
    boundary = Boundary(Changes(), seen=-1)
    for position in range(5):
        assert row.go_on(position, boundary) == position + 1
        assert [v[0] for v in values[position + 1 :]] == [2.0 ** (position + 1)] + [0] * (
            4 - position
        )
    boundary.seen = boundary.changes.number
    assert row.go_on(2, boundary) == 5
    boundary.changes.told()
    assert row.go_on(0, boundary) == 1


def test_a_row_raises_what_its_kernel_raises(library: KernelLibrary) -> None:
    good, out = vector(), vector()
    wrong = call(library, "double", vector(8), out)
    row = library.row([call(library, "double", good, out), wrong, wrong])
    assert row is not None
    with pytest.raises(Exception, match=r"(?i)shape|mismatch|expect") as caught:
        row()
    with pytest.raises(type(caught.value)):
        row.go_on(1, Boundary(Changes()))
    assert row.go_on(0, Boundary(Changes(), -1)) == 1  # the first call is good


def test_frames_run_rows_where_the_library_has_them(library: KernelLibrary) -> None:
    draft = Draft()
    value = x = draft.input("x", (4,))
    for _ in range(3):
        value = draft.kernel("double", value, draft.stored((4,)))
    draft_sum = draft.kernel("add", value, x, draft.stored((4,)))
    frame = ModelVM("m", draft.finish(y=draft_sum), Machine(library, [])).bind(((4,),))
    ((function, arguments),) = frame._calls or [(None, ())]
    assert isinstance(function, CallRow)
    assert (len(function), arguments) == (4, ())
    fill(frame, {0: np.arange(4, dtype=np.float32)})
    boundary = Boundary(Changes(), seen=-1)
    assert list(frame.pausing(boundary)) == [1, 1, 1, 1]
    np.testing.assert_array_equal(frame.outputs[0], 9 * np.arange(4, dtype=np.float32))
    boundary.seen = 0
    assert list(frame.pausing(boundary)) == [4]


def test_copies_of_inputs_are_used_again() -> None:
    copies = InputCopies()
    arrays: dict[int, Any] = {0: np.arange(LARGE / 8), 2: np.ones((2, 3), np.int8)}
    first, first_read = copies.take(arrays)
    second, _ = copies.take(arrays)
    assert first_read is not None
    assert not any(np.shares_memory(first[n], second[n]) for n in arrays)
    first_read()
    arrays[0] += 1
    again, again_read = copies.take(arrays)
    assert again_read is not None
    assert again is first
    for number, array in arrays.items():
        np.testing.assert_array_equal(again[number], array)
    np.testing.assert_array_equal(second[0], np.arange(LARGE / 8))
    again_read()
    assert copies.take({0: np.arange(LARGE / 8 + 1), 2: arrays[2]})[0] is not again
    for _, read in [copies.take(arrays) for _ in range(2 * MOST_IDLE)]:
        assert read is not None
        read()
    assert len(copies._idle) == MOST_IDLE


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=">f4").reshape(2, 3).T,
        np.arange(9)[::2],
        np.array(5),
        np.zeros((0, 4), np.float16),
        np.array([True, False]),
    ],
    ids=["transposed", "strided", "scalar", "empty", "bool"],
)
def test_small_copies_are_made_anew(array: np.ndarray[Any, Any]) -> None:
    copies = InputCopies()
    found, read = copies.take({0: array})
    assert read is None
    assert (found[0].shape, found[0].dtype) == (array.shape, array.dtype)
    np.testing.assert_array_equal(found[0], array)
    assert not np.shares_memory(found[0], array)
