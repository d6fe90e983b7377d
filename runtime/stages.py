"""A stage: the part of a program that can run once some symbols have values.

Binding a stage evaluates the shapes that its symbols complete, lays their storages out,
and builds the argument views of every call once. Running it then only calls kernels.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm_ffi

from motet.runtime.boundaries import Boundary
from motet.runtime.call_rows import CallRow
from motet.runtime.device import Accelerator, Array
from motet.runtime.forks import end_of, groups_of
from motet.runtime.kernels import KernelLibrary
from motet.runtime.late import START, Waiting
from motet.runtime.memory import compact, part, view
from motet.runtime.program import (
    ArrayCall,
    BindSymbols,
    Branch,
    Constant,
    Fork,
    Goto,
    Input,
    Instruction,
    Kernel,
    Move,
    Part,
    Program,
    Register,
    ShapeTensor,
    Stored,
    View,
)
from motet.runtime.shapes import Bindings, evaluate_shape, render_shape
from motet.runtime.side_by_side import BoundCall
from motet.runtime.side_by_side import Stage as SideBySide

Call = tuple[Callable[..., Any], tuple[Any, ...]]
Room = tuple[Array, int, int]
"""Where a storage lies: memory, the offset in it, and its size, both in bytes."""


@dataclass(frozen=True)
class Machine:
    """What programs run on: kernels, weights, and an accelerator where there is one.

    ``weights`` are aligned and writable (``memory.lendable``), though nobody writes them.
    """

    library: KernelLibrary
    weights: Sequence[Array]
    accelerator: Accelerator | None = None


@dataclass(frozen=True)
class Step:
    """One bound instruction. ``operator`` is -1 for the VM's own work.

    A step with ``branch_to`` goes there where its function returns nothing true: a
    branch returns its condition, a goto nothing.
    """

    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    operator: int = -1
    branch_to: int | None = None

    def next(self, position: int, result: Any) -> int:
        """Where to go on after this step at ``position`` returned ``result``."""
        if self.branch_to is None or result:
            return position + 1
        return self.branch_to


Visit = Callable[["Stage", int, Step], Any]
"""Runs a step of a stage at a position, and gives its function's result."""


