"""Transpositions that change the last axis: square tiles, transposed in registers.

Of the axes that stay together two matter: the last one of the result, ``p``, and the one that
is last in the source, ``q``. A tile reads ``n`` vectors along ``q`` and writes ``n`` along ``p``;
``n`` elements are 16 bytes, the width in which x86 interleaves two vectors, and a vector of 32
bytes does two tiles side by side. Interleaving the first with the second half of the rows is a
perfect shuffle of the tile; log2(n) of them are its transposition::

    parallel for other axes, blocks of p, blocks of q:
        for tiles of p, for tiles of q in the block:
            r[i] = x[p + i][q ...];  log2(n) times: r = interleave(r[:n/2], r[n/2:])
            y[q + i][p ...] = r[i]

A block is a line of the cache wide in both directions, or longer where the other axis is
short, as channels of the blocked layout are. The last tile may overlap the one before it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import tirx
from tvm.ir import TensorLoad
from tvm.ir.expr import Var

from motet.targets.host.exprs import same_expr
from motet.targets.host.kernels.injective import worth_parallel
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    constant_of,
    index,
    load,
    loop,
    parallel,
    product,
    ramp,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Axis, Stage

_BLOCK_ELEMENTS = 4096
_LINE_BYTES = 64
_INTERLEAVED_BYTES = 16


@dataclass(frozen=True, eq=False)
class _Axis:
    """Fused axes: their extent, and how far apart neighbours are, in elements."""

    extent: Expr
    source: Expr
    output: Expr


@dataclass(frozen=True, eq=False)
class _Transposition:
    """``output`` is ``source`` with its axes reordered; ``p`` and ``q`` as above."""

    source: Buffer
    output: Buffer
    others: tuple[_Axis, ...]
    p: _Axis
    q: _Axis
    tile: int
    side_by_side: int

    @property
    def width(self) -> int:
        """Elements of a vector that is written."""
        return self.tile * self.side_by_side


def _strides(shape: Sequence[Expr]) -> list[Expr]:
    return [product(shape[k + 1 :]) for k in range(len(shape))]


def _source_strides(value: TensorLoad, axes: Sequence[Axis]) -> Mapping[Var, Expr] | None:
    """How far apart the source has neighbours along every axis; None if it is no permutation."""
    found: dict[Var, Expr] = {}
    for i, stride in zip(value.indices, _strides(value.source.shape), strict=True):
        if constant_of(i) == 0:
            continue
        if not isinstance(i, Var) or i in found:
            return None
        found[i] = stride
    if any(a.var not in found and constant_of(a.extent) != 1 for a in axes):
        return None
    return found


def _groups(stage: Stage, strides: Mapping[Var, Expr]) -> list[list[Axis]]:
    """Neighbouring axes together that are neighbours in the source too; those of one element
    are left out.
    """
    groups: list[list[Axis]] = []
    for axis in stage.spatial:
        if constant_of(axis.extent) == 1:
            continue
        within = product([strides[axis.var], axis.extent])
        if groups and same_expr(strides[groups[-1][-1].var], within):
            groups[-1].append(axis)
        else:
            groups.append([axis])
    return groups


def _transposition(stage: Stage, machine: Machine) -> _Transposition | None:
    value = stage.value
    if not isinstance(value, TensorLoad) or str(value.source.dtype) == "bool":
        return None
    strides = _source_strides(value, stage.spatial)
    if strides is None:
        return None
    outer = dict(
        zip((a.var for a in stage.spatial), _strides([a.extent for a in stage.spatial]),
            strict=True)
    )  # fmt: skip
    axes = [
        _Axis(product([a.extent for a in group]), strides[group[-1].var], outer[group[-1].var])
        for group in _groups(stage, strides)
    ]
    last = [k for k, a in enumerate(axes) if constant_of(a.source) == 1]
    if not axes or len(last) != 1 or last[0] == len(axes) - 1:
        return None
    p, q = axes[-1], axes[last[0]]
    sizes = constant_of(p.extent), constant_of(q.extent)
    tile = _INTERLEAVED_BYTES * 8 // int(tirx.const(0, str(value.source.dtype)).ty.dtype.bits)
    if None in sizes or min(s or 0 for s in sizes) < tile or tile < 2:
        return None
    several = min(machine.vector_bytes // _INTERLEAVED_BYTES, 2)
    side = several if (sizes[0] or 0) >= several * tile else 1
    others = tuple(a for a in axes if a is not p and a is not q)
    return _Transposition(value.source, stage.output, others, p, q, tile, side)


def emit_transposition(stage: Stage, machine: Machine) -> Stmt | None:
    """The nest of a stage that moves elements across the last axis; None for any other."""
    move = _transposition(stage, machine)
    if move is None:
        return None
    flat = [
        tirx.decl_buffer([product(b.shape)], b.dtype, b.name, data=b.data)
        for b in (move.source, move.output)
    ]
    aliases = [
        tirx.DeclBuffer(f, data=b.data)
        for f, b in zip(flat, (move.source, move.output), strict=True)
    ]
    return seq(*aliases, _Nest(move, flat[0], flat[1]).emit(machine))


def _block_sizes(move: _Transposition) -> tuple[int, int]:
    """Elements of a block along p and q."""
    p, q = constant_of(move.p.extent) or 0, constant_of(move.q.extent) or 0
    line = max(_LINE_BYTES // _INTERLEAVED_BYTES * move.tile, move.width)
    across = min(p, line)
    along = min(q, max(line, _BLOCK_ELEMENTS // across if across < line else 4 * line))
    if along < 4 * line:
        across = min(p, max(across, _BLOCK_ELEMENTS // along // move.width * move.width))
    return across, along


@dataclass(frozen=True, eq=False)
class _Nest:
    """Writes the loops and the tiles."""

    move: _Transposition
    source: Buffer
    output: Buffer

    def emit(self, machine: Machine) -> Stmt:
        move = self.move
        sizes = constant_of(move.p.extent) or 0, constant_of(move.q.extent) or 0
        blocks = _block_sizes(move)
        steps = move.width, move.tile

        def block(*at: Expr) -> Stmt:
            source = sum((i * a.source for i, a in zip(at, move.others, strict=False)), index(0))
            output = sum((i * a.output for i, a in zip(at, move.others, strict=False)), index(0))
            first = [simplify(b * size) for b, size in zip(at[-2:], blocks, strict=True)]
            tiles = [
                simplify(tirx.floordiv(tirx.min(index(block), size - f) + step - 1, index(step)))
                for block, size, f, step in zip(blocks, sizes, first, steps, strict=True)
            ]

            def start(axis: int, tile: Expr) -> Expr:
                at = first[axis] + tile * steps[axis]
                whole = sizes[axis] % steps[axis] == 0 and blocks[axis] % steps[axis] == 0
                return at if whole else tirx.min(at, index(sizes[axis] - steps[axis]))

            def tile(i: Expr, j: Expr) -> Stmt:
                p, q = tirx.Var("p", "int64"), tirx.Var("q", "int64")
                return seq(
                    tirx.Bind(p, start(0, i)), tirx.Bind(q, start(1, j)),
                    self._tile(source, output, p, q),
                )  # fmt: skip

            return loop("i", tiles[0], lambda i: loop("j", tiles[1], lambda j: tile(i, j)))

        counts = [-(-size // b) for size, b in zip(sizes, blocks, strict=True)]
        extents = [*(a.extent for a in move.others), *counts]
        work = worth_parallel([*(a.extent for a in move.others), index(sizes[0] * sizes[1])], 2,
                              machine)  # fmt: skip
        names = [f"o{k}" for k in range(len(move.others))] + ["p_block", "q_block"]
        return parallel(names, extents, block, work)

    def _tile(self, source: Expr, output: Expr, p: Expr, q: Expr) -> Stmt:
        move, n = self.move, self.move.tile
        statements: list[Stmt] = []

        def bound(value: Expr) -> Expr:
            var = tirx.Var("r", value.ty)
            statements.append(tirx.Bind(var, value))
            return var

        def row(i: int) -> Expr:
            parts = [
                load(self.source, ramp(
                    simplify(source + (p + (s * n + i)) * move.p.source + q), n))
                for s in range(move.side_by_side)
            ]  # fmt: skip
            joined = list(map(index, range(move.width)))
            return parts[0] if len(parts) == 1 else tirx.Shuffle(parts, joined)

        rows = [bound(row(i)) for i in range(n)]
        for _ in range(n.bit_length() - 1):
            pairs = list(zip(rows[: n // 2], rows[n // 2 :], strict=True))
            rows = [bound(half) for a, b in pairs for half in self._interleaved(a, b)]
        for i, r in enumerate(rows):
            at = simplify(output + (q + i) * move.q.output + p)
            statements.append(store(self.output, r, ramp(at, move.width)))
        return seq(*statements)

    def _interleaved(self, a: Expr, b: Expr) -> list[Expr]:
        n, side, width = self.move.tile, self.move.side_by_side, self.move.width

        def half(first: int) -> Expr:
            order = [
                lane
                for s in range(side)
                for i in range(first, first + n // 2)
                for lane in (s * n + i, width + s * n + i)
            ]
            return tirx.Shuffle([a, b], list(map(index, order)))

        return [half(0), half(n // 2)]
