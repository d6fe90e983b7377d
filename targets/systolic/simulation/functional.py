"""The functional view: what a program computes, instruction by instruction, tile by tile.

Values flow as the machine moves them: from DRAM tensors, which are the caller's arrays,
into tiles of the pods' scratchpads, through tile products into their accumulators, through
the vector units, and out. WAIT and SIGNAL do nothing here: instructions run one after the
other in an order that the semaphores allow, and a program without races gives the same
values in every such order.

Words of a bf16 program are fp32 values that are rounded to bf16 whenever they enter a
scratchpad or accumulators from a tensor of words, or leave for one; sums stay fp32.
Integer sums wrap modulo 2**32. STORE and TRANSFER saturate to the format's range;
REQUANTISE and SCALE saturate to 32 bits only, and ``low`` and ``high`` narrow further.
In integer programs a tensor of FP32 enters accumulators as bits (for REQUANTISE), and
int32 sums leave for one as numbers. Programs of vectors: ``vector_products``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import InputError, ProgramError
from motet.targets.systolic.instructions.isa import INSTRUCTION, Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, SystolicProgram
from motet.targets.systolic.instructions.rules_vectors import wrong_vectors
from motet.targets.systolic.simulation.activation_functions import INTEGER_ACTIVATIONS
from motet.targets.systolic.simulation.execute import execute
from motet.targets.systolic.simulation.extents import extents
from motet.targets.systolic.simulation.functional_state import (
    CONSTANT,
    HIGH,
    LOW,
    PADDING,
    TENSOR,
    RunState,
)
from motet.targets.systolic.simulation.memories import Memories, MemoryPool
from motet.targets.systolic.simulation.order import default_order
from motet.targets.systolic.simulation.vector_products import (
    VectorState,
    execute_vectors,
    rounding_of,
)
from motet.targets.systolic.simulation.vector_words import operand_of, vector_table

Array = NDArray[Any]


class Interpreter:
    """Gives a program's values; runs of any number of threads may be in flight.

    Parameters
    ----------
    program: any legal program; memories are as large as the highest address that it uses.
    pool: where runs borrow memories; None makes one.

    Raises ``ProgramError`` where the program deadlocks, reaches outside a view or tensor, or
    asks for what its number format does not have.

    ``gated``: products of vectors whose scales' product was 0, in the last run that has ended;
    None before the first, and in formats of single values.
    """

    def __init__(self, program: SystolicProgram, pool: MemoryPool | None = None) -> None:
        self.program = program
        self._pool = MemoryPool() if pool is None else pool
        self._extents = extents(program)
        _require_format(program)
        self._order = default_order(program)
        self._instructions = np.require(program.instructions, INSTRUCTION, ["C", "A", "W"])
        self._numbers = _numbers(program)
        self._tensors = _tensor_table(program)
        self._dtypes = [tensor_dtype(program, i) for i in range(len(program.tensors))]
        self.gated: int | None = None

    def run(
        self,
        arguments: Sequence[Array],
        results: Sequence[Array],
        order: NDArray[np.int64] | None = None,
    ) -> None:
        """Fill ``results`` from ``arguments``.

        Parameters
        ----------
        arguments: C-contiguous arrays of the tensors ``program.arguments``, of
            ``element_dtype`` and as many values; their shapes do not matter.
        results: likewise of ``program.results``, written in place.
        order: the numbers of all instructions, in an order that the semaphores allow (not
            checked); None for each queue in turn.

        Raises ``InputError`` for an array that does not fit.
        """
        arrays: dict[int, Array] = {}
        for what, numbers, given in (
            ("inputs", self.program.arguments, arguments),
            ("outputs", self.program.results, results),
        ):
            if len(numbers) != len(given):
                raise InputError(
                    f"array program has {len(numbers)} {what}, {len(given)} were given"
                )
            arrays.update(zip(numbers, given, strict=True))
        for number, array in arrays.items():
            self._require_array(number, array)
        chosen = self._order if order is None else self._complete(order)
        with self._pool.borrowed() as memories:
            if self.program.number_format.vectors is None:
                execute(self._state(arrays, memories), chosen)
            else:
                self._run_vectors(arrays, memories, chosen)

    def _run_vectors(
        self, arrays: dict[int, Array], memories: Memories, order: NDArray[np.int64]
    ) -> None:
        vectors = self.program.number_format.vectors
        assert vectors is not None
        table = vector_table(self.program, arrays)
        run = self._state({**arrays, **table.numbers}, memories)
        run.scratchpads[:] = 0
        gated = np.zeros(1, np.int64)
        sums = memories.room("integers", len(run.accumulators), np.int64)
        wide = vectors.sum_bits > 32
        dropped, most = rounding_of(vectors)
        words = (table.integers, table.scales, sums)
        execute_vectors(VectorState(run, *words, dropped, most, wide, gated), order)
        self.gated = int(gated[0])

    def _require_array(self, number: int, array: Array) -> None:
        tensor, dtype = self.program.tensors[number], self._dtypes[number]
        name = tensor.name or f"tensor {number}"
        in_words = tensor.element in (Element.WORD, Element.WEIGHT)
        values = tensor.elements * (self.program.number_format.lanes if in_words else 1)
        if array.dtype != dtype or array.size != values:
            raise InputError(
                f"array program: {name!r} must be {dtype} with {values} values (shape "
                f"{list(tensor.shape)}), not {array.dtype} {list(array.shape)}"
            )
        if not array.flags.c_contiguous or not array.flags.aligned:
            raise InputError(f"array program: {name!r} must be C-contiguous and aligned")

    def _complete(self, order: NDArray[np.int64]) -> NDArray[np.int64]:
        made = np.require(order, np.int64, ["C", "A", "W"])
        if not np.array_equal(np.sort(made), np.arange(len(self._order))):
            raise InputError(f"order must be a permutation of 0 ... {len(self._order) - 1}")
        return made

    def _state(self, arrays: dict[int, Array], memories: Memories) -> RunState:
        program, needed = self.program, self._extents
        words, sums = program.number_format.stored, program.number_format.accumulated
        tensors = self._tensors.copy()
        for number, tensor in enumerate(program.tensors):
            if tensor.resident is None:
                array = arrays.get(number)
                if array is None:
                    name = f"tensor {number}"
                    array = memories.room(name, tensor.elements, self._dtypes[number])
                tensors[number]["address"] = array.ctypes.data
        return RunState(
            program=self._instructions,
            views=program.view_table,
            tensors=tensors,
            numbers=self._numbers,
            scratchpads=memories.room("words", needed.pods * needed.scratchpad, words),
            accumulators=memories.room("sums", needed.pods * needed.accumulators, sums),
            scratchpad_words=needed.scratchpad,
            accumulator_words=needed.accumulators,
            tile=memories.room("tile", needed.tile, words),
            second=memories.room("second", needed.second, sums),
            segments=memories.room("segments", needed.rows * 4, np.int64).reshape(-1, 4),
        )


def tensor_dtype(program: SystolicProgram, number: int) -> np.dtype[Any]:
    """The numpy type of the host's array of tensor ``number``; integers for vectors."""
    vectors, element = program.number_format.vectors, program.tensors[number].element
    if vectors is None or element in (Element.FP32, Element.INT32):
        return element_dtype(program, element)
    if element is Element.INT64:
        return np.dtype(np.int64)
    if element is Element.SCALE:
        return np.dtype(np.uint16)
    return operand_of(vectors, program, number).stored