class Stage:
    """The instructions that follow ``start``, bound; runs up to the next ``bind``.

    ``bindings`` are all symbols known by then, ``rooms`` the storages that they complete,
    ``inputs`` the buffers of the model's inputs. What earlier stages bound is taken over
    from ``parent``. ``children``: the stages that followed, by position and values.
    """

    def __init__(
        self,
        program: Program,
        waiting: Waiting,
        machine: Machine,
        bindings: Bindings,
        rooms: Mapping[int, Room],
        inputs: Sequence[Array],
        parent: Stage | None = None,
        start: int = START,
    ) -> None:
        self.bindings = bindings
        self.start = start
        self.children: dict[tuple[int, ...], Stage] = {}
        self._program = program
        self._machine = machine
        self._inputs = inputs
        earlier: Mapping[int, Room] = {} if parent is None else parent._rooms
        self._rooms: dict[int, Room] = {**earlier, **rooms}
        self.arrays: dict[int, Array] = {} if parent is None else dict(parent.arrays)
        self._tensors: dict[int, Any] = {} if parent is None else dict(parent._tensors)
        self._place_registers(waiting)
        self.steps: dict[int, Step] = {}
        self.stops: dict[int, Array] = {}
        self._bind_steps(waiting.stages[start])
        self._forks = self._bound_forks(waiting.stages[start])
        self.calls = self._straight_line()

    def has_storage(self, number: int) -> bool:
        """Whether storage ``number`` has its place in this stage."""
        return number in self._rooms

    def _place_registers(self, waiting: Waiting) -> None:
        known = self.bindings.keys()
        numbers = range(len(self._program.registers)) if self.start == START else waiting.registers
        for number in numbers:
            if number not in self.arrays and waiting.registers.get(number, frozenset()) <= known:
                self.arrays[number] = self._place(number, self._program.registers[number])

    def _place(self, number: int, register: Register) -> Array:
        place = register.place
        shape = evaluate_shape(register.shape, self.bindings)
        if min(shape, default=0) < 0:  # which numpy would take for "what is left"
            raise ValueError(f"register {number} has shape {render_shape(shape)}")
        if isinstance(place, Input):
            return self._inputs[place.index].reshape(shape)
        if isinstance(place, Constant):
            return self._machine.weights[place.index]
        if isinstance(place, Stored):
            memory, offset, room = self._rooms[place.storage]
            size = math.prod(shape) * np.dtype(register.dtype).itemsize
            if place.offset + size > room:
                raise ValueError(
                    f"register {number} takes {size} bytes of {room}, from {place.offset} on"
                )
            return view(memory, offset + place.offset, register.dtype, shape)
        if isinstance(place, Part):
            return part(self.arrays[place.source], place.offset, shape)
        assert isinstance(place, View)
        return self.arrays[place.source].reshape(shape)

    def _bind_steps(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            instruction = self._program.instructions[number]
            if isinstance(instruction, BindSymbols):
                self.stops[number] = self.arrays[instruction.source].reshape(-1)
            else:
                self.steps[number] = self._bind(instruction)

    def _bind(self, instruction: Instruction) -> Step:
        if isinstance(instruction, Kernel):
            return self._bind_kernel(instruction)
        if isinstance(instruction, ArrayCall):
            return self._bind_array(instruction)
        if isinstance(instruction, Fork):
            return Step(_nothing, ())
        if isinstance(instruction, Move):
            target, source = self.arrays[instruction.target], self.arrays[instruction.source]
            if target.shape != source.shape:  # copyto would broadcast
                raise ValueError(
                    f"a branch gives {render_shape(source.shape)} where "
                    f"{render_shape(target.shape)} is joined"
                )
            return Step(np.copyto, (target, source))
        if isinstance(instruction, ShapeTensor):
            values = np.array(evaluate_shape(instruction.shape, self.bindings), dtype=np.int64)
            target = self.arrays[instruction.target]
            return Step(np.copyto, (target, values.reshape(target.shape)))
        if isinstance(instruction, Branch):
            condition = self.arrays[instruction.condition]
            if condition.size != 1:
                raise ValueError(f"a condition has {condition.size} elements")
            return Step(condition.item, (), branch_to=instruction.otherwise)
        assert isinstance(instruction, Goto)
        return Step(_nothing, (), branch_to=instruction.to)

    def _tensor(self, register: int) -> Any:
        if register not in self._tensors:
            self._tensors[register] = tvm_ffi.from_dlpack(compact(self.arrays[register]))
        return self._tensors[register]

    def _bind_kernel(self, instruction: Kernel) -> Step:
        written = instruction.arguments[len(instruction.arguments) - instruction.outputs :]
        if all(self.arrays[register].size == 0 for register in written):
            return Step(_nothing, ())
        function = self._machine.library.function(instruction.symbol)
        tensors = tuple(self._tensor(register) for register in instruction.arguments)
        return Step(function, tensors, instruction.operator)

    def _bind_array(self, instruction: ArrayCall) -> Step:
        accelerator = self._machine.accelerator
        assert accelerator is not None, "the session checks that a device is there"
        inputs = tuple(self.arrays[register] for register in instruction.inputs)
        outputs = tuple(self.arrays[register] for register in instruction.outputs)
        arguments = (instruction.program, inputs, outputs)
        return Step(accelerator.invoke, arguments, instruction.operator)

    def _bound_forks(self, numbers: Sequence[int]) -> dict[int, tuple[SideBySide, int]]:
        """For every fork what runs its stage, and where the program goes on."""
        found = dict[int, tuple[SideBySide, int]]()
        for number in numbers:
            fork = self._program.instructions[number]
            if isinstance(fork, Fork):
                groups = [self._bound_calls(group) for group in groups_of(number, fork)]
                run = self._machine.library.stage([group for group in groups if group])
                found[number] = run, end_of(number, fork)
        return found

    def _bound_calls(self, numbers: range) -> list[BoundCall]:
        """The kernels of a group that have something to do."""
        bound = list[BoundCall]()
        for number in numbers:
            kernel, step = self._program.instructions[number], self.steps[number]
            assert isinstance(kernel, Kernel), "the program was verified"
            if step.function is not _nothing:
                bound.append((kernel.symbol, step.function, step.arguments))
        return bound

    def _straight_line(self) -> list[Call] | None:
        """The stage as calls without branches; kernels that follow each other as one of them."""
        if any(step.branch_to is not None for step in self.steps.values()):
            return None
        calls, inside = list[Call](), -1
        row = list[BoundCall | SideBySide]()
        for number, step in self.steps.items():
            instruction = self._program.instructions[number]
            if number in self._forks:
                run, inside = self._forks[number]
                row.append(run)
            elif number < inside or step.function is _nothing:
                continue
            elif isinstance(instruction, Kernel):
                row.append((instruction.symbol, step.function, step.arguments))
            else:
                calls += self._in_a_row(row)
                calls.append((step.function, step.arguments))
                row = []
        return calls + self._in_a_row(row)

    def _in_a_row(self, row: Sequence[BoundCall | SideBySide]) -> list[Call]:
        """``row`` as one call, or each by itself where the library has nothing that runs rows."""
        native = self._machine.library.row(row) if row else None
        if native is not None:
            return [(native, ())]
        return [(c, ()) if isinstance(c, SideBySide) else (c[1], c[2]) for c in row]

    @property
    def end(self) -> int:
        """Where a stage without branches stops: the ``bind`` that follows, or the end."""
        return next(iter(self.stops), len(self._program.instructions))

    def run(self) -> int:
        """Execute; the position of the ``bind`` that was reached, or of the end."""
        if self.calls is not None:
            for function, arguments in self.calls:
                function(*arguments)
            return self.end
        position, steps = self.start + 1, self.steps
        while (step := steps.get(position)) is not None:
            position = self._passed(position, step)
        return position

    def _passed(self, position: int, step: Step) -> int:
        """Where to go on after the step, or the whole stage, at ``position``."""
        if position in self._forks:
            run, end = self._forks[position]
            run()
            return end
        return step.next(position, step.function(*step.arguments))

    def pausing(self, boundary: Boundary) -> Generator[int, None, int]:
        """As ``run``, giving way after every call, or in a row of them where it is told to.

        Yields the calls done since it last did.
        """
        if self.calls is not None:
            for function, arguments in self.calls:
                if isinstance(function, CallRow):
                    yield from function.pausing(boundary)
                else:
                    function(*arguments)
                    yield 1
            return self.end
        position, steps = self.start + 1, self.steps
        while (step := steps.get(position)) is not None:
            position = self._passed(position, step)
            yield 1
        return position

    def array_calls(self) -> Generator[Sequence[Any], None, int]:
        """As ``run``, leaving the array's calls to others: yields what each is called with.

        That is the program's name, its inputs and its outputs, which are to be filled.
        """
        position, steps = self.start + 1, self.steps
        while (step := steps.get(position)) is not None:
            if isinstance(self._program.instructions[position], ArrayCall):
                yield step.arguments
                position += 1
            else:
                position = self._passed(position, step)
        return position

    def walk(self, visit: Visit) -> int:
        """As ``run``, with ``visit`` around every step, those of a stage one by one."""
        position = self.start + 1
        while (step := self.steps.get(position)) is not None:
            position = step.next(position, visit(self, position, step))
        return position


def _nothing() -> None:
    """The step of a goto, and of a kernel whose outputs are all empty."""
