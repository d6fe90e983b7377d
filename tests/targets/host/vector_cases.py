"""Operands of products of vectors, and what they give, for the host's tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
from kernel_runner import Array, run_unit
from tvm import relax

from motet.targets.host.machine import Machine
from motet.targets.operators.vectors import VectorProduct, Window, vector_conv, vector_matmul
from motet.targets.quantized import vectors as reference
from motet.targets.quantized.vectors import Rounding, Vectors


@dataclass(frozen=True)
class Types:
    """W/A/ws/as and the rest; scale bits 0: float32. data: what operands are filled with."""

    w: int = 4
    a: int = 8
    ws: int = 6
    xs: int = 10
    vector: int = 16
    signed: bool = True
    product_bits: int | None = None
    raw: bool = False
    constant: bool = True
    data: str = "random"

    @property
    def what(self) -> VectorProduct:
        """As the operator has it."""
        dtype = "int64" if self.raw else "float32"
        return VectorProduct(self.a, self.w, self.xs, self.ws, self.product_bits, dtype)

    @property
    def rounding(self) -> Rounding:
        """As the reference has it."""
        return Rounding(self.what.dropped, self.product_bits)


def vectors(shape: tuple[int, ...], types: Types, of_weights: bool, seed: int) -> Vectors:
    """(*rest, G) vectors of the data or the weights."""
    rng = np.random.default_rng(seed)
    bits, scale_bits = (types.w, types.ws) if of_weights else (types.a, types.xs)
    signed = of_weights or types.signed
    largest = (1 << (bits - 1)) - 1 if signed else (1 << bits) - 1
    low = (-largest - 1) if signed else 0
    size = (*shape, types.vector)
    if types.data == "extreme":
        values = rng.choice([low, largest], size)
    elif types.data == "largest":
        values = np.full(size, low if of_weights else largest)
    elif types.data == "outlier":
        values = np.where(rng.random(size) < 0.02, largest, 0)
    else:
        values = rng.integers(low, largest + 1, size)
    if scale_bits == 0:
        scales = rng.random(shape).astype(np.float32)
    elif types.data in ("extreme", "largest"):
        scales = np.full(shape, (1 << scale_bits) - 1, np.uint16)
    else:
        scales = rng.integers(0, 1 << scale_bits, shape).astype(np.uint16)
    return Vectors(values.astype(np.int8 if signed else np.uint8), scales)


@dataclass(frozen=True)
class Product:
    """A product: batch of both sides (of the left alone where ``shared``)."""

    rows: int = 9
    columns: int = 21
    count: int = 3
    batch: tuple[int, ...] = ()
    shared: bool = True
    symbolic: bool = False


@dataclass(frozen=True)
class Convolution:
    """``inputs`` and ``outputs``: vectors of data, channels of the result, of all groups."""

    space: tuple[int, ...] = (9, 10)
    taps: tuple[int, ...] = (3, 3)
    inputs: int = 2
    outputs: int = 21
    strides: tuple[int, ...] = (1, 1)
    pads: tuple[int, ...] = (1, 1, 1, 1)
    dilations: tuple[int, ...] = (1, 1)
    groups: int = 1
    batch: int = 2
    symbolic: bool = False

    @property
    def window(self) -> Window:
        """As the operator has it."""
        return Window(self.strides, self.pads, self.dilations, self.groups)


After = Callable[..., Any]
"""What follows an operator: (result, other operands) to a Relax expression."""


def run_product(
    case: Product, types: Types, machine: Machine | None = None, seed: int = 0
) -> tuple[Array, Array]:
    """What the kernel gives, and the reference."""
    left = vectors((*case.batch, case.rows, case.count), types, False, seed)
    lead = () if case.shared else case.batch
    right = vectors((*lead, case.columns, case.count), types, True, seed + 1)
    each = case.columns if case.shared else 1
    factor = np.random.default_rng(seed).random(each).astype(np.float32)
    if not case.shared:
        factor = factor.reshape(())
    expected = reference.vector_matmul(left, right, None if types.raw else factor, types.rounding)
    inputs = [left.integers, left.scales, right.integers, right.scales, factor]
    shapes: list[Any] = [x.shape for x in inputs]
    if case.symbolic:
        names = [f"b{i}" for i in range(len(case.batch))]
        shapes[0] = (*names, "rows", case.count, types.vector)
        shapes[1] = (*names, "rows", case.count)
        if not case.shared:
            shapes[2] = (*names, "columns", case.count, types.vector)
            shapes[3] = (*names, "columns", case.count)
    constants = (2, 3) if types.constant else ()
    found = run_unit(
        Path(mkdtemp()), lambda *p: vector_matmul(types.what, p), inputs, [expected], constants,
        shapes, machine,
    )  # fmt: skip
    return found[0], expected


def run_convolution(
    case: Convolution, types: Types, machine: Machine | None = None, seed: int = 0,
    bias: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """What the kernel gives, and the reference; bias: with a bias, a residual and relu behind."""
    data = vectors((case.batch, *case.space, case.inputs), types, False, seed)
    per_group = case.inputs // case.groups
    weights = vectors((case.outputs, *case.taps, per_group), types, True, seed + 1)
    rng = np.random.default_rng(seed)
    factor = rng.random(case.outputs).astype(np.float32)
    expected = reference.vector_conv(
        data, weights, None if types.raw else factor, types.rounding, strides=case.strides,
        pads=case.pads, dilations=case.dilations, groups=case.groups,
    )  # fmt: skip
    inputs = [data.integers, data.scales, weights.integers, weights.scales, factor]
    shapes: list[Any] = [x.shape for x in inputs]
    if case.symbolic:
        shapes[0] = ("n", *case.space, case.inputs, types.vector)
        shapes[1] = ("n", *case.space, case.inputs)

    def build(*p: Any) -> Any:
        return vector_conv(types.what, case.window, p)

    if bias:
        inputs += [
            rng.standard_normal((1, case.outputs) + (1,) * len(case.space)),
            rng.standard_normal(expected.shape),
        ]
        inputs = [x.astype(np.float32) if x.dtype == np.float64 else x for x in inputs]
        shapes += [x.shape for x in inputs[5:]]
        expected = np.maximum(expected + inputs[5] + inputs[6], np.float32(0))
        plain = build

        def build(*p: Any) -> Any:
            block = relax.BlockBuilder.current()
            y = block.emit(plain(*p[:5]))
            y = block.emit(relax.op.add(y, p[5]))
            y = block.emit(relax.op.add(y, p[6]))
            return relax.op.nn.relu(y)

    constants = (2, 3) if types.constant else ()
    found = run_unit(Path(mkdtemp()), build, inputs, [expected], constants, shapes, machine)
    return found[0], expected