def element_dtype(program: SystolicProgram, element: Element) -> np.dtype[Any]:
    """The numpy type of a tensor's array in the host's memory, in formats of single values."""
    if element is Element.WORD:
        return program.number_format.stored
    return np.dtype(np.float32 if element is Element.FP32 else np.int32)


def _word_range(program: SystolicProgram) -> tuple[float, float]:
    """The lowest and highest value of a word."""
    if not program.number_format.is_integer:
        return -np.inf, np.inf
    half = 1 << (program.number_format.bits - 1)
    return -half, half - 1


def _tensors_of(program: SystolicProgram) -> Array:
    """Each instruction's ``Element`` of the tensor behind its view; 0 without one."""
    of_view = np.array([program.tensors[view.tensor].element for view in program.views] + [0])
    found: Array = of_view[np.minimum(program.instructions["operand"], len(program.views))]
    return found


def _tensor_table(program: SystolicProgram) -> Array:
    """The tensors as records of ``TENSOR``, without addresses."""
    made = np.zeros(len(program.tensors), TENSOR)
    made["size"] = [tensor.elements for tensor in program.tensors]
    made["element"] = [int(tensor.element) for tensor in program.tensors]
    made["is_bf16"] = (made["element"] == Element.WORD) & (program.format == "bf16")
    return made


