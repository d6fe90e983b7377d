"""Keys and values of a head as the register tiles read them.

Keys [key][D] become panels [D][columns] (columns: keys of a tile): the transposition goes by
squares in registers where a head's elements are neighbours, as ``kernels.transpose`` does.
The last panel repeats the last key; what comes of it is not used. Values [key][D] become panels
[key][columns], so that a panel is one stream: rows of the projections are far apart, and
neighbouring keys fall on the same lines of the first-level cache.
"""

from __future__ import annotations

from tvm import tirx

from motet.targets.host.kernels.attending.views import View
from motet.targets.host.kernels.vectors import vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    load,
    loop,
    nest,
    ramp,
    seq,
    simplify,
    store,
)  # fmt: skip

_SQUARE = 4


def pack_keys(packed: Buffer, keys: View, head: tuple[Expr, Expr]) -> Stmt:
    """Fills ``packed`` [panels][D][columns]."""
    panels, depth, columns = packed.shape
    last = keys.extent("S") - 1
    count, width = constant_of(depth) or 0, constant_of(columns) or 0
    even = constant_of(simplify(keys.extent("S") - panels * columns)) == 0

    def row(key: Expr) -> Expr:
        return key if even else tirx.max(tirx.min(key, last), index(0))

    def element(panel: Expr, d: Expr, column: Expr) -> Stmt:
        value = keys.at(head, row(panel * columns + column), d)
        return store(packed, value, panel, d, column)

    if not keys.contiguous or count % _SQUARE:
        return nest(["panel", "d", "key"], [panels, depth, columns], element)
    together = 2 * _SQUARE if width % (2 * _SQUARE) == 0 else _SQUARE

    def square(panel: Expr, i: Expr, j: Expr) -> Stmt:
        first, d = i * together, j * _SQUARE
        loads = [
            keys.at(head, row(panel * columns + first + k), ramp(d, _SQUARE))
            for k in range(together)
        ]
        statements, rows = _transposed(loads)
        stores = [store(packed, r, panel, d + k, ramp(first, together)) for k, r in enumerate(rows)]
        return seq(*statements, *stores)

    counts = [panels, index(width // together), index(count // _SQUARE)]
    return nest(["panel", "keys", "d"], counts, square)


def _transposed(loads: list[Expr]) -> tuple[list[Stmt], list[Expr]]:
    """Four vectors of a column each, of as many rows of four as there are ``loads``."""
    statements: list[Stmt] = []

    def bound(value: Expr) -> Expr:
        var = tirx.Var("r", value.ty)
        statements.append(tirx.Bind(var, value))
        return var

    side = len(loads) // _SQUARE
    rows = []
    for i in range(_SQUARE):
        parts = [loads[s * _SQUARE + i] for s in range(side)]
        order = list(map(index, range(side * _SQUARE)))
        rows.append(bound(parts[0] if side == 1 else tirx.Shuffle(parts, order)))
    for _ in range(2):
        pairs = list(zip(rows[:2], rows[2:], strict=True))
        rows = [bound(_interleaved(a, b, side, first)) for a, b in pairs for first in (0, 2)]
    return statements, rows


def _interleaved(a: Expr, b: Expr, side: int, first: int) -> Expr:
    """Elements ``first`` and its neighbour of every square, those of ``a`` and ``b`` in turns."""
    order = [
        lane
        for s in range(side)
        for i in (first, first + 1)
        for lane in (s * _SQUARE + i, (side + s) * _SQUARE + i)
    ]
    return tirx.Shuffle([a, b], list(map(index, order)))


def pack_values(
    packed: Buffer, start: Expr, first: Expr, columns: int, values: View,
    head: tuple[Expr, Expr], lanes: int,
) -> Stmt:  # fmt: skip
    """Fills a panel [key][columns] at ``start`` of the flat ``packed`` with the values' elements
    from ``first``; those that a head does not have are 0.
    """
    depth = values.extent("D")
    known = constant_of(simplify(depth - first))
    kept = min(columns, known) if known is not None else columns

    def row(s: Expr) -> Stmt:
        at = start + s * columns

        def element(d: Expr) -> Stmt:
            return store(packed, values.at(head, s, first + d), at + d)

        def zero(d: Expr) -> Stmt:
            return store(packed, tirx.const(0, packed.dtype), at + kept + d)

        none = loop("none", columns - kept, zero) if columns > kept else None
        return seq(vector_loop("d", kept, lanes if values.contiguous else 1, element), none)

    return loop("key", values.extent("S"), row)


def read_packed(packed: Buffer, at: Expr, lanes: int) -> Expr:
    """A vector of the flat ``packed``."""
    return load(packed, ramp(at, lanes))
