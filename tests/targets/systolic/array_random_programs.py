"""Random legal programs of the array.

``random_program`` draws instructions of every opcode over a few small pods and tensors, keeps
those that read only what was written, and leaves queues and semaphores to ``synchronise``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from array_plain_accesses import Words, accesses, addresses

from motet.targets.systolic.architecture import ArrayDescription, Dram, Memory, Pod, VectorUnit
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import (
    ENGINES,
    NO_OPERAND,
    Activation,
    Dataflow,
    Flag,
    Function,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.instructions.program import (
    Element,
    Role,
    StepInfo,
    SystolicProgram,
    Tensor,
)
from motet.targets.systolic.instructions.synchronise import synchronise

PODS = 3
TILE_WORDS = 448
"""Tiles lie in the first words of a scratchpad, resident tensors behind them."""
SCRATCHPAD_WORDS, ACCUMULATOR_WORDS = 1024, 256


def tensors_of(number_format: str) -> tuple[Tensor, ...]:
    """The tensors of all random programs in a format."""
    sums = Element.INT32 if FORMATS[number_format].is_integer else Element.FP32
    return (
        Tensor("x", (2, 6, 7), Role.INPUT),
        Tensor("w", (8, 9), Role.WEIGHT),
        Tensor("vector", (40,), Role.WEIGHT, Element.FP32),
        Tensor("between", (4, 8, 8), Role.INTERNAL),
        Tensor("resident", (4, 4, 8), Role.INTERNAL, resident=512),
        Tensor("later", (4, 16), Role.INTERNAL, resident=600),
        Tensor("staged", (4, 16), Role.INTERNAL, resident=704),
        Tensor("y", (4, 8, 8), Role.OUTPUT),
        Tensor("sums", (6, 5), Role.OUTPUT, sums),
    )


X, W, VECTOR, BETWEEN, RESIDENT, LATER, STAGED, Y, SUMS = range(9)
ONE = Loop(1, 0)
VIEWS = (
    View(X, (2, 6, 7), Loop(2, 42), (Loop(6, 7),), (Loop(7, 1),)),
    View(X, (2, 6, 7), ONE, (Loop(6, 9), Loop(7, 1)), (Loop(2, 72), Loop(3, 9), Loop(3, 1)),
         (1, 1, 1, 1)),
    View(X, (2, 6, 7), Loop(2, 42), (Loop(3, -14),), (Loop(4, -2),), offset=41),
    View(W, (8, 9), ONE, (Loop(8, 9),), (Loop(9, 1),)),
    View(VECTOR, (40,), ONE, (Loop(40, 1),), (ONE,)),
    View(BETWEEN, (4, 8, 8), ONE, (Loop(64, 1),), (Loop(4, 64),)),
    View(BETWEEN, (4, 8, 8), ONE, (Loop(4, 20), Loop(4, 2)),
         (Loop(4, 100), Loop(3, 10), Loop(3, 1)), (1, 1, 1, 1)),
    View(RESIDENT, (4, 4, 8), ONE, (Loop(32, 1),), (Loop(4, 32),)),
    View(RESIDENT, (4, 4, 8), ONE, (Loop(4, 10), Loop(8, 1)),
         (Loop(4, 60), Loop(3, 10), Loop(3, 1)), (1, 1, 1, 1)),
    View(LATER, (4, 16), ONE, (Loop(16, 1),), (Loop(4, 16),)),
    View(STAGED, (4, 16), ONE, (Loop(4, 4), Loop(3, 1)), (Loop(4, 16), Loop(2, 1))),
    View(Y, (4, 8, 8), ONE, (Loop(64, -1),), (Loop(4, 64),), offset=63),
    View(SUMS, (6, 5), ONE, (Loop(6, 5),), (Loop(5, 1),)),
)  # fmt: skip
READ_BY_LOAD = (0, 1, 2, 3, 5, 6)
READ_RESIDENT = (7, 8, 9, 10)
STEPS = tuple(StepInfo(name, "Convolution", 0) for name in ("first", "second", "third"))


def description(number_format: str = "int8") -> ArrayDescription:
    """Three pods of two sizes whose scratchpads hold 1024 words of the format."""
    flows = (
        "weight-stationary",
        "output-stationary",
        "input-stationary",
        "spatial-output-stationary",
    )

    def pods(count: int, rows: int) -> Pod:
        return Pod(
            count=count,
            rows=rows,
            columns=8,
            dataflows=flows,  # type: ignore[arg-type]
            formats=("fp32", "bf16", "int8", "int4"),
            scratchpad=Memory(bytes=FORMATS[number_format].bytes(SCRATCHPAD_WORDS)),
            accumulators=Memory(bytes=4 * ACCUMULATOR_WORDS),
            vector=VectorUnit(lanes=4),
        )

    return ArrayDescription(
        name="random",
        clock_hz=1e9,
        pods=(pods(2, 8), pods(1, 4)),
        dram=Dram(bytes_per_second=16e9),
    )


class _Drawn:
    """A sequence in the making, and what it has written so far."""

    def __init__(self, rng: np.random.Generator, number_format: str) -> None:
        self.rng, self.format = rng, FORMATS[number_format]
        self.records: list[Any] = []
        self.written: dict[tuple[str, int], set[int]] = {
            ("tensor", number): set(range(tensor.elements))
            for number, tensor in enumerate(tensors_of(number_format))
            if tensor.role in (Role.INPUT, Role.WEIGHT)
        }
        self.replaced = False
        self._draft = SystolicProgram(
            number_format, empty_instructions(0), np.zeros(1), tensors_of(number_format), VIEWS
        )

    def take(self, c: Any) -> bool:
        """Keep the instruction if it may come next."""
        found = accesses(self._draft, c)
        tile, vector = int(c["accumulator_address"]), int(c["third_address"])
        computes = c["opcode"] in (Opcode.MATMUL, Opcode.CONV1D, Opcode.VECTOR)
        if computes and -8 < vector - tile < int(c["rows"]) * int(c["columns"]):
            return False
        for place, words, writes in found:
            known = self.written.setdefault(place, set())
            if not writes and not words <= known:
                return False
            if writes and place[0] == "tensor" and words & known:
                return False
            if place[0] == "sums" and max(words, default=0) >= ACCUMULATOR_WORDS:
                return False
            for other, same, also in found:
                if also and not writes and other == place and words & same and words != same:
                    return False
        if c["operand"] != NO_OPERAND and not self._resident_may(c, found):
            return False
        for place, words, writes in found:
            if writes:
                self.written[place] |= words
        self.records.append(c.copy())
        return True

    def _resident_may(self, c: Any, found: list[Words]) -> bool:
        """Resident tensors are written once, and not used once another lies on them."""
        tensor = VIEWS[int(c["operand"])].tensor
        if tensor == RESIDENT and self.replaced:
            return False
        if c["opcode"] != Opcode.TRANSFER:
            return tensor != LATER or self.replaced
        if tensor == LATER and not self.replaced:
            self.replaced = True
            for place, words in self.written.items():
                if place[0] == "pad":
                    words -= set(range(512, 704))
        return all(not words & self.written[p] for p, words, writes in found if writes)

    def blank(self, opcode: Opcode) -> Any:
        c = empty_instructions(1)[0]
        rng = self.rng
        c["opcode"], c["pod"], c["step"] = opcode, rng.integers(PODS), rng.integers(len(STEPS))
        limit = 8 if c["pod"] < 2 else 4
        c["rows"], c["columns"] = rng.integers(1, limit + 1, 2)
        c["address"], c["second_address"] = rng.integers(0, TILE_WORDS - 128, 2)
        c["accumulator_address"], c["third_address"] = rng.integers(0, ACCUMULATOR_WORDS - 64, 2)
        if opcode in (Opcode.LOAD, Opcode.TRANSFER):
            c["target_pod"] = rng.integers(PODS)
            c["target_pods"] = rng.integers(1, PODS - c["target_pod"] + 1)
        return c

    def place(self, c: Any, view: int, wide: int) -> bool:
        """Put the tile somewhere in a view; whether it fits."""
        chosen = VIEWS[view]
        if c["rows"] > chosen.row_count or wide > chosen.column_count:
            return False
        c["operand"], c["group"] = view, self.rng.integers(chosen.group.extent)
        c["row"] = self.rng.integers(chosen.row_count - c["rows"] + 1)
        c["column"] = self.rng.integers(chosen.column_count - wide + 1)
        return True


def _load(drawn: _Drawn) -> bool:
    c, rng = drawn.blank(Opcode.LOAD), drawn.rng
    c["rows"], c["columns"] = rng.integers(1, 9, 2)
    c["flags"] = rng.choice([0, Flag.ACCUMULATORS, Flag.PAD_LOWEST])
    fits = drawn.place(c, int(rng.choice(READ_BY_LOAD)), int(c["columns"]))
    return fits and drawn.take(c)


def _stage(drawn: _Drawn) -> bool:
    """Fill a part of the staged tensor."""
    c, rng = drawn.blank(Opcode.LOAD), drawn.rng
    c["rows"], c["columns"] = rng.choice([1, 2, 4, 6]), rng.choice([1, 4, 7])
    c["address"] = 704 + rng.integers(0, 65 - int(c["rows"]) * int(c["columns"]))
    return drawn.place(c, 0, int(c["columns"])) and drawn.take(c)


def _product(drawn: _Drawn) -> bool:
    rng = drawn.rng
    opcode = Opcode.CONV1D if rng.integers(4) == 0 else Opcode.MATMUL
    c = drawn.blank(opcode)
    c["flags"] = rng.choice([0, Flag.ACCUMULATE, Flag.BIAS])
    limit = 8 if c["pod"] < 2 else 4
    c["depth"] = rng.integers(1, limit + 1)
    if opcode is Opcode.CONV1D:
        c["value"], c["dataflow"] = rng.integers(1, 3), Dataflow.SPATIAL_OUTPUT_STATIONARY
        wide = (int(c["columns"]) - 1) * int(c["value"]) + int(c["depth"])
    else:
        c["dataflow"], wide = rng.integers(1, 4), int(c["depth"])
    if rng.integers(2):
        c["flags"] |= Flag.RESIDENT
        if not drawn.place(c, int(rng.choice(READ_RESIDENT)), wide):
            return False
    return drawn.take(c)


def _vector(drawn: _Drawn) -> bool:
    c, rng, integer = drawn.blank(Opcode.VECTOR), drawn.rng, drawn.format.is_integer
    function = Function(int(rng.integers(Function.DEQUANTISE)))  # the last is for vectors
    c["function"] = function
    if function in (Function.REQUANTISE, Function.ROW_REQUANTISE):
        return integer and _requantise(drawn, c)
    if Function.COPY <= function <= Function.MAXIMUM:
        c["flags"] = rng.choice([0, Flag.ACCUMULATORS, Flag.RESIDENT])
        if rng.integers(4) == 0:
            c["second_address"] = c["accumulator_address"]
        view = int(rng.choice(READ_RESIDENT))
        if c["flags"] & Flag.RESIDENT and not drawn.place(c, view, int(c["columns"])):
            return False
    if Function.ROW_MAXIMUM <= function <= Function.ROW_SUM_SQUARES:
        c["flags"] = rng.choice([0, Flag.ACCUMULATE])
    c["alpha"] = 1 if integer and function is Function.ADD else rng.choice([1.0, 0.5, -0.25])
    if not integer and rng.integers(2):
        c["activation"] = rng.integers(len(Activation))
    if rng.integers(2):
        c["low"], c["high"] = sorted(rng.integers(-100, 100, 2))
    return drawn.take(c)


def _requantise(drawn: _Drawn, c: Any) -> bool:
    """Its scales are loaded right before."""
    load = drawn.blank(Opcode.LOAD)
    by_column = c["function"] == Function.REQUANTISE
    load["rows"] = c["columns"] if by_column else c["rows"]
    load["columns"], load["flags"] = 1, Flag.ACCUMULATORS
    load["accumulator_address"] = c["third_address"]
    load["target_pod"], load["target_pods"] = c["pod"], 1
    drawn.place(load, 4, 1)
    c["value"] = np.uint32(drawn.rng.integers(-9, 10) & 0xFFFFFFFF)
    apart = abs(int(c["third_address"]) - int(c["accumulator_address"])) >= 64
    return apart and drawn.take(load) and drawn.take(c)


def _write(drawn: _Drawn, view: int) -> bool:
    resident = VIEWS[view].tensor in (RESIDENT, LATER)
    c, rng = drawn.blank(Opcode.TRANSFER if resident else Opcode.STORE), drawn.rng
    if rng.integers(2):
        c["low"], c["high"] = sorted(rng.integers(-50, 50, 2))
    if resident:
        c["target_pod"], c["target_pods"] = 0, PODS
    return drawn.place(c, view, int(c["columns"])) and drawn.take(c)


def _move(drawn: _Drawn) -> bool:
    """Between pods, without a view."""
    c = drawn.blank(Opcode.TRANSFER)
    c["flags"] = drawn.rng.choice([0, Flag.ACCUMULATORS])
    return drawn.take(c)


def _start(drawn: _Drawn) -> None:
    """Something in all memories, so that most instructions find what to read."""
    for address in range(0, TILE_WORDS - 41, 42):
        c = drawn.blank(Opcode.LOAD)
        c["rows"], c["columns"], c["address"] = 6, 7, address
        c["target_pod"], c["target_pods"] = 0, PODS
        assert drawn.place(c, 0, 7)
        assert drawn.take(c)
    for address in range(0, ACCUMULATOR_WORDS - 35, 36):
        c = drawn.blank(Opcode.LOAD)
        c["rows"], c["columns"], c["accumulator_address"] = 4, 9, address
        c["flags"], c["target_pod"], c["target_pods"] = Flag.ACCUMULATORS, 0, PODS
        assert drawn.place(c, 3, 9)
        assert drawn.take(c)


def _finish(drawn: _Drawn) -> None:
    """Store what is left of the outputs, in pieces of a column."""
    for number in (11, 12):
        view = VIEWS[number]
        for column in range(view.column_count):
            row = 0
            while row < view.row_count:
                known = drawn.written.get(("tensor", view.tensor), set())
                rows = 0
                while rows < 8 and row + rows < view.row_count:
                    if addresses(view, 0, row + rows, column, 1, 1) & known:
                        break
                    rows += 1
                if rows:
                    c = drawn.blank(Opcode.STORE)
                    c["rows"], c["columns"], c["accumulator_address"] = rows, 1, row % 64
                    c["operand"], c["row"], c["column"] = number, row, column
                    assert drawn.take(c)
                row += max(rows, 1)


def random_sequence(rng: np.random.Generator, number_format: str, length: int) -> Any:
    """``length`` random instructions and those that begin and end every program, in order."""
    drawn = _Drawn(rng, number_format)
    _start(drawn)
    goal = len(drawn.records) + length
    draws = (_load, _stage, _product, _product, _vector, _vector, _move)
    while len(drawn.records) < goal:
        if rng.integers(3) == 0:
            share = (len(drawn.records) - goal + length) / length
            choice = [5, 7, 7] if share < 0.5 else [9, 11, 12]
            _write(drawn, int(rng.choice(choice)))
        else:
            draws[int(rng.integers(len(draws)))](drawn)
    _finish(drawn)
    made = empty_instructions(len(drawn.records))
    for i, record in enumerate(drawn.records):
        made[i] = record
    return made


def random_program(
    rng: np.random.Generator, number_format: str = "int8", length: int = 60
) -> SystolicProgram:
    """A legal program for ``description(number_format)``."""
    sequence = random_sequence(rng, number_format, length)
    return synchronise(sequence, number_format, tensors_of(number_format), VIEWS, STEPS, PODS)


def random_arguments(rng: np.random.Generator, number_format: str) -> list[Any]:
    """Arrays for the inputs and weights of a random program."""
    kind = FORMATS[number_format].stored
    shapes = [t.shape for t in tensors_of(number_format)[:2]]
    made = [rng.integers(-8, 8, shape).astype(kind) for shape in shapes]
    return [*made, (rng.integers(1, 8, 40) / 64).astype(np.float32)]


assert ENGINES == 4
