"""Weights in few bits: what comes back, what it takes, and which files are read."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vm_programs import affine_program, bundle_of

from motet.runtime.bundle import open_bundle, to_bytes
from motet.runtime.errors import BundleError
from motet.runtime.manifest import Packing, Weight
from motet.runtime.weight_packing import pack, packed_bytes, packing_of, unpack

RANDOM = np.random.default_rng(3)


def integers(low: int, high: int, shape: Any, dtype: str) -> np.ndarray[Any, Any]:
    return RANDOM.integers(low, high, shape, endpoint=True).astype(dtype)


FOUR_BITS = integers(-7, 7, (64, 33), "int8")
PAIRS = integers(-8, 7, (16, 9, 32), "int16").view("int32")
FOURS = integers(-8, 7, (8, 5, 64), "int8").view("int32")
BFLOAT = (RANDOM.standard_normal(4000).astype("float32").view("uint32") & 0xFFFF0000).view(
    "float32"
)
HALVES = RANDOM.standard_normal((40, 100)).astype("float16").astype("float32")


@pytest.mark.parametrize(
    ("array", "packing"),
    [
        (FOUR_BITS, Packing("int8", 4, -7)),
        (integers(-1, 1, 1000, "int8"), Packing("int8", 2, -1)),
        (integers(120, 135, 1000, "uint8"), Packing("uint8", 4, 120)),
        (PAIRS, Packing("int16", 4, -8)),
        (FOURS, Packing("int8", 4, -8)),
        (integers(-100, 100, 1000, "int16"), Packing("int16", 8, -100)),
        (integers(-30000, 30000, 1000, "int32"), Packing("int32", 16, -30000)),
        (integers(0, 1, 1001, "int64"), Packing("int64", 1, 0)),
        (BFLOAT, Packing("float32", 16, kind="bfloat16")),
        (HALVES, Packing("float32", 16, kind="float16")),
    ],
)
def test_what_is_packed_how_and_comes_back(array: Any, packing: Packing):
    array.flat[:2] = array.min(), array.max()
    if array.dtype.kind in "iu":  # both ends of the range are there
        lanes = array.reshape(-1).view(packing.lane)
        packing = Packing(packing.lane, packing.bits, int(lanes.min()))
    assert packing_of(array) == packing
    data = pack(array, packing)
    assert data.nbytes == packed_bytes(packing, array.nbytes)
    weight = Weight(64, array.dtype.name, array.shape, packing)
    section = memoryview(bytearray(bytes(64) + data.tobytes()))
    result = unpack(weight, packing, section)
    assert result.tobytes() == array.tobytes()
    assert (result.dtype, result.shape) == (array.dtype, array.shape)
    assert result.ctypes.data % 64 == 0
    assert result.flags.writeable


@pytest.mark.parametrize(
    "array",
    [
        RANDOM.standard_normal(4000).astype("float32"),
        np.full(4000, np.nextafter(np.float32(1), np.float32(2))),
        integers(-128, 127, 4000, "int8"),
        integers(-7, 7, 60, "int8"),  # 64 bytes either way
        np.zeros((0, 7), "int32"),
        np.ones(4000, bool),
        RANDOM.standard_normal(4000),
    ],
)
def test_what_saves_nothing_stays(array: Any):
    assert packing_of(array) is None


def test_floats_of_which_few_do_not_fit_stay():
    almost = HALVES.copy()
    almost[-1, -1] = np.float32(1e-30)
    assert packing_of(almost) is None


def test_infinities_of_half_precision_stay():
    assert packing_of(np.array([np.inf, 1 / 1024 + 1, np.nan] * 99, "float16").astype("f4")) is None


def test_every_number_of_half_precision_keeps_its_bits():
    every = np.arange(1 << 16, dtype="uint16").view("float16")
    array = every[np.isfinite(every)].astype("float32")
    packing = packing_of(array)
    assert packing == Packing("float32", 16, kind="float16")
    weight = Weight(0, "float32", array.shape, packing)
    assert unpack(weight, packing, pack(array, packing).data.cast("B")).tobytes() == array.tobytes()


@settings(max_examples=60, deadline=None)
@given(
    bits=st.sampled_from([1, 2, 4, 8, 16]), dtype=st.sampled_from(["i1", "u1", "i2", "u4", "i8"]),
    size=st.integers(200, 700), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_range_of_any_integers(bits: int, dtype: str, size: int, seed: int):
    random, info = np.random.default_rng(seed), np.iinfo(dtype)
    span = min((1 << bits) - 1, int(info.max) - int(info.min))
    base = int(random.integers(int(info.min), int(info.max) - span, endpoint=True, dtype="i8"))
    array = (random.integers(0, span, size, endpoint=True) + base).astype(dtype)
    packing = packing_of(array)
    if packing is None:
        assert bits >= 8 * array.itemsize or array.nbytes <= 256
        return
    assert packed_bytes(packing, array.nbytes) <= -(-size * bits // 8)
    data = pack(array, packing).tobytes()
    weight = Weight(0, array.dtype.name, array.shape, packing)
    assert unpack(weight, packing, memoryview(data)).tobytes() == array.tobytes()


def four_bit_bundle() -> bytes:
    return to_bytes(bundle_of({"m": affine_program()}, b"k", [np.ones(8, "float32"), FOUR_BITS]))


def test_a_bundle_of_packed_weights_opens_as_it_was(tmp_path: Path):
    path = tmp_path / "x.motet"
    path.write_bytes(four_bit_bundle())
    opened = open_bundle(path)
    np.testing.assert_array_equal(opened.weights[1], FOUR_BITS)
    packed = opened.manifest.weights[1].packing
    assert packed is not None
    assert packed.bits == 4
    assert to_bytes(opened) == to_bytes(open_bundle(opened.save(tmp_path / "y.motet")))


def test_every_altered_byte_of_packed_weights_is_found(tmp_path: Path):
    good, path = four_bit_bundle(), tmp_path / "x.motet"
    for position in range(len(good) - 1100, len(good), 7):
        bad = bytearray(good)
        bad[position] ^= 16
        path.write_bytes(bad)
        with pytest.raises(BundleError, match=r"x\.motet"):
            open_bundle(path)


def as_format_4(data: bytes) -> bytes:
    """A bundle as it was before weights were packed: its digest is of the manifest alone."""
    (size,) = struct.unpack_from("<Q", data, 16)
    text = data[64 : 64 + size].replace(b',"packing":null', b"")
    text = text.ljust(size, b" ")
    head = data[:8] + struct.pack("<I", 4) + data[12:32]
    return head + hashlib.sha256(text).digest() + text + data[64 + size :]


def test_a_bundle_of_the_format_before_opens(tmp_path: Path):
    weights = [np.arange(8, dtype="float32") / 3]
    path = tmp_path / "old.motet"
    path.write_bytes(as_format_4(to_bytes(bundle_of({"m": affine_program()}, b"k", weights))))
    np.testing.assert_array_equal(open_bundle(path).weights[0], weights[0])


def test_a_version_that_was_altered_is_found(tmp_path: Path):
    data, path = bytearray(four_bit_bundle()), tmp_path / "x.motet"
    struct.pack_into("<I", data, 8, 4)
    path.write_bytes(data)
    with pytest.raises(BundleError, match="the manifest was altered"):
        open_bundle(path)


@pytest.mark.parametrize(
    "weight",
    [
        Weight(0, "int8", (4096,), Packing("int8", 4)),  # more than the section has
        Weight(0, "int8", (-4,), Packing("int8", 4)),
        Weight(0, "int8", (7,), Packing("int32", 4)),
        Weight(8, "int8", (64,), Packing("int8", 4)),
        Weight(0, "float99", (64,), Packing("int8", 4)),
        Weight(0, "object", (64,), Packing("int8", 4)),
    ],
)
def test_an_entry_that_lies_is_refused(weight: Weight):
    from motet.runtime.bundle import _Reader

    with pytest.raises(BundleError, match="index entry is wrong"):
        _Reader("x", bytes(64)).weight(weight, memoryview(bytes(256)))
