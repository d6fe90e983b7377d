"""Hand-written VM programs and bundles for the tests of the run time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from motet.runtime.bundle import Bundle
from motet.runtime.manifest import Manifest, ModelEntry, Source
from motet.runtime.memory import Lifetime, plan
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
    Operator,
    Program,
    Register,
    ShapeTensor,
    Storage,
    Stored,
    TensorInfo,
    View,
    registers_of,
)
from motet.runtime.shapes import Dimension, Expression, Shape, product


@dataclass
class Draft:
    """A program in the making; storages live from first to last use, outputs to the end."""

    inputs: list[TensorInfo] = field(default_factory=list)
    registers: list[Register] = field(default_factory=list)
    sizes: list[Dimension] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)

    def _register(self, dtype: str, shape: Shape, place: Any) -> int:
        self.registers.append(Register(dtype, shape, place))
        return len(self.registers) - 1

    def input(self, name: str, shape: Shape, dtype: str = "float32") -> int:
        self.inputs.append(TensorInfo(name, dtype, shape))
        return self._register(dtype, shape, Input(len(self.inputs) - 1))

    def constant(self, index: int, shape: Shape, dtype: str = "float32") -> int:
        return self._register(dtype, shape, Constant(index))

    def stored(self, shape: Shape, dtype: str = "float32") -> int:
        elements, width = product(shape), int(np.dtype(dtype).itemsize)
        static = isinstance(elements, int)
        self.sizes.append(elements * width if static else Expression("*", elements, width))
        return self._register(dtype, shape, Stored(len(self.sizes) - 1))

    def view(self, source: int, shape: Shape) -> int:
        return self._register(self.registers[source].dtype, shape, View(source))

    def _operator(self, kind: str, target: Any, macs: Dimension) -> int:
        number = len(self.operators)
        self.operators.append(Operator(f"m/{number}", kind, (f"node{number}",), target, macs))
        return number

    def kernel(self, symbol: str, *arguments: int, outputs: int = 1, macs: Dimension = 0) -> int:
        """Calls ``symbol``; gives the last register back."""
        who = self._operator(symbol, "host", macs)
        self.instructions.append(Kernel(symbol, arguments, outputs, who))
        return arguments[-1]

    def array(self, program: str, *registers: int, outputs: int = 1, macs: Dimension = 0) -> int:
        """Runs ``program``; gives the last register back."""
        who = self._operator("conv2d", "array", macs)
        split = len(registers) - outputs
        self.instructions.append(ArrayCall(program, registers[:split], registers[split:], who))
        return registers[-1]

    def move(self, source: int, target: int) -> None:
        self.instructions.append(Move(source, target))

    def shape_tensor(self, shape: Shape) -> int:
        target = self.stored((len(shape),), "int64")
        self.instructions.append(ShapeTensor(shape, target))
        return target

    def bind(self, source: int, *symbols: str) -> None:
        self.instructions.append(BindSymbols(symbols, source, (f"binder{len(self.instructions)}",)))

    def branch(self, condition: int, otherwise: int) -> None:
        self.instructions.append(Branch(condition, otherwise))

    def fork(self, *groups: int) -> None:
        """The next kernel calls form groups of so many."""
        self.instructions.append(Fork(groups))

    def goto(self, to: int) -> None:
        self.instructions.append(Goto(to))

    def finish(self, **outputs: int) -> Program:
        """The program whose outputs are the named registers."""
        spans = self._lifetimes(outputs.values())
        offsets, arena = None, None
        if all(isinstance(size, int) for size in self.sizes):
            found, arena = plan([int(str(size)) for size in self.sizes], spans)
            offsets = tuple(found)
        infos = {name: self.registers[register] for name, register in outputs.items()}
        return Program(
            inputs=tuple(self.inputs),
            outputs=tuple(TensorInfo(name, r.dtype, r.shape) for name, r in infos.items()),
            output_registers=tuple(outputs.values()),
            registers=tuple(self.registers),
            storages=tuple(Storage(s, life) for s, life in zip(self.sizes, spans, strict=True)),
            instructions=tuple(self.instructions),
            operators=tuple(self.operators),
            offsets=offsets,
            arena_bytes=arena,
        )

    def _lifetimes(self, outputs: Any) -> list[Lifetime]:
        forked = {
            n + k: (n, n + sum(i.groups))
            for n, i in enumerate(self.instructions) if isinstance(i, Fork)
            for k in range(sum(i.groups) + 1)
        }  # fmt: skip
        uses = [
            (moment, r)
            for n, i in enumerate(self.instructions) for rs in registers_of(i) for r in rs
            for moment in forked.get(n, (n,))
        ]  # fmt: skip
        uses += [(len(self.instructions), register) for register in outputs]
        spans: list[list[int]] = [[] for _ in self.sizes]
        for moment, register in uses:
            place = self.registers[register].place
            while isinstance(place, View):
                place = self.registers[place.source].place
            if isinstance(place, Stored):
                spans[place.storage].append(moment)
        return [Lifetime(min(span, default=0), max(span, default=0)) for span in spans]


def affine_program(shape: Shape = (2, 4)) -> Program:
    """``y = 2 * (x + b)`` over ``shape``, with weight 0 as ``b``; flat views for the kernels."""
    draft = Draft()
    x = draft.input("x", shape)
    flat = (product(shape),)
    b = draft.constant(0, flat)
    total = draft.kernel("add", draft.view(x, flat), b, draft.stored(flat))
    y = draft.kernel("double", total, draft.stored(flat))
    return draft.finish(y=draft.view(y, shape))


def batch_program() -> Program:
    """``y = 4 * x`` over [N, 4] with a symbolic batch, and the shape of x as ``size``."""
    draft = Draft()
    shape: Shape = ("N", 4)
    x = draft.view(draft.input("x", shape), (product(shape),))
    once = draft.kernel("double", x, draft.stored((product(shape),)), macs=Expression("*", "N", 4))
    twice = draft.kernel("double", once, draft.stored((product(shape),)))
    return draft.finish(y=draft.view(twice, shape), size=draft.shape_tensor(shape))


def choice_program() -> Program:
    """``y = 2 * x`` where an element of x is positive, else ``y = x + x + x``; x is [4]."""
    draft = Draft()
    x = draft.input("x", (4,))
    condition = draft.kernel("any_positive", x, draft.stored((1,), "bool"))
    joined = draft.stored((4,))
    draft.branch(condition, 5)
    doubled = draft.kernel("double", x, draft.stored((4,)))
    draft.move(doubled, joined)
    draft.goto(8)
    twice = draft.kernel("double", x, draft.stored((4,)))
    thrice = draft.kernel("add", twice, x, draft.stored((4,)))
    draft.move(thrice, joined)
    return draft.finish(y=joined)


def positive_program() -> Program:
    """``y = 2 * (the positive elements of x)``, and how many they are as ``size``."""
    draft = Draft()
    x = draft.input("x", ("N",))
    count = draft.kernel("count_positive", x, draft.stored((1,), "int64"))
    draft.bind(count, "count")
    kept = draft.kernel("keep_positive", x, draft.stored(("count",)))
    y = draft.kernel("double", kept, draft.stored(("count",)), macs="count")
    return draft.finish(y=y, size=draft.shape_tensor(("count", "N")))


def bundle_of(
    programs: Mapping[str, Program],
    kernels: bytes = b"",
    weights: Sequence[np.ndarray[Any, Any]] = (),
    wires: Mapping[str, dict[str, str]] | None = None,
    array_programs: Mapping[str, bytes] | None = None,
    **manifest: Any,
) -> Bundle:
    """A bundle around ``programs`` for this machine's CPU."""
    wires = wires or {}
    entries = tuple(
        ModelEntry(name, Source(f"{name}.onnx", "0" * 64), wires=wires.get(name, {}))
        for name in programs
    )
    fields: dict[str, Any] = {
        "name": "test", "motet_version": "0", "target": "host", "cpu": "generic",
        "cpu_features": (), "threads": None, "models": entries,
    }  # fmt: skip
    return Bundle(
        manifest=Manifest(**(fields | manifest)),
        programs=dict(programs),
        weights=list(weights),
        kernels=kernels,
        array_programs=dict(array_programs or {}),
    )
