"""The virtual machine: binds a program to concrete shapes, then only calls kernels.

Binding evaluates every shape, lays the arena out, and builds the argument views of
every call once; a bound program is a ``Frame``. Frames are kept per distinct shape,
and each call in flight has a frame, and so an arena, of its own: a program may run
in many threads at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tvm_ffi

from motet.runtime.device import Accelerator, Array
from motet.runtime.errors import CompileError, InputError
from motet.runtime.kernels import KernelLibrary
from motet.runtime.memory import aligned_bytes, compact, plan, view
from motet.runtime.pool import IdlePool
from motet.runtime.program import (
    ArrayCall,
    Branch,
    Constant,
    Goto,
    Input,
    Instruction,
    Kernel,
    Move,
    Program,
    Register,
    ShapeTensor,
    Stored,
    View,
    registers_of,
)
from motet.runtime.shapes import Bindings, evaluate, evaluate_shape, render_shape
from motet.runtime.symbols import ShapeKey, bind_symbols

Call = tuple[Callable[..., Any], tuple[Any, ...]]

Observe = Callable[[int, Sequence[Array]], None]
"""Takes an operator's number and what it wrote, which later operators may overwrite."""

MAX_IDLE_FRAMES = 32
"""Frames of one model that stay bound between calls; those of the least recent shape go first."""


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


class Frame:
    """A program bound to shapes, with an arena of its own; runs one call at a time.

    ``external`` gives arrays that stand in for inputs without a copy (an output of
    another frame); they must be C-contiguous, aligned, and outlive the frame.
    """

    def __init__(
        self,
        program: Program,
        bindings: Bindings,
        machine: Machine,
        external: Mapping[int, Array] | None = None,
    ) -> None:
        self._program = program
        self._bindings = bindings
        self._machine = machine
        self._external = dict(external or {})
        self._arena, self._offsets = self._lay_out()
        self._arrays: list[Array] = []
        self.inputs: list[Array] = self._input_buffers()
        for number, register in enumerate(program.registers):
            self._arrays.append(self._place(number, register))
        self._tensors: dict[int, Any] = {}
        self.outputs = [self._arrays[index] for index in program.output_registers]
        self.steps = [self._bind(instruction) for instruction in program.instructions]
        self._calls = self._straight_line()

    @property
    def arena_bytes(self) -> int:
        """Size of this frame's arena."""
        return int(self._arena.nbytes)

    def _lay_out(self) -> tuple[Array, Sequence[int]]:
        program = self._program
        if program.offsets is not None and program.arena_bytes is not None:
            return aligned_bytes(program.arena_bytes), program.offsets
        sizes = [evaluate(storage.bytes, self._bindings) for storage in program.storages]
        offsets, total = plan(sizes, [storage.lifetime for storage in program.storages])
        return aligned_bytes(total), offsets

    def _input_buffers(self) -> list[Array]:
        buffers = []
        for index, info in enumerate(self._program.inputs):
            buffer = self._external.get(index)
            if buffer is None:
                shape = evaluate_shape(info.shape, self._bindings)
                size = int(np.prod(shape, dtype=np.int64)) * np.dtype(info.dtype).itemsize
                buffer = view(aligned_bytes(size), 0, info.dtype, shape)
            buffers.append(buffer)
        return buffers

    def _place(self, number: int, register: Register) -> Array:
        place = register.place
        shape = evaluate_shape(register.shape, self._bindings)
        if isinstance(place, Input):
            return self.inputs[place.index].reshape(shape)
        if isinstance(place, Constant):
            return self._machine.weights[place.index]
        if isinstance(place, Stored):
            array = view(self._arena, self._offsets[place.storage], register.dtype, shape)
            room = evaluate(self._program.storages[place.storage].bytes, self._bindings)
            if array.nbytes > room:
                raise ValueError(f"register {number} takes {array.nbytes} bytes of {room}")
            return array
        assert isinstance(place, View)
        return self._arrays[place.source].reshape(shape)

    def _tensor(self, register: int) -> Any:
        if register not in self._tensors:
            self._tensors[register] = tvm_ffi.from_dlpack(compact(self._arrays[register]))
        return self._tensors[register]

    def _bind(self, instruction: Instruction) -> Step:
        if isinstance(instruction, Kernel):
            return self._bind_kernel(instruction)
        if isinstance(instruction, ArrayCall):
            return self._bind_array(instruction)
        if isinstance(instruction, Move):
            target, source = self._arrays[instruction.target], self._arrays[instruction.source]
            if target.shape != source.shape:  # copyto would broadcast
                raise ValueError(
                    f"a branch gives {render_shape(source.shape)} where "
                    f"{render_shape(target.shape)} is joined"
                )
            return Step(np.copyto, (target, source))
        if isinstance(instruction, ShapeTensor):
            values = np.array(evaluate_shape(instruction.shape, self._bindings), dtype=np.int64)
            target = self._arrays[instruction.target]
            return Step(np.copyto, (target, values.reshape(target.shape)))
        if isinstance(instruction, Branch):
            condition = self._arrays[instruction.condition]
            if condition.size != 1:
                raise ValueError(f"a condition has {condition.size} elements")
            return Step(condition.item, (), branch_to=instruction.otherwise)
        assert isinstance(instruction, Goto)
        return Step(_nothing, (), branch_to=instruction.to)

    def _bind_kernel(self, instruction: Kernel) -> Step:
        written = instruction.arguments[len(instruction.arguments) - instruction.outputs :]
        if all(self._arrays[register].size == 0 for register in written):
            return Step(_nothing, ())
        function = self._machine.library.function(instruction.symbol)
        tensors = tuple(self._tensor(register) for register in instruction.arguments)
        return Step(function, tensors, instruction.operator)

    def _bind_array(self, instruction: ArrayCall) -> Step:
        accelerator = self._machine.accelerator
        assert accelerator is not None, "the session checks that a device is there"
        inputs = tuple(self._arrays[register] for register in instruction.inputs)
        arguments = (instruction.program, inputs, self._arrays[instruction.output])
        return Step(accelerator.invoke, arguments, instruction.operator)

    def _straight_line(self) -> list[Call] | None:
        if any(step.branch_to is not None for step in self.steps):
            return None
        return [(s.function, s.arguments) for s in self.steps if s.function is not _nothing]

    def run(self) -> None:
        """Execute on what ``inputs`` hold; ``outputs`` hold the result until the next run."""
        if self._calls is None:
            self._run_with_branches()
            return
        for function, arguments in self._calls:
            function(*arguments)

    def _run_with_branches(self) -> None:
        steps, position = self.steps, 0
        while position < len(steps):
            step = steps[position]
            position = step.next(position, step.function(*step.arguments))

    def run_timed(self) -> list[tuple[Instruction, float]]:
        """Execute, and give each operator's instruction with its wall time in seconds."""
        times: list[tuple[Instruction, float]] = []
        position = 0
        while position < len(self.steps):
            step = self.steps[position]
            started = time.perf_counter()
            result = step.function(*step.arguments)
            seconds = time.perf_counter() - started
            if step.operator >= 0:
                times.append((self._program.instructions[position], seconds))
            position = step.next(position, result)
        return times

    def run_observed(self, observe: Observe) -> None:
        """Execute, and show each operator's results as soon as they are there."""
        position = 0
        while position < len(self.steps):
            step = self.steps[position]
            result = step.function(*step.arguments)
            if step.operator >= 0:
                _, written = registers_of(self._program.instructions[position])
                observe(step.operator, [self._arrays[register] for register in written])
            position = step.next(position, result)

    def macs(self, operator: int) -> int:
        """Multiply-accumulates of one run of operator number ``operator``."""
        return evaluate(self._program.operators[operator].macs, self._bindings)


