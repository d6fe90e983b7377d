"""The virtual machine: binds a program to concrete shapes, then only calls kernels.

A ``Frame`` is a program bound to the shapes of its inputs: one stage of it, and where
shapes depend on data, a stage more for every set of values that was met (``stages.py``).
Frames are kept per distinct shape, and each call in flight has a frame, and so an arena,
of its own: a program may run in many threads at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from motet.runtime.boundaries import Boundary
from motet.runtime.call_rows import CallRow
from motet.runtime.device import Array
from motet.runtime.element_types import stored_dtype
from motet.runtime.errors import CompileError, InputError
from motet.runtime.late import START, Waiting, waiting
from motet.runtime.manifest import NO_QUOTA, Quota
from motet.runtime.memory import aligned_bytes, plan, view
from motet.runtime.pool import IdlePool
from motet.runtime.program import BindSymbols, Instruction, Program, registers_of
from motet.runtime.shapes import Bindings, evaluate, evaluate_shape, render_shape
from motet.runtime.stages import Machine, Room, Stage, Step
from motet.runtime.symbols import ShapeKey, bind_symbols

__all__ = ["Frame", "Machine", "ModelVM", "Observe", "fill"]

Item = TypeVar("Item")

Observe = Callable[[int, Sequence[Array]], None]
"""Takes an operator's number and what it wrote, which later operators may overwrite."""

MAX_IDLE_FRAMES = 32
"""Frames of one model that stay bound between calls; those of the least recent shape go first."""

MAX_STAGES = 64
"""Stages that a frame keeps for values it has seen; when there are more, all go."""

MAX_LATE_BYTES = 16 * 2**30
"""Bytes that the tensors of one stage may take; data that asks for more is refused."""


