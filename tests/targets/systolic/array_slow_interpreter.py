"""A second implementation of the instruction set: plain numpy, one instruction at a time.

Written from ``instructions/isa.py`` alone and shares no code with the simulators, so that
they can be checked against it. It takes a program's instructions in any sequential order
(WAIT and SIGNAL do nothing); ``run_program`` finds one that the semaphores allow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.isa import (
    ENGINES,
    NO_OPERAND,
    Activation,
    Flag,
    Function,
    Opcode,
)
from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram, Tensor

Array = np.ndarray[Any, Any]
LIMITS = {"int8": (-128, 127), "int4": (-8, 7)}
EMPTY = 0x7FC0DEAD  # a NaN; what memories hold before anything is written


def rounded_to_bf16(values: Array) -> Array:
    """fp32 values rounded to the nearest bf16, ties to even."""
    bits = np.ascontiguousarray(values, np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & np.uint32(0xFFFF0000)
    return np.where(np.isnan(values), np.float32(np.nan), rounded.view(np.float32))


def activated(kind: int, x: Array, alpha: float) -> Array:
    """``Activation`` ``kind`` of fp32 values, computed in fp64."""
    x = x.astype(np.float64)
    erf = np.vectorize(math.erf, otypes=[float])
    soft = np.logaddexp(0, x)
    table = {
        Activation.NONE: lambda: x,
        Activation.SIGMOID: lambda: 1 / (1 + np.exp(-x)),
        Activation.TANH: lambda: np.tanh(x),
        Activation.ERF: lambda: erf(x),
        Activation.GELU: lambda: 0.5 * x * (1 + erf(x / math.sqrt(2))),
        Activation.GELU_TANH: lambda: (
            0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
        ),
        Activation.SILU: lambda: x / (1 + np.exp(-x)),
        Activation.HARD_SIGMOID: lambda: np.clip(alpha * x + 0.5, 0, 1),
        Activation.HARD_SWISH: lambda: x * np.clip(x / 6 + 0.5, 0, 1),
        Activation.LEAKY_RELU: lambda: np.where(x < 0, alpha * x, x),
        Activation.ELU: lambda: np.where(x < 0, alpha * np.expm1(x), x),
        Activation.SOFTPLUS: lambda: soft,
        Activation.MISH: lambda: x * np.tanh(soft),
        Activation.EXP: lambda: np.exp(x),
        Activation.SQRT: lambda: np.sqrt(x),
        Activation.RECIPROCAL: lambda: 1 / x,
        Activation.RSQRT: lambda: 1 / np.sqrt(x),
        Activation.ABS: lambda: np.abs(x),
        Activation.NEGATE: lambda: -x,
    }
    return table[Activation(kind)]().astype(np.float32)


class SlowInterpreter:
    """Memories of all pods, and what each instruction does to them.

    Parameters
    ----------
    number_format: name of the program's format.
    tensors, views: the program's; arrays of tensors in DRAM are given to ``run``.
    pods: number of pods; scratchpad_words, accumulator_words: sizes of their memories.
    """

    def __init__(
        self,
        number_format: str,
        tensors: Sequence[Tensor],
        views: Sequence[View],
        pods: int,
        scratchpad_words: int,
        accumulator_words: int,
    ) -> None:
        self.name = number_format
        self.format = FORMATS[number_format]
        self.tensors, self.views = tensors, views
        unknown = -99 if self.format.is_integer else np.nan
        self.scratchpads = np.full((pods, scratchpad_words), unknown, self.format.stored)
        self.accumulators = np.full((pods, accumulator_words), EMPTY, np.uint32)
        self.dram: dict[int, Array] = {}

    def run(self, instructions: Sequence[Any], arguments: Sequence[Array]) -> list[Array]:
        """The OUTPUT tensors after ``instructions``, in order, from INPUT and WEIGHT arrays."""
        given = iter(arguments)
        for number, tensor in enumerate(self.tensors):
            if tensor.role in (Role.INPUT, Role.WEIGHT):
                array = next(given)
                assert array.size == tensor.elements
                self.dram[number] = array.reshape(-1).copy()
            elif tensor.resident is None:
                kind = {Element.WORD: self.format.stored, Element.INT32: np.dtype(np.int32)}
                dtype = kind.get(tensor.element, np.dtype(np.float32))
                self.dram[number] = np.full(tensor.elements, -77 if dtype.kind == "i" else np.nan)
                self.dram[number] = self.dram[number].astype(dtype)
        with np.errstate(all="ignore"):
            for one in instructions:
                self._execute(one)
        return [
            self.dram[number].reshape(tensor.shape)
            for number, tensor in enumerate(self.tensors)
            if tensor.role is Role.OUTPUT
        ]

    def _execute(self, one: Any) -> None:
        opcode = Opcode(one["opcode"])
        if opcode not in (Opcode.WAIT, Opcode.SIGNAL):
            getattr(self, f"_{opcode.name.lower()}")(one)

    # -- operands ---------------------------------------------------------------------

    def _addresses(self, view: View, one: Any, rows: int, columns: int) -> Array:
        """Linear addresses [rows, columns] in the view's tensor; -1 in the padding."""
        assert one["group"] < view.group.extent
        assert one["row"] + rows <= view.row_count, one
        assert one["column"] + columns <= view.column_count, one
        at = np.full((rows, columns), view.offset + int(one["group"]) * view.group.stride, np.int64)
        at += _loop_offsets(view.rows, int(one["row"]), rows)[:, None]
        at += _loop_offsets(view.columns, int(one["column"]), columns)[None, :]
        if not any(view.padding):
            return at
        top, left, _, _ = view.padding
        height, width = view.shape[-2:]
        padded_height, padded_width = view.padded_shape[-2:]
        plane, y, x = (
            at // (padded_height * padded_width),
            at // padded_width % padded_height - top,
            at % padded_width - left,
        )
        inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)
        return np.where(inside, (plane * height + y) * width + x, -1)

    def _memory(self, view: View, pod: int) -> Array:
        tensor = self.tensors[view.tensor]
        assert math.prod(view.shape) == tensor.elements
        if tensor.resident is None:
            return self.dram[view.tensor]
        return self.scratchpads[pod, tensor.resident : tensor.resident + tensor.elements]

    def _read_view(self, one: Any, rows: int, columns: int) -> Array:
        view = self.views[one["operand"]]
        memory = self._memory(view, one["pod"])
        at = self._addresses(view, one, rows, columns)
        assert at.max() < len(memory)
        assert at.min() >= -1
        padding = memory.dtype.type(0)
        if one["flags"] & Flag.PAD_LOWEST:
            padding = memory.dtype.type(LIMITS.get(self.name, (-np.inf,))[0])
        return np.where(at < 0, padding, memory[np.maximum(at, 0)])

    def _scratch(self, pod: int, address: int, rows: int, columns: int) -> Array:
        """A view [rows, columns] of a dense tile."""
        words = self.scratchpads[pod, address : address + rows * columns]
        return words.reshape(columns, rows).T

    def _sums(
        self, pod: int, address: int, rows: int, columns: int, *, fp32: bool = False
    ) -> Array:
        """A view [rows, columns] of an accumulator tile, as the format's sums or as fp32."""
        words = self.accumulators[pod, address : address + rows * columns]
        kind = np.dtype(np.float32) if fp32 else self.format.accumulated
        return words.view(kind).reshape(columns, rows).T

    def _targets(self, one: Any) -> range:
        return range(one["target_pod"], int(one["target_pod"]) + int(one["target_pods"]))

    # -- instructions -----------------------------------------------------------------

    def _load(self, one: Any) -> None:
        rows, columns = int(one["rows"]), int(one["columns"])
        view = self.views[one["operand"]]
        tensor = self.tensors[view.tensor]
        assert tensor.resident is None
        values = self._read_view(one, rows, columns)
        for pod in self._targets(one):
            if one["flags"] & Flag.ACCUMULATORS:
                as_fp32 = tensor.element is Element.FP32
                self._sums(pod, one["accumulator_address"], rows, columns, fp32=as_fp32)[...] = (
                    values
                )
            else:
                assert tensor.element is Element.WORD
                self._scratch(pod, one["address"], rows, columns)[...] = values

    def _input_tile(self, one: Any, columns: int) -> Array:
        if one["flags"] & Flag.RESIDENT:
            return self._read_view(one, int(one["rows"]), columns)
        return self._scratch(one["pod"], one["address"], int(one["rows"]), columns)

    def _accumulate(self, one: Any, made: Array, bias: Array) -> None:
        tile = self._sums(
            one["pod"], one["accumulator_address"], int(one["rows"]), int(one["columns"])
        )
        if one["flags"] & Flag.ACCUMULATE:
            tile[...] += made
        elif one["flags"] & Flag.BIAS:
            tile[...] = made + bias
        else:
            tile[...] = made

    def _matmul(self, one: Any) -> None:
        columns, depth, wide = int(one["columns"]), int(one["depth"]), self.format.accumulated
        left = self._input_tile(one, depth).astype(wide)
        right = self._scratch(one["pod"], one["second_address"], depth, columns).astype(wide)
        bias = None
        if one["flags"] & Flag.BIAS:
            bias = self._sums(one["pod"], one["third_address"], 1, columns)
        self._accumulate(one, left @ right, bias)

    def _conv1d(self, one: Any) -> None:
        rows, columns, depth = int(one["rows"]), int(one["columns"]), int(one["depth"])
        stride, wide = int(one["value"]), self.format.accumulated
        lines = self._input_tile(one, (columns - 1) * stride + depth).astype(wide)
        taps = self._scratch(one["pod"], one["second_address"], rows, depth).astype(wide)
        made = np.zeros((rows, columns), wide)
        for tap in range(depth):
            made += lines[:, tap : tap + (columns - 1) * stride + 1 : stride] * taps[:, tap, None]
        bias = None
        if one["flags"] & Flag.BIAS:
            bias = self._sums(one["pod"], one["third_address"], rows, 1)
        self._accumulate(one, made, bias)

    def _vector(self, one: Any) -> None:
        rows, columns, pod = int(one["rows"]), int(one["columns"]), one["pod"]
        tile = self._sums(pod, one["accumulator_address"], rows, columns)
        function = Function(one["function"])
        if function in (Function.ROW_MAXIMUM, Function.ROW_SUM, Function.ROW_SUM_SQUARES):
            self._reduce(one, tile, function)
        made = self._applied(one, tile, function)
        if one["activation"]:
            assert not self.format.is_integer
            made = activated(one["activation"], made, float(one["alpha"]))
        tile[...] = np.clip(made, one["low"], one["high"]) if _limited(one) else made

    def _reduce(self, one: Any, tile: Array, function: Function) -> None:
        vector = self._sums(one["pod"], one["third_address"], int(one["rows"]), 1)
        if function is Function.ROW_MAXIMUM:
            made, join = tile.max(axis=1, keepdims=True), np.maximum
        else:
            squared = tile * tile if function is Function.ROW_SUM_SQUARES else tile
            made, join = squared.sum(axis=1, keepdims=True, dtype=tile.dtype), np.add
        vector[...] = join(vector, made) if one["flags"] & Flag.ACCUMULATE else made

    def _applied(self, one: Any, tile: Array, function: Function) -> Array:
        rows, columns, pod = int(one["rows"]), int(one["columns"]), one["pod"]
        alpha, third = np.float32(one["alpha"]), one["third_address"]
        if function in (Function.COPY, Function.ADD, Function.MULTIPLY, Function.MAXIMUM):
            return self._joined(tile, self._second(one, tile.dtype), function, alpha)
        if function in (Function.COLUMN_SCALE, Function.COLUMN_ADD):
            vector = self._sums(pod, third, 1, columns)
            return tile * vector if function is Function.COLUMN_SCALE else tile + vector
        if function in (Function.ROW_SUBTRACT, Function.ROW_MULTIPLY):
            vector = self._sums(pod, third, rows, 1)
            return tile * vector if function is Function.ROW_MULTIPLY else tile - vector
        if function is Function.REQUANTISE:
            scale = self._sums(pod, third, 1, columns, fp32=True)
            return self._rounded(tile, scale, one)
        if function is Function.ROW_REQUANTISE:
            return self._rounded(tile, self._sums(pod, third, rows, 1, fp32=True), one)
        if function is Function.SCALE:
            if self.format.is_integer:
                return self._rounded(tile, alpha, one)
            return tile * alpha + np.uint32(one["value"]).view(np.float32)
        return tile.copy()

    def _second(self, one: Any, wide: Any) -> Array:
        rows, columns, pod = int(one["rows"]), int(one["columns"]), one["pod"]
        if one["flags"] & Flag.RESIDENT:
            return self._read_view(one, rows, columns).astype(wide)
        if one["flags"] & Flag.ACCUMULATORS:
            return self._sums(pod, one["second_address"], rows, columns)
        return self._scratch(pod, one["second_address"], rows, columns).astype(wide)

    def _joined(self, tile: Array, other: Array, function: Function, alpha: Any) -> Array:
        if function is Function.COPY:
            return other.copy()
        if function is Function.ADD:
            assert alpha == 1 or not self.format.is_integer
            return tile + other if alpha == 1 else tile + alpha * other
        return tile * other if function is Function.MULTIPLY else np.maximum(tile, other)

    def _rounded(self, tile: Array, scale: Any, one: Any) -> Array:
        """round_half_even(d * scale) + value, the product in fp32."""
        assert self.format.is_integer
        made = np.rint(tile.astype(np.float32) * scale).astype(np.float64)
        made += int(np.uint32(one["value"]).view(np.int32))
        return np.clip(made, -(2**31), 2**31 - 1).astype(np.int32)

    def _converted(self, one: Any, element: Element) -> Array:
        """The accumulator tile, clamped, as values of a tensor's element type."""
        rows, columns = int(one["rows"]), int(one["columns"])
        tile = self._sums(one["pod"], one["accumulator_address"], rows, columns)
        made = np.clip(tile, one["low"], one["high"]) if _limited(one) else tile
        if element is not Element.WORD:
            return made
        if self.format.is_integer:
            return np.clip(made, *LIMITS[self.name]).astype(np.int8)
        return rounded_to_bf16(made) if self.name == "bf16" else made

    def _write_view(self, one: Any, pod: int) -> None:
        view = self.views[one["operand"]]
        memory = self._memory(view, pod)
        at = self._addresses(view, one, int(one["rows"]), int(one["columns"]))
        assert at.min() >= 0
        assert at.max() < len(memory)
        memory[at] = self._converted(one, self.tensors[view.tensor].element)

    def _store(self, one: Any) -> None:
        assert self.tensors[self.views[one["operand"]].tensor].resident is None
        self._write_view(one, one["pod"])

    def _transfer(self, one: Any) -> None:
        rows, columns, pod = int(one["rows"]), int(one["columns"]), one["pod"]
        for target in self._targets(one):
            if one["operand"] != NO_OPERAND:
                assert self.tensors[self.views[one["operand"]].tensor].resident is not None
                self._write_view(one, target)
            elif one["flags"] & Flag.ACCUMULATORS:
                source = self._sums(pod, one["accumulator_address"], rows, columns).copy()
                self._sums(target, one["third_address"], rows, columns)[...] = source
            else:
                source = self._scratch(pod, one["second_address"], rows, columns).copy()
                self._scratch(target, one["address"], rows, columns)[...] = source


