"""Where an anchor's operand comes from: a parameter, or a stage that has yet to be written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm.ir import TensorLoad
from tvm.ir.expr import Var

from motet.targets.host.exprs import loads, same_expr, substitute
from motet.targets.host.loops import Buffer, Expr, constant_of, load
from motet.targets.host.stages import Stage, StagedFunction, readers

Packing = Callable[..., NDArray[np.generic]]
"""Of a constant, and of those that are packed with it, to what the kernel reads."""


@dataclass(frozen=True, eq=False)
class Operand:
    """A buffer that is read, or the element-wise stage that would have filled it."""

    buffer: Buffer
    stage: Stage | None

    def at(self, indices: Sequence[Expr]) -> Expr:
        """The element at ``indices``, computed on the spot where there is a stage."""
        if self.stage is None:
            return load(self.buffer, *indices)
        axes = {a.var: i for a, i in zip(self.stage.spatial, indices, strict=True)}
        return substitute(self.stage.value, axes)

    def source(self) -> tuple[Buffer, tuple[int, ...]] | None:
        """``(buffer, axes)`` where the operand is ``numpy.transpose(buffer, axes)``."""
        if self.stage is None:
            return self.buffer, tuple(range(len(self.buffer.shape)))
        value = self.stage.value
        if not isinstance(value, TensorLoad) or len(value.indices) != len(self.stage.spatial):
            return None
        sources = []
        for axis in self.stage.spatial:
            hits = [
                p for p, i in enumerate(value.indices) if isinstance(i, Var) and i.same_as(axis.var)
            ]
            if not hits and constant_of(axis.extent) == 1:
                hits = [
                    p
                    for p, d in enumerate(value.source.shape)
                    if constant_of(d) == 1 and p not in sources
                ]
            if not hits:
                return None
            sources.append(hits[0])
        whole = all(
            same_expr(value.source.shape[p], a.extent)
            for p, a in zip(sources, self.stage.spatial, strict=True)
        )
        if not whole or len(set(sources)) != len(sources):
            return None
        return value.source, tuple(sources)


def find_operand(buffer: Buffer, anchor: Stage, func: StagedFunction) -> Operand:
    """The operand in ``buffer``; its stage where only ``anchor`` reads it."""
    producer = next((s for s in func.stages if s.injective and s.output.same_as(buffer)), None)
    if producer is None or is_one_of(buffer, func.outputs):
        return Operand(buffer, None)
    others = [s for s in readers(func.stages, buffer) if s is not anchor]
    return Operand(buffer, None if others else producer)


def constant_source(
    operand: Operand, constants: Sequence[Buffer]
) -> tuple[Buffer, tuple[int, ...]] | None:
    """``operand.source()`` where its buffer is one of ``constants``: what can be packed when
    the kernel is made.
    """
    source = operand.source()
    return source if source is not None and is_one_of(source[0], constants) else None


def is_one_of(buffer: Buffer, buffers: Sequence[Buffer]) -> bool:
    """Whether ``buffer`` itself is among ``buffers``."""
    return any(buffer.same_as(b) for b in buffers)


def operand_buffers(anchor: Stage) -> list[Buffer]:
    """The buffers that an anchor multiplies, left one first."""
    accesses = (x for x in loads(anchor.value) if not x.source.same_as(anchor.output))
    return [x.source for x in accesses]


def packed_dtype(buffer: Buffer, accumulator: str) -> str:
    """The type weights are packed as: half-precision ones as the accumulators are, since a
    conversion per multiply-accumulate costs more than the memory.
    """
    return accumulator if buffer.dtype in ("float16", "bfloat16") else str(buffer.dtype)
