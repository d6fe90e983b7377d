"""What the parts of Winograd's nest share while it is written."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.kernels.blocked_conv.winograd_matrices import Matrices
from motet.targets.host.kernels.blocked_conv.winograd_plan import Plan
from motet.targets.host.loops import Buffer, Expr, Stmt, index, scratch, seq


@dataclass(frozen=True, eq=False)
class Writing:
    """A nest in the making; ``weights`` is packed as ``pack_weights`` does.

    parallel: whether its outer loops are. dtype: of sums. In a nest of integers, narrow is the
    type of transformed inputs, of which products take pairs; accumulate: (total, pairs, pairs)
    to the total plus their products; finished: of a vector of transformed sums, the outputs.
    """

    request: Request
    plan: Plan
    matrices: Matrices
    weights: Buffer
    dtype: str
    parallel: bool
    narrow: str | None = None
    accumulate: Callable[[Expr, Expr, Expr], Expr] | None = None
    finished: Callable[[Expr], Expr] | None = None

    @property
    def input_dtype(self) -> str:
        """Type of transformed inputs."""
        return self.narrow or self.dtype

    @property
    def pair(self) -> int:
        """Input channels of one step of the products."""
        return 2 if self.narrow else 1

    def halves(self) -> tuple[Buffer, Buffer]:
        """Memory for the half-transformed values of a tile: of inputs, and of sums."""
        size = [self.plan.points * self.plan.block]
        sums = scratch("half", size, self.dtype)
        return scratch("input_half", size, self.narrow) if self.narrow else sums, sums

    def at_tile(self, tile: Expr, body: tuple[Expr, Expr, Stmt]) -> Stmt:
        """The statement of ``body`` (h, w, statement) with its two variables at the first
        output position of ``tile``.
        """
        h, w, statement = body
        across, size = index(self.plan.across), self.plan.size
        return seq(
            tirx.Bind(h, tirx.floordiv(tile, across) * size),
            tirx.Bind(w, tirx.floormod(tile, across) * size),
            statement,
        )


@dataclass(frozen=True, eq=False)
class TileGroup:
    """Neighbouring tiles of image ``n``, the first of them ``first``.

    values: [point][channel block][tile][lane] of their transformed inputs, from element
    ``base``; input_half, half: ``Writing.halves``; skipped: tiles at the group's start that the
    group before has done too.
    """

    values: Buffer
    base: Expr
    input_half: Buffer
    half: Buffer
    n: Expr
    first: Expr
    skipped: Expr
