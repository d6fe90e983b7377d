"""What a product of vectors runs over."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from motet.targets.host.loops import Expr


@dataclass(frozen=True, eq=False)
class Geometry:
    """What a product of vectors runs over.

    lead: batch axes; groups; positions: of one batch; columns: output channels of a group;
    vectors: K of an output. base: (batch, group, position) to the number of the position's
    first vector in the data. place: (batch, group, position, channel, flat) to the
    result's indices; flat: all positions counted along the last axis.
    positions_last: whether neighbouring positions are neighbours in the result.
    """

    lead: Sequence[Expr]
    groups: int
    positions: Expr
    columns: Expr
    vectors: Expr
    base: Callable[[Sequence[Expr], Expr, Expr], Expr]
    place: Callable[[Sequence[Expr], Expr, Expr, Expr, bool], list[Expr]]
    positions_last: bool
