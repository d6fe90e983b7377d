"""The recurrent weights R in the order in which a step reads them.

A block is ``width`` neighbouring elements of the state with all the gates that a phase of the
step computes for them, so that the cell can be updated while its gates are in registers. R
``[hidden, gates * hidden]`` becomes, for each phase, ``[block][k][gate][width]``: one stream
from the first byte to the last. The last block starts early where ``width`` does not divide
``hidden``; what it computes twice is equal both times.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    index,
    load,
    loop,
    parallel,
    ramp,
    seq,
    store,
)  # fmt: skip


@dataclass(frozen=True)
class Blocks:
    """How the columns of R are cut; ``phases`` are the gates that are computed together."""

    hidden: int
    width: int
    phases: tuple[tuple[int, ...], ...]

    @property
    def count(self) -> int:
        """Blocks in a phase."""
        return -(-self.hidden // self.width)

    @property
    def size(self) -> int:
        """Elements of the packed weights."""
        return sum(self.count * self.hidden * len(gates) * self.width for gates in self.phases)

    def start(self, block: Expr) -> Expr:
        """The first element of the state in ``block``."""
        if self.hidden % self.width == 0:
            return block * self.width
        return tirx.min(block * self.width, index(self.hidden - self.width))

    def at(self, phase: int, block: Expr, k: Expr) -> Expr:
        """Where row ``k`` of a block begins, in the packed weights."""
        before = sum(len(gates) for gates in self.phases[:phase]) * self.count * self.width
        row = len(self.phases[phase]) * self.width
        return (block * self.hidden + k) * row + before * self.hidden

    def pack(self, weights: NDArray[np.generic]) -> NDArray[np.generic]:
        """R ``[hidden, gates * hidden]`` as the kernel reads it, ``[size]``."""
        starts = np.minimum(np.arange(self.count) * self.width, self.hidden - self.width)
        columns = starts[:, None] + np.arange(self.width)
        parts = []
        for gates in self.phases:
            picked = np.stack([weights[:, g * self.hidden + columns] for g in gates], 2)
            parts.append(picked.transpose(1, 0, 2, 3).ravel())
        return np.concatenate(parts)


def pack_at_run_time(weights: Buffer, packed: Buffer, blocks: Blocks, worth_it: bool) -> Stmt:
    """Fills ``packed`` as ``Blocks.pack`` does."""

    def one(phase: int, gates: Sequence[int]) -> Stmt:
        def row(block: Expr, k: Expr) -> Stmt:
            first, to = blocks.start(block), blocks.at(phase, block, k)
            return seq(*[
                store(packed, load(weights, k, ramp(first + g * blocks.hidden, blocks.width)),
                      ramp(to + number * blocks.width, blocks.width))
                for number, g in enumerate(gates)
            ])  # fmt: skip

        return parallel(
            ["block"], [blocks.count],
            lambda b: loop("k", blocks.hidden, lambda k: row(b, k)), worth_it,
        )  # fmt: skip

    return seq(*[one(number, gates) for number, gates in enumerate(blocks.phases)])
