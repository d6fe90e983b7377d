"""What the parts of Winograd's nest share while it is written."""

from __future__ import annotations

from dataclasses import dataclass

from tvm import tirx

from motet.targets.host.kernels.blocked_conv.request import Request
from motet.targets.host.kernels.blocked_conv.winograd_matrices import Matrices
from motet.targets.host.kernels.blocked_conv.winograd_plan import Plan
from motet.targets.host.loops import Buffer, Expr, Stmt, index, scratch, seq


@dataclass(frozen=True, eq=False)
class Writing:
    """A nest in the making; ``weights`` is packed as ``pack_weights`` does.

    parallel: whether its outer loops are.
    """

    request: Request
    plan: Plan
    matrices: Matrices
    weights: Buffer
    dtype: str
    parallel: bool

    def half(self) -> Buffer:
        """Memory for the half-transformed values of a tile."""
        return scratch("half", [self.plan.points * self.plan.block], self.dtype)

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
    ``base``; half: ``Writing.half``; skipped: tiles at the group's start that the group
    before has done too.
    """

    values: Buffer
    base: Expr
    half: Buffer
    n: Expr
    first: Expr
    skipped: Expr