class Frame:
    """A program bound to shapes, with an arena of its own; runs one call at a time.

    ``external`` gives arrays that stand in for inputs without a copy (an output of
    another frame); they must be C-contiguous, aligned, and outlive the frame. ``waits``:
    what of the program waits for data, where the caller has found it out before.
    ``model``: what messages call the program. ``quota``: of memory and threads.
    """

    def __init__(
        self,
        program: Program,
        bindings: Bindings,
        machine: Machine,
        external: Mapping[int, Array] | None = None,
        waits: Waiting | None = None,
        model: str = "model",
        quota: Quota = NO_QUOTA,
    ) -> None:
        self._model = model
        self._quota = quota
        self._program = program
        self._machine = machine
        self._waits = waits or waiting(program)
        self.inputs: list[Array] = self._input_buffers(bindings, external or {})
        self._memory: dict[int, Array] = {}
        self._first = self._stage(bindings, None, START)
        self._last = self._first
        self._kept = 0
        self.outputs = self._results(self._first)
        self._calls = None if self._waits.symbols else self._first.calls
        self._row = self._only_row()

    def _only_row(self) -> CallRow | None:
        """The row of calls that is all of the program, where it is one."""
        only = self._calls[0][0] if self._calls is not None and len(self._calls) == 1 else None
        return only if isinstance(only, CallRow) else None

    @property
    def arena_bytes(self) -> int:
        """Size of this frame's arena, of late tensors too."""
        return sum(int(memory.nbytes) for memory in self._memory.values())

    def _input_buffers(self, bindings: Bindings, external: Mapping[int, Array]) -> list[Array]:
        buffers = []
        for index, info in enumerate(self._program.inputs):
            buffer = external.get(index)
            if buffer is None:
                shape = evaluate_shape(info.shape, bindings)
                dtype = stored_dtype(info.dtype)
                size = int(np.prod(shape, dtype=np.int64)) * np.dtype(dtype).itemsize
                buffer = view(aligned_bytes(size), 0, dtype, shape)
            buffers.append(buffer)
        return buffers

    def _stage(self, bindings: Bindings, parent: Stage | None, start: int) -> Stage:
        """The stage after instruction ``start``, in memory that all stages there share."""
        rooms = self._lay_out(bindings, parent, start)
        return Stage(
            self._program, self._waits, self._machine, bindings, rooms, self.inputs, parent, start
        )

    def _lay_out(self, bindings: Bindings, parent: Stage | None, start: int) -> dict[int, Room]:
        """Where the storages lie whose sizes ``bindings`` complete."""
        program, known = self._program, bindings.keys()
        numbers = [
            number
            for number in range(len(program.storages))
            if self._waits.storages.get(number, frozenset()) <= known
            and (parent is None or not parent.has_storage(number))
        ]
        storages = [program.storages[number] for number in numbers]
        sizes = [evaluate(storage.bytes, bindings) for storage in storages]
        if parent is not None:
            _check_sizes(sizes)
        offsets: Sequence[int] | None = program.offsets
        total = program.arena_bytes
        if parent is not None or offsets is None or total is None:
            offsets, total = plan(sizes, [storage.lifetime for storage in storages])
        self._check_quota(total, start)
        if start not in self._memory or self._memory[start].nbytes < total:
            # Late tensors grow by half at least, so that growing ends soon.
            old = self._memory[start].nbytes if start in self._memory else 0
            self._memory[start] = aligned_bytes(max(total, old * 3 // 2))
        memory = self._memory[start]
        places = zip(numbers, offsets, sizes, strict=True)
        return {number: (memory, offset, size) for number, offset, size in places}

    def _check_quota(self, size: int, start: int) -> None:
        """Raise ``ValueError`` where a stage's ``size`` bytes are more than the model may have."""
        most = self._quota.arena_bytes
        total = size + sum(int(m.nbytes) for s, m in self._memory.items() if s != start)
        if most is not None and total > most:
            raise ValueError(
                f"it takes an arena of {total} bytes, more than its quota of {most}: raise "
                "quota.arena_mib in the specification, or run smaller inputs"
            )

    def output(self, index: int) -> Array:
        """Output number ``index``; before the first run only where its shape is known."""
        return self._last.arrays[self._program.output_registers[index]]

    def _results(self, stage: Stage) -> list[Array]:
        """The outputs, as far as their shapes are known in ``stage``: all after a run."""
        registers = self._program.output_registers
        return [stage.arrays[index] for index in registers if index in stage.arrays]

    def _after(self, stage: Stage, position: int) -> Stage:
        """The stage that the ``bind`` at ``position`` starts with the values it finds."""
        values = tuple(stage.stops[position].tolist())
        key = (position, *values)
        found = stage.children.get(key)
        if found is None:
            found = self._enter(stage, position, values)
            stage.children[key] = found
        return found

    def _enter(self, stage: Stage, position: int, values: tuple[int, ...]) -> Stage:
        bind = self._program.instructions[position]
        assert isinstance(bind, BindSymbols)
        late = dict(zip(bind.symbols, values, strict=True))
        if self._kept >= MAX_STAGES:
            self._first.children.clear()  # what runs now is kept alive by those who run it
            self._kept = 0
        try:
            if min(values, default=0) < 0:
                raise ValueError("a dimension is negative")
            made = self._stage({**stage.bindings, **late}, stage, position)
        except (ValueError, ArithmeticError, MemoryError) as error:
            found = ", ".join(f"{name} = {value}" for name, value in late.items())
            nodes = "+".join(bind.onnx_nodes) or "unnamed"
            raise InputError(
                f"model {self._model!r}: node {nodes!r} computes {found} from this input, with "
                f"which the model does not work: {error}"
            ) from error
        self._kept += 1
        return made

    def run(self) -> None:
        """Execute on what ``inputs`` hold; ``outputs`` hold the result until the next run."""
        if self._quota.threads is not None:
            with self._machine.library.limited(self._quota.threads):
                self._run()
        else:
            self._run()

    def _run(self) -> None:
        if self._calls is not None:
            for function, arguments in self._calls:
                function(*arguments)
            return
        self._run_stages(Stage.run)

    def _run_stages(self, run: Callable[[Stage], int]) -> None:
        """``run`` executes a stage; it gives the position of the bind that comes, or the end."""
        stage, end = self._first, len(self._program.instructions)
        position = run(stage)
        while position != end:
            stage = self._after(stage, position)
            position = run(stage)
        self._ended_in(stage)

    def _ended_in(self, stage: Stage) -> None:
        if stage is not self._last:
            self._last, self.outputs = stage, self._results(stage)

    def pausing(self, boundary: Boundary) -> Generator[int, None, None]:
        """As ``run``, giving way as ``Stage.pausing`` does; may be given up wherever it does."""
        most = self._quota.threads
        if most is None:
            row = self._row
            return self._pausing(boundary) if row is None else row.pausing(boundary)
        return self._limited(self._pausing(boundary), most)

    def _limited(self, steps: Iterator[Item], most: int) -> Generator[Item, None, None]:
        """``steps``, each part with ``most`` threads."""
        while True:  # whoever runs on this thread in between has limits of its own
            with self._machine.library.limited(most):
                try:
                    done = next(steps)
                except StopIteration:
                    return
            yield done

    def _pausing(self, boundary: Boundary) -> Generator[int, None, None]:
        stage, end = self._first, len(self._program.instructions)
        position = yield from stage.pausing(boundary)
        while position != end:
            stage = self._after(stage, position)
            position = yield from stage.pausing(boundary)
        self._ended_in(stage)

    def array_calls(self) -> Generator[Sequence[Any], None, None]:
        """As ``run``, leaving the array's calls to others, as ``Stage.array_calls`` does."""
        most = self._quota.threads
        return self._array_calls() if most is None else self._limited(self._array_calls(), most)

    def _array_calls(self) -> Generator[Sequence[Any], None, None]:
        stage, end = self._first, len(self._program.instructions)
        position = yield from stage.array_calls()
        while position != end:
            stage = self._after(stage, position)
            position = yield from stage.array_calls()
        self._ended_in(stage)

    def run_timed(self) -> list[tuple[Instruction, float]]:
        """Execute, and give each operator's instruction with its wall time in seconds."""
        times: list[tuple[Instruction, float]] = []

        def timed(_stage: Stage, position: int, step: Step) -> Any:
            started = time.perf_counter()
            result = step.function(*step.arguments)
            seconds = time.perf_counter() - started
            if step.operator >= 0:
                times.append((self._program.instructions[position], seconds))
            return result

        self._run_stages(lambda stage: stage.walk(timed))
        return times

    def run_observed(self, observe: Observe) -> None:
        """Execute, and show each operator's results as soon as they are there."""

        def observed(stage: Stage, position: int, step: Step) -> Any:
            result = step.function(*step.arguments)
            if step.operator >= 0:
                _, written = registers_of(self._program.instructions[position])
                observe(step.operator, [stage.arrays[register] for register in written])
            return result

        self._run_stages(lambda stage: stage.walk(observed))

    def operands(self, instruction: Instruction) -> tuple[list[Array], list[Array]]:
        """What an instruction of the last run read, and what it wrote, in their order."""
        read, written = registers_of(instruction)
        arrays = self._last.arrays
        return [arrays[register] for register in read], [arrays[register] for register in written]

    def macs(self, operator: int) -> int:
        """Multiply-accumulates of operator number ``operator`` in the last run."""
        return evaluate(self._program.operators[operator].macs, self._last.bindings)


def _check_sizes(sizes: Sequence[int]) -> None:
    """Refuse tensors of a stage that no machine is meant to hold."""
    total = sum(sizes)
    if total > MAX_LATE_BYTES:
        raise ValueError(f"its tensors take {total} bytes, more than the limit of {MAX_LATE_BYTES}")


def fill(frame: Frame, arrays: Mapping[int, Array]) -> None:
    """Copy arrays (input number -> array) into the frame's inputs."""
    for index, array in arrays.items():
        np.copyto(frame.inputs[index], array)


class ModelVM:
    """Runs one model's program; keeps frames of the shapes it has seen."""

    def __init__(
        self, name: str, program: Program, machine: Machine, quota: Quota = NO_QUOTA
    ) -> None:
        self.name = name
        self.quota = quota
        self.program = program
        self.machine = machine
        self._waits = waiting(program)
        self._idle = IdlePool[ShapeKey, Frame](MAX_IDLE_FRAMES)

    def acquire(self, shapes: ShapeKey) -> Frame:
        """A frame for these input shapes that nobody else uses."""
        return self._idle.take(shapes) or self.bind(shapes)

    def idle(self, shapes: ShapeKey) -> Frame | None:
        """As ``acquire``, where there is one; it takes no time."""
        return self._idle.take(shapes)

    def bind(self, shapes: ShapeKey, external: Mapping[int, Array] | None = None) -> Frame:
        """A new frame; ``external`` as in ``Frame``.

        Raises ``InputError`` for wrong shapes, ``CompileError`` where a shape inside the
        model cannot be had from them. Running the frame raises ``InputError`` where a shape
        that depends on data is one that the model does not work with.
        """
        try:
            bindings = bind_symbols(self.program, shapes)
            return Frame(
                self.program, bindings, self.machine, external, self._waits, self.name, self.quota
            )
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