def _numbers(program: SystolicProgram) -> Array:
    """``RunState.numbers``."""
    sums = program.number_format.accumulated
    made = np.empty((len(program.instructions), 4), sums)
    made[:, LOW], made[:, HIGH] = _limits(program)
    made[:, CONSTANT] = np.ascontiguousarray(program.instructions["value"]).view(sums)
    made[:, PADDING] = _padding(program)
    return made


def _limits(program: SystolicProgram) -> tuple[Array, Array]:
    """``low`` and ``high`` as sums; those that write words limit to the format's range too."""
    table, format_ = program.instructions, program.number_format
    if not format_.is_integer:
        return table["low"].copy(), table["high"].copy()
    writes = np.isin(table["opcode"], (int(Opcode.STORE), int(Opcode.TRANSFER)))
    narrow = writes & (_tensors_of(program) == Element.WORD)
    low, high = _word_range(program)
    least = np.where(narrow, low, -(2.0**31))
    most = np.where(narrow, high, 2.0**31 - 1)
    lows = np.clip(np.ceil(table["low"].astype(np.float64)), least, most)
    highs = np.clip(np.floor(table["high"].astype(np.float64)), least, most)
    return lows.astype(np.int32), highs.astype(np.int32)


def _padding(program: SystolicProgram) -> Array:
    """What padding reads as, for each instruction: a sum, or fp32 bits in an integer program."""
    sums = program.number_format.accumulated
    if program.number_format.vectors is not None:
        return np.zeros(len(program.instructions), sums)
    lowest = np.where(
        program.instructions["flags"] & int(Flag.PAD_LOWEST), _word_range(program)[0], 0.0
    )
    if not program.number_format.is_integer:
        return lowest.astype(np.float32)
    bits = lowest.astype(np.float32).view(np.int32)
    made: Array = np.where(_tensors_of(program) == Element.FP32, bits, lowest.astype(sums))
    return made


def _require_format(program: SystolicProgram) -> None:
    """Raise ``ProgramError`` for what the number format does not have."""
    table, integer = program.instructions, program.number_format.is_integer
    vectors, element = table["opcode"] == Opcode.VECTOR, _tensors_of(program)
    in_words = (table["opcode"] == Opcode.LOAD) & (table["flags"] & int(Flag.ACCUMULATORS) == 0)
    if integer:
        known = np.isin(table["activation"], [int(one) for one in INTEGER_ACTIVATIONS])
        _require(program, vectors & ~known, "this activation needs a float format")
        wrong = in_words & (element != Element.WORD)
        _require(program, wrong, "only words of the format go into a scratchpad")
    else:
        requantise = [int(Function.REQUANTISE), int(Function.ROW_REQUANTISE)]
        wrong = vectors & np.isin(table["function"], requantise)
        _require(program, wrong, "REQUANTISE needs an integer format")
        _require(program, element == Element.INT32, "INT32 tensors need an integer format")
    problem = wrong_vectors(program)
    if problem is not None:
        raise ProgramError(f"array program: {problem}")


def _require(program: SystolicProgram, wrong: Array, rule: str) -> None:
    if wrong.any():
        number = int(np.argmax(wrong))
        name = Opcode(int(program.instructions[number]["opcode"])).name
        raise ProgramError(f"instruction {number} ({name}) of a {program.format} program: {rule}")
