"""Both operands of a matrix product as its loop nests read them.

The right one is read in panels: packed when the kernel is made where it is a constant, by a
copy before the product, or by each task; or it is read where it lies. Where products are
formed of neighbours along k in 32 bits, the left one is packed before the product.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.bfloat import (
    BITS,
    WORD,
    bits_of,
    stores_bits,
    word,
    words_along,
)
from motet.targets.host.kernels.fours import four, fours_along
from motet.targets.host.kernels.matmul.geometry import Geometry
from motet.targets.host.kernels.matmul.panels import (
    groups_in,
    pack_all,
    pack_left,
    pack_panel,
    pack_panels,
)
from motet.targets.host.kernels.matmul.points import IN_PLACE, PER_TASK
from motet.targets.host.kernels.matmul.product import PackPanel
from motet.targets.host.kernels.operand import Operand, Packing, packed_dtype
from motet.targets.host.kernels.pairs import pair, pairs_along
from motet.targets.host.kernels.tile import Tile
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    scratch,
    simplify,
)
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Point


class Form(Enum):
    """How elements are multiplied: one by one, or neighbours along k in 32 bits: two of int16
    or bfloat16, or four bytes.
    """

    PLAIN = "plain"
    PAIRS = "pairs"
    WORDS = "words"
    BYTES = "bytes"

    @classmethod
    def of(cls, paired: bool, words: bool, bytes_: bool) -> Form:
        """The form of a product of integers (``paired``, of bytes ``bytes_``) or of bfloat16
        (``words``).
        """
        if words:
            return cls.WORDS
        if bytes_:
            return cls.BYTES
        return cls.PAIRS if paired else cls.PLAIN

    @property
    def size(self) -> int:
        """Neighbours that are multiplied at once."""
        return {Form.PLAIN: 1, Form.BYTES: 4}.get(self, 2)

    @property
    def integers(self) -> bool:
        """Whether groups of integers are held in int32."""
        return self in (Form.PAIRS, Form.BYTES)


_LEFT: Mapping[Form, tuple[str, str, Callable[..., Expr]]] = {
    Form.PAIRS: ("pairs", "int32", pair),
    Form.WORDS: ("words", WORD, word),
    Form.BYTES: ("fours", "int32", four),
}
"""Name and type of the packed left operand, and how the values of a group become one."""
_RIGHT: Mapping[Form, Callable[[NDArray[Any]], NDArray[Any]]] = {
    Form.PAIRS: lambda w: pairs_along(w, -2),
    Form.BYTES: lambda w: fours_along(w, -2),
}


@dataclass(frozen=True, eq=False)
class Rows:
    """The left operand: the buffer to read, and what fills it before the product."""

    buffer: Buffer
    prepare: tuple[Stmt, ...] = ()


@dataclass(frozen=True, eq=False)
class Panels:
    """The right operand: the buffer to read; what fills it before the product, in a task, or
    when the kernel is made.
    """

    buffer: Buffer
    prepare: tuple[Stmt, ...] = ()
    pack: PackPanel | None = None
    repacked: Mapping[Buffer, tuple[Buffer, Packing]] = field(default_factory=dict)
    in_place: bool = False


@dataclass(frozen=True, eq=False)
class Operands:
    """What a product's operands are, and how its point wants them.

    source: the constant that ``b`` is, and its axes as ``Operand.source`` gives them.
    """

    geometry: Geometry
    point: Point
    tile: Tile
    a: Operand
    b: Operand
    source: tuple[Buffer, tuple[int, ...]] | None
    form: Form
    parallel: bool
    options: KernelOptions

    @property
    def depth(self) -> Expr:
        """Steps along k."""
        return self._groups(self.geometry.depth)

    def _groups(self, length: Expr) -> Expr:
        return length if self.form is Form.PLAIN else groups_in(length, self.form.size)

    def rows(self) -> Rows:
        """The left operand."""
        left = self.a.buffer
        if self.form is Form.PLAIN:
            return Rows(left)
        name, dtype, joined = _LEFT[self.form]
        packed = scratch(name, [*left.shape[:-1], self._groups(left.shape[-1])], dtype)
        copy = pack_left(
            packed, self.a, self.geometry.depth, self.parallel, self.tile.lanes, self.form.size,
            joined,
        )  # fmt: skip
        return Rows(packed, (allocate(packed), copy))

    def panels(self) -> Panels:
        """The right operand."""
        if self.source is not None:
            packed, packing = self._packed_constant(self.source[1])
            return Panels(packed, repacked={self.source[0]: (packed, packing)})
        if self.point["right"] == IN_PLACE:
            return Panels(self.b.buffer, in_place=True)
        if self.point["right"] == PER_TASK:
            return Panels(self._one_panel(), pack=self._pack_one)
        packed = self._all_panels()
        pairs = self.geometry.depth if self.form is Form.PAIRS else None
        copy = pack_all(
            packed, self.b, self.geometry.columns, pairs, self.parallel, self.tile.lanes
        )
        return Panels(packed, (allocate(packed), copy))

    def _packed_constant(self, axes: Sequence[int]) -> tuple[Buffer, Packing]:
        right, columns = self.b.buffer, self.tile.columns
        known_rows = constant_of(self.geometry.rows)
        if self.form is Form.WORDS:
            return self._all_panels(WORD), _panelled(axes, columns, lambda w: words_along(w, -2))
        if stores_bits(self.options, self.tile.dtype, str(right.dtype), known_rows):
            return self._all_panels(BITS), _panelled(axes, columns, bits_of)
        packed, grouped = self._all_panels(), _RIGHT.get(self.form, lambda w: w)
        plain = _panelled(axes, columns, grouped)
        return packed, lambda w: plain(w).astype(str(packed.dtype))

    def _dtype(self) -> str:
        integers = self.form.integers
        return "int32" if integers else packed_dtype(self.b.buffer, self.tile.dtype)

    def _panel_depth(self) -> Expr:
        return self._groups(self.b.buffer.shape[-2])

    def _one_panel(self) -> Buffer:
        return scratch("panel", [self._panel_depth(), self.tile.columns], self._dtype())

    def _all_panels(self, dtype: str | None = None) -> Buffer:
        columns = self.tile.columns
        count = simplify(tirx.floordiv(self.geometry.columns + columns - 1, index(columns)))
        shape = [*self.b.buffer.shape[:-2], count, self._panel_depth(), columns]
        return scratch("packed", shape, dtype or self._dtype())

    def _pack_one(self, panel: Buffer, lead: Sequence[Expr], number: Expr) -> Stmt:
        columns = self.geometry.columns
        return pack_panel(panel, [], self.b, lead, number, columns, None, self.tile.lanes)


def _panelled(
    axes: Sequence[int], columns: int, formed: Callable[[NDArray[Any]], NDArray[np.generic]]
) -> Packing:
    """How a weight, which ``axes`` turn into (.., k, n), becomes panels."""
    return lambda w: pack_panels(formed(w.transpose(axes)), columns)
