"""Matrix product, batched, of any shape: ``y[.., m, n] = epilogue(sum_k a[.., m, k] b[.., k, n])``.

Batch axes that only the left operand has count as rows (``geometry``). The schedule space
(``points``) says how: over panels of the right operand (``product``), which are made at
compile time where it is constant, else by a copy before the product or by each task; the
same with long sums in blocks (``deep``); over the right operand where it lies; or, for few
rows by a transposed right operand, as dot products (``dots``). Integers of 8 bits are
multiplied in pairs along k (``pairs``), or, unsigned by constant signed bytes, in fours where the
machine has VNNI, for which the left operand is packed too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.bfloat import added_dots, takes_words, with_dots
from motet.targets.host.kernels.epilogue import Epilogue, find_epilogue
from motet.targets.host.kernels.fours import adds_dots, dot_sum
from motet.targets.host.kernels.matmul.deep import DeepProduct
from motet.targets.host.kernels.matmul.dots import Dots
from motet.targets.host.kernels.matmul.geometry import FAMILY_NAME, geometry_of, problem_of
from motet.targets.host.kernels.matmul.operands import Form, Operands, Panels, Rows
from motet.targets.host.kernels.matmul.points import DOTS, describe, is_parallel, points
from motet.targets.host.kernels.matmul.product import Product
from motet.targets.host.kernels.operand import (
    Operand,
    Packing,
    constant_source,
    find_operand,
    operand_buffers,
)
from motet.targets.host.kernels.pairs import takes_pairs
from motet.targets.host.kernels.tile import Tile, lanes_of, with_pairs
from motet.targets.host.loops import Buffer, Stmt, constant_of, seq
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Family, Point, choose
from motet.targets.host.stages import Stage, StagedFunction

_BYTES = ("int32", "uint8", "int8")
"""Sums, left and right operand that ``vpdpbusd`` takes."""
FAMILY = Family(FAMILY_NAME, points, describe)


def _is_transposed(right: Operand) -> bool:
    """Whether a column of the right operand is contiguous in memory."""
    source = None if right.stage is None else right.source()
    return source is not None and source[1][-2] == len(source[1]) - 1


def emit_matmul(
    anchor: Stage, func: StagedFunction, constants: Sequence[Buffer], machine: Machine,
    options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a matrix product with its epilogue."""
    left, right = operand_buffers(anchor)
    a, b = find_operand(left, anchor, func), find_operand(right, anchor, func)
    source = constant_source(b, constants)
    paired = takes_pairs(anchor.output.dtype, left.dtype, right.dtype)
    geometry = geometry_of(anchor)
    problem = problem_of(geometry, b, source is not None, paired, _is_transposed(b))
    point = choose(FAMILY, problem, machine)
    parallel = is_parallel(problem, machine)
    epilogue = find_epilogue(anchor, func)
    if point["right"] == DOTS:
        lanes = lanes_of(machine, str(anchor.output.dtype))
        body = Dots(geometry, point, left, b, epilogue, lanes).statement(parallel)
        return _emitted(body, epilogue, (anchor, b.stage, epilogue.stage), {})
    tile = _tile(point, machine, anchor)
    types = (tile.dtype, str(left.dtype), str(right.dtype))
    words = source is not None and takes_words(options, machine, types, constant_of(geometry.depth))
    bytes_ = source is not None and types == _BYTES and adds_dots(machine, tile.lanes)
    form = Form.of(paired, words, bytes_)
    operands = Operands(
        geometry, point, _multiplying(tile, form, machine), a, b, source, form, parallel, options
    )
    rows, panels = operands.rows(), operands.panels()
    body = seq(*panels.prepare, *rows.prepare, _product(operands, rows, panels, epilogue))
    body = with_dots(body, panels.buffer) if words else body
    read = (anchor, b.stage, None if operands.form is Form.PLAIN else a.stage, epilogue.stage)
    return _emitted(body, epilogue, read, panels.repacked)


def _product(operands: Operands, rows: Rows, panels: Panels, epilogue: Epilogue) -> Stmt:
    """The nest over packed operands."""
    o, depth = operands, operands.depth
    if o.point["depth"]:
        known = constant_of(depth) or 0
        deep = DeepProduct(
            o.geometry, o.point, o.tile, rows.buffer, panels.buffer, known, epilogue
        )  # fmt: skip
        return deep.statement(o.parallel)
    return Product(
        o.geometry, o.point, o.tile, rows.buffer, panels.buffer, depth, epilogue, panels.in_place,
        panels.pack,
    ).statement(o.parallel)  # fmt: skip


def _emitted(
    body: Stmt, epilogue: Epilogue, stages: Sequence[Stage | None],
    repacked: Mapping[Buffer, tuple[Buffer, Packing]],
) -> EmittedAnchor:  # fmt: skip
    consumed = tuple(stage for stage in stages if stage is not None)
    return EmittedAnchor(body, (epilogue.output,), consumed, dict(repacked))


def _tile(point: Point, machine: Machine, anchor: Stage) -> Tile:
    dtype = str(anchor.output.dtype)
    return Tile(point["rows"], point["vectors"], lanes_of(machine, dtype), dtype)


def _multiplying(tile: Tile, form: Form, machine: Machine) -> Tile:
    """``tile`` with the products of ``form``."""
    if form is Form.WORDS:
        return replace(tile, accumulate=added_dots)
    if form is Form.BYTES:
        return replace(tile, accumulate=dot_sum(tile.lanes))
    return with_pairs(tile, machine) if form is Form.PAIRS else tile
