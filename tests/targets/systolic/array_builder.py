"""Hand-made array programs from a sequence of records; queues and semaphores come by themselves."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import ENGINES, Flag, Opcode, empty_instructions
from motet.targets.systolic.instructions.program import (
    Element,
    Role,
    StepInfo,
    SystolicProgram,
    Tensor,
)
from motet.targets.systolic.instructions.synchronise import synchronise
from motet.targets.systolic.simulation.functional import Interpreter, element_dtype

ONE = Loop(1, 0)


def record(opcode: Opcode, **fields: Any) -> dict[str, Any]:
    return {"opcode": opcode, **fields}


def sequence(number_format, tensors, views, records, pods=1) -> SystolicProgram:
    """The program that runs ``records`` (dicts of an instruction's fields) as if in order."""
    made = empty_instructions(len(records))
    for one, fields in zip(made, records, strict=True):
        one["target_pod"] = fields.get("pod", 0)
        for name, value in fields.items():
            one[name] = np.int32(value).view(np.uint32) if name == "value" else value
    steps = (StepInfo("hand-made", "Test", 0),)
    return synchronise(made, number_format, tensors, views, steps, pods)


def matrix(tensor: int, rows: int, columns: int, transposed: bool = False) -> View:
    """The view of a [rows, columns] tensor as it is, or of its transpose."""
    down, across = Loop(rows, columns), Loop(columns, 1)
    if transposed:
        down, across = across, down
    return View(tensor, (rows, columns), ONE, (down,), (across,))


def im2col(tensor, shape, kernel, stride, dilation, padding) -> View:
    """The rows (batch, y, x) and columns (channel, kernel y, kernel x) of a convolution."""
    batch, channels, height, width = shape
    top, left, bottom, right = padding
    tall, wide = height + top + bottom, width + left + right
    out_y = (tall - dilation[0] * (kernel[0] - 1) - 1) // stride[0] + 1
    out_x = (wide - dilation[1] * (kernel[1] - 1) - 1) // stride[1] + 1
    return View(
        tensor,
        shape,
        ONE,
        (
            Loop(batch, channels * tall * wide),
            Loop(out_y, stride[0] * wide),
            Loop(out_x, stride[1]),
        ),
        (
            Loop(channels, tall * wide),
            Loop(kernel[0], dilation[0] * wide),
            Loop(kernel[1], dilation[1]),
        ),
        padding,
    )


def values_of(program: SystolicProgram, *arguments: Any, order: Any = None) -> list[Any]:
    """The results of a run, as arrays of the tensors' shapes."""
    given = [np.ascontiguousarray(one) for one in arguments]
    outputs = [program.tensors[number] for number in program.results]
    made = [np.zeros(t.shape, element_dtype(program, t.element)) for t in outputs]
    Interpreter(program).run(given, made, order)
    return made


def on_one_tile(number_format, sums, records, *, more=(), out=Element.FP32) -> Any:
    """What ``records`` make of the accumulator tile ``sums`` [rows, columns] at address 0.

    ``more``: (accumulator address, array [rows, columns]) of what else is loaded before.
    """
    tensors, views, loads = [], [], []
    for address, values in [(0, sums), *more]:
        element = Element.INT32 if values.dtype == np.int32 else Element.FP32
        number = len(tensors)
        tensors.append(Tensor("", values.shape, Role.INPUT, element))
        views.append(matrix(number, *values.shape))
        loads.append(
            record(
                Opcode.LOAD,
                operand=number,
                rows=values.shape[0],
                columns=values.shape[1],
                flags=Flag.ACCUMULATORS,
                accumulator_address=address,
            )
        )
    rows, columns = sums.shape
    tensors.append(Tensor("", sums.shape, Role.OUTPUT, out))
    views.append(matrix(len(tensors) - 1, rows, columns))
    store = record(Opcode.STORE, operand=len(views) - 1, rows=rows, columns=columns)
    records = [{"rows": rows, "columns": columns, **one} for one in records]
    program = sequence(number_format, tuple(tensors), tuple(views), [*loads, *records, store])
    (made,) = values_of(program, sums, *(values for _, values in more))
    return made


def random_order(program: SystolicProgram, rng: np.random.Generator) -> Any:
    """The program's instructions in a random order that its semaphores allow."""
    at, ends = list(program.queue_starts[:-1]), program.queue_starts[1:]
    signals, order = [0] * (program.pods * ENGINES), []
    code = program.instructions
    while len(order) < len(code):
        ready = [
            q
            for q in range(len(at))
            if at[q] < ends[q]
            and not (
                code[at[q]]["opcode"] == Opcode.WAIT
                and signals[code[at[q]]["semaphore"]] < code[at[q]]["value"]
            )
        ]
        queue = int(rng.choice(ready))
        for _ in range(int(rng.integers(1, 4))):
            if at[queue] == ends[queue]:
                break
            one = code[at[queue]]
            if one["opcode"] == Opcode.WAIT and signals[one["semaphore"]] < one["value"]:
                break
            signals[queue] += int(one["opcode"] == Opcode.SIGNAL)
            order.append(at[queue])
            at[queue] += 1
    return np.array(order, np.int64)


def tiles_of(*sizes_and_tiles: tuple[int, int]) -> Any:
    """All tiles of a box: for each axis (size, tile) the starts and sizes, crossed."""
    axes = [
        [(start, min(tile, size - start)) for start in range(0, size, tile)]
        for size, tile in sizes_and_tiles
    ]
    return itertools.product(*axes)