def _loop_offsets(loops: Sequence[Any], first: int, count: int) -> Array:
    """Address offsets of indices first ... first + count - 1, mixed radix, last loop fastest."""
    index = np.arange(first, first + count)
    total = np.zeros(count, np.int64)
    for loop in reversed(loops):
        total += index % loop.extent * loop.stride
        index = index // loop.extent
    return total


def _limited(one: Any) -> bool:
    return bool(np.isfinite(one["low"]) or np.isfinite(one["high"]))


def sequential_order(program: SystolicProgram) -> list[int]:
    """Numbers of the program's instructions in an order that its semaphores allow."""
    at = [int(start) for start in program.queue_starts[:-1]]
    ends = [int(end) for end in program.queue_starts[1:]]
    counts, order = [0] * (program.pods * ENGINES), []
    moved = True
    while moved:
        moved = False
        for queue in range(len(at)):
            while at[queue] < ends[queue]:
                one = program.instructions[at[queue]]
                if one["opcode"] == Opcode.WAIT and counts[one["semaphore"]] < one["value"]:
                    break
                counts[queue] += int(one["opcode"] == Opcode.SIGNAL)
                order.append(at[queue])
                at[queue] += 1
                moved = True
    assert at == ends, "the program's queues wait for each other"
    return order


def run_program(
    program: SystolicProgram,
    arguments: Sequence[Array],
    scratchpad_words: int,
    accumulator_words: int,
) -> list[Array]:
    """The results of a whole program, its queues run in an order that its semaphores allow."""
    machine = SlowInterpreter(
        program.format,
        program.tensors,
        program.views,
        program.pods,
        scratchpad_words,
        accumulator_words,
    )
    order = sequential_order(program)
    return machine.run(program.instructions[order], arguments)