def _nothing() -> None:
    """The step of a goto, and of a kernel whose outputs are all empty."""


def fill(frame: Frame, arrays: Mapping[int, Array]) -> None:
    """Copy arrays (input number -> array) into the frame's inputs."""
    for index, array in arrays.items():
        np.copyto(frame.inputs[index], array)


@dataclass(frozen=True)
class Machine:
    """What programs run on: kernels, weights, and an accelerator where there is one.

    ``weights`` are aligned and writable (``memory.lendable``), though nobody writes them.
    """

    library: KernelLibrary
    weights: Sequence[Array]
    accelerator: Accelerator | None = None


class ModelVM:
    """Runs one model's program; keeps frames of the shapes it has seen."""

    def __init__(self, name: str, program: Program, machine: Machine) -> None:
        self.name = name
        self.program = program
        self.machine = machine
        self._idle = IdlePool[ShapeKey, Frame](MAX_IDLE_FRAMES)

    def acquire(self, shapes: ShapeKey) -> Frame:
        """A frame for these input shapes that nobody else uses."""
        return self._idle.take(shapes) or self.bind(shapes)

    def bind(self, shapes: ShapeKey, external: Mapping[int, Array] | None = None) -> Frame:
        """A new frame; ``external`` as in ``Frame``.

        Raises ``InputError`` for wrong shapes, ``CompileError`` where a shape inside the
        model cannot be had from them.
        """
        try:
            bindings = bind_symbols(self.program, shapes)
            return Frame(self.program, bindings, self.machine, external)
        except InputError as error:
            raise InputError(f"model {self.name!r}: {error}") from None
        except (ValueError, ArithmeticError, MemoryError) as error:
            raise CompileError(
                f"model {self.name!r} does not work at input shapes "
                f"{', '.join(map(render_shape, shapes))}: {error}"
            ) from error

    def release(self, shapes: ShapeKey, frame: Frame) -> None:
        """Give a frame back."""
        self._idle.give(shapes, frame)
