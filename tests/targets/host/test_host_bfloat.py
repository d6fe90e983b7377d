"""Products with weights in bfloat16: rounded once when packed, exact from there on."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit, unit_of
from tvm import relax, tirx

from motet.runtime.element_types import numpy_dtype
from motet.targets.host.kernels.bfloat import bits_of
from motet.targets.host.kernels.matmul import family
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import Machine, machine_for, native_machine
from motet.targets.host.object_code import compile_kernel
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Family, Point, Problem, selecting

BF16 = KernelOptions(compute="bf16")
RNG = np.random.default_rng(5)


def rounded(x: Array) -> Array:
    return x.astype(numpy_dtype("bfloat16")).astype(np.float64)


def normal(*shape: int) -> Array:
    return RNG.standard_normal(shape).astype(np.float32)


def activations(*shape: int) -> Array:
    """As ``round_operands`` leaves them where the machine has an instruction for pairs."""
    x = normal(*shape)
    return rounded(x).astype(np.float32) if native_machine().multiplies_bfloat16 else x


def test_bits_are_rounded_to_even() -> None:
    values = np.float32([1.0, 3.14159, -2.0, np.inf, 1 + 2**-8, 1 + 3 * 2**-8])
    codes = ["0x3f80", "0x4049", "0xc000", "0x7f80", "0x3f80", "0x3f82"]
    assert [hex(code) for code in bits_of(values)] == codes


@given(st.integers(1, 16), st.integers(1, 140), st.integers(1, 40), st.booleans())
@settings(max_examples=25, deadline=None, derandomize=True)
def test_products(rows: int, depth: int, columns: int, transposed: bool) -> None:
    a, b = activations(rows, depth), normal(depth, columns)
    bias = normal(columns)
    expected = np.maximum(a.astype(np.float64) @ rounded(b) + bias, 0)

    def build(x, w, c):
        w = relax.op.permute_dims(w) if transposed else w
        return relax.op.nn.relu(relax.op.add(relax.op.matmul(x, w), c))

    given_b = np.ascontiguousarray(b.T) if transposed else b
    with tempfile.TemporaryDirectory() as folder:
        like = expected.astype(np.float32)
        (y,) = run_unit(Path(folder), build, [a, given_b, bias], [like], (1, 2), options=BF16)
    assert np.abs(y - expected).max() <= 2e-6 * (1 + np.abs(a) @ np.abs(b)).max()


def deep(_family: Family, _problem: Problem, _points: object, _machine: Machine) -> Point:
    return Point.of(rows=2, vectors=4, block=32, parts=2, right=0, depth=16)


def test_long_sums_in_blocks(tmp_path: Path) -> None:
    a, b = activations(13, 84), normal(84, 100)
    expected = a.astype(np.float64) @ rounded(b)
    like = expected.astype(np.float32)
    with selecting(deep):
        (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [like], (1,), options=BF16)
    assert np.abs(y - expected).max() <= 5e-5


@pytest.mark.parametrize(
    ("size", "kernel", "channels"), [(4, 3, 16), (3, 1, 24), (1, 1, 8), (2, 2, 12)]
)
def test_convolutions(size: int, kernel: int, channels: int, tmp_path: Path) -> None:
    block, pad = native_machine().vector_bytes // 4, kernel // 2
    ins, outs = 2 * block, block * -(-channels // block)
    x, w = normal(1, ins, size, size), normal(outs, ins, kernel, kernel)
    blocked = x.reshape(1, 2, block, size, size).transpose(0, 1, 3, 4, 2)
    layout = f"NCHW{block}c"

    def build(x, w):
        return relax.op.nn.conv2d(
            x, w, padding=pad, data_layout=layout, kernel_layout="OIHW", out_layout=layout
        )

    wide = np.pad(x.astype(np.float64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    windows = np.lib.stride_tricks.sliding_window_view(wide, (kernel, kernel), (2, 3))
    expected = np.einsum("nihwkl,oikl->nohw", windows, rounded(w))
    n, _, height, width = expected.shape
    like = np.zeros((n, outs // block, height, width, block), np.float32)
    given_x = np.ascontiguousarray(blocked)
    (y,) = run_unit(tmp_path, build, [given_x, w], [like], (1,), options=BF16)
    plain = y.transpose(0, 1, 4, 2, 3).reshape(expected.shape)
    assert np.abs(plain - expected).max() <= 1e-4


@pytest.mark.parametrize(("rows", "size"), [(4, 2), (64, 4)])
def test_weights_that_are_read_seldom_take_half_the_bytes(rows: int, size: int) -> None:
    unit = unit_of([(rows, 64), (64, 32)], ["float32"] * 2, relax.op.matmul)
    lowered = lower_unit(unit, frozenset({1}), machine_for("x86-64-v3"), BF16)
    assert lowered.packings[1](normal(64, 32)).nbytes == size * 64 * 32


def emulated(total: Any, left: Any, right: Any) -> Any:
    """What the instruction computes, in float32."""
    lanes = int(left.ty.dtype.lanes)
    for half in (lambda w: w << tirx.const(16, w.ty.dtype),
                 lambda w: w & tirx.const(0xFFFF0000, w.ty.dtype)):  # fmt: skip
        x, w = (tirx.reinterpret(f"float32x{lanes}", half(side)) for side in (left, right))
        total = total + x * w
    return total


@pytest.mark.parametrize("rows", [1, 7, 40])
@pytest.mark.parametrize("selector", [None, deep])
def test_dot_products_of_pairs(
    rows: int, selector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(family, "added_dots", emulated)
    monkeypatch.setattr(family, "with_dots", lambda body, words: body)
    monkeypatch.setattr(Machine, "multiplies_bfloat16", True)
    a, b = rounded(normal(rows, 84)).astype(np.float32), normal(84, 100)
    like = normal(rows, 100)
    with selecting(selector) if selector else nullcontext():
        (y,) = run_unit(tmp_path, relax.op.matmul, [a, b], [like], (1,), options=BF16)
    assert np.abs(y - a.astype(np.float64) @ rounded(b)).max() <= 5e-5


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
def test_the_instruction_is_used_where_the_machine_has_it(tmp_path: Path) -> None:
    machine = machine_for("x86-64-v4-bf16")
    unit = unit_of([(64, 64), (64, 96)], ["float32"] * 2, relax.op.matmul)
    lowered = lower_unit(unit, frozenset({1}), machine, BF16)
    file = tmp_path / "kernel.o"
    file.write_bytes(compile_kernel("kernel", lowered.func, machine))
    text = subprocess.run(["objdump", "-d", file], capture_output=True, text=True, check=True)
    assert "vdpbf16ps" in text.stdout
    assert "vfmadd" not in text.stdout
