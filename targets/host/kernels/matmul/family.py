"""Matrix product, batched, of any shape: ``y[.., m, n] = epilogue(sum_k a[.., m, k] b[.., k, n])``.

Batch axes that only the left operand has count as rows (``geometry``). The schedule space
(``points``) says how: over panels of the right operand (``product``), which are made at
compile time where it is constant, else by a copy before the product or by each task; the
same with long sums in blocks (``deep``); over the right operand where it lies; or, for few
rows by a transposed right operand, as dot products (``dots``). Integers of 8 bits are
multiplied in pairs along k (``pairs``), for which the left operand is packed too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tvm import tirx

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.bfloat import (
    BITS,
    WORD,
    added_dots,
    bits_of,
    stores_bits,
    takes_words,
    with_dots,
    word,
    words_along,
)
from motet.targets.host.kernels.epilogue import find_epilogue
from motet.targets.host.kernels.matmul.deep import DeepProduct
from motet.targets.host.kernels.matmul.dots import Dots
from motet.targets.host.kernels.matmul.geometry import (
    FAMILY_NAME,
    Geometry,
    geometry_of,
    problem_of,
)
from motet.targets.host.kernels.matmul.panels import (
    half,
    pack_all,
    pack_left_pairs,
    pack_panel,
    pack_panels,
    plain_or_paired,
)
from motet.targets.host.kernels.matmul.points import (
    DOTS,
    IN_PLACE,
    PER_TASK,
    describe,
    is_parallel,
    points,
)
from motet.targets.host.kernels.matmul.product import PackPanel, Product
from motet.targets.host.kernels.operand import (
    Operand,
    Packing,
    find_operand,
    operand_buffers,
    packed_dtype,
)
from motet.targets.host.kernels.pairs import pair_product, takes_pairs
from motet.targets.host.kernels.tile import Tile, lanes_of
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    scratch,
    seq,
    simplify,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.space import Family, Point, choose
from motet.targets.host.stages import Stage, StagedFunction

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
    source = b.source()
    constant = source is not None and any(source[0].same_as(c) for c in constants)
    paired = takes_pairs(anchor.output.dtype, left.dtype, right.dtype)
    geometry = geometry_of(anchor)
    problem = problem_of(geometry, b, constant, paired, _is_transposed(b))
    point = choose(FAMILY, problem, machine)
    parallel_ = is_parallel(problem, machine)
    epilogue = find_epilogue(anchor, func)
    lanes = lanes_of(machine, str(anchor.output.dtype))
    if point["right"] == DOTS:
        body = Dots(geometry, point, left, b, epilogue, lanes).statement(parallel_)
        stages = (anchor, b.stage, epilogue.stage)
        return EmittedAnchor(body, (epilogue.output,), tuple(s for s in stages if s is not None))

    tile = _tile(point, machine, anchor, paired)
    types = (tile.dtype, str(left.dtype), str(right.dtype))
    words = constant and takes_words(options, machine, types, constant_of(geometry.depth))
    if words:
        tile = replace(tile, accumulate=added_dots)
    packed = _panels(geometry, right, tile, paired or words, per_task=point["right"] == PER_TASK)
    prepare: list[Stmt] = []
    repacked: dict[Buffer, tuple[Buffer, Packing]] = {}
    in_place = point["right"] == IN_PLACE
    pack: PackPanel | None = None
    pairs_of = geometry.depth if paired else None
    if source is not None and constant:
        pack_constant = _packing(source[1], tile.columns, str(packed.dtype), paired)
        if words:
            packed = scratch("packed", packed.shape, WORD)
            pack_constant = _packing_words(source[1], tile.columns)
        elif stores_bits(options, tile.dtype, str(right.dtype), constant_of(geometry.rows)):
            packed = scratch("packed", packed.shape, BITS)
            pack_constant = _packing_bits(source[1], tile.columns)
        repacked[source[0]] = (packed, pack_constant)
    elif point["right"] == PER_TASK:
        pack = _pack_one(b, geometry, lanes)
    elif not in_place:
        copy = pack_all(packed, b, geometry.columns, pairs_of, parallel_, lanes)
        prepare += [allocate(packed), copy]
    rows_of = left
    if paired:
        rows_of = scratch("pairs", [*left.shape[:-1], half(left.shape[-1])], "int32")
        prepare += [
            allocate(rows_of),
            pack_left_pairs(rows_of, a, geometry.depth, parallel_, lanes),
        ]
    if words:
        rows_of = scratch("words", [*left.shape[:-1], half(left.shape[-1])], WORD)
        packing = pack_left_pairs(rows_of, a, geometry.depth, parallel_, lanes, word)
        prepare += [allocate(rows_of), packing]
    depth = half(geometry.depth) if paired or words else geometry.depth
    work: Product | DeepProduct
    if point["depth"]:
        known = constant_of(depth) or 0
        work = DeepProduct(geometry, point, tile, rows_of, packed, known, epilogue)
    else:
        right_of = right if in_place else packed
        work = Product(geometry, point, tile, rows_of, right_of, depth, epilogue, in_place, pack)
    read = [b.stage, a.stage if paired or words else None, epilogue.stage]
    consumed = [anchor, *[s for s in read if s is not None]]
    body = seq(*prepare, work.statement(parallel_))
    body = with_dots(body, packed) if words else body
    return EmittedAnchor(body, (epilogue.output,), tuple(consumed), repacked)


def _tile(point: Point, machine: Machine, anchor: Stage, paired: bool) -> Tile:
    dtype = str(anchor.output.dtype)
    tile = Tile(point["rows"], point["vectors"], lanes_of(machine, dtype), dtype)
    return replace(tile, multiply=pair_product(machine, tile.lanes)) if paired else tile


def _panels(geometry: Geometry, right: Buffer, tile: Tile, paired: bool, per_task: bool) -> Buffer:
    """The buffer for all panels of the right operand, or for one."""
    columns = tile.columns
    dtype = "int32" if paired else packed_dtype(right, tile.dtype)
    depth = half(right.shape[-2]) if paired else right.shape[-2]
    if per_task:
        return scratch("panel", [depth, columns], dtype)
    count = simplify(tirx.floordiv(geometry.columns + columns - 1, index(columns)))
    return scratch("packed", [*right.shape[:-2], count, depth, columns], dtype)


def _packing(axes: Sequence[int], columns: int, dtype: str, paired: bool) -> Packing:
    """How a weight, which ``axes`` turn into (.., k, n), becomes panels."""
    return lambda w: pack_panels(plain_or_paired(w.transpose(axes), paired), columns).astype(dtype)


def _packing_bits(axes: Sequence[int], columns: int) -> Packing:
    """How a weight becomes panels of bfloat16."""
    return lambda w: pack_panels(bits_of(w.transpose(axes)), columns)


def _packing_words(axes: Sequence[int], columns: int) -> Packing:
    """How a weight becomes panels of pairs of bfloat16."""
    return lambda w: pack_panels(words_along(w.transpose(axes), -2), columns)


def _pack_one(b: Operand, geometry: Geometry, lanes: int) -> PackPanel:
    def pack(panel: Buffer, lead: Sequence[Expr], number: Expr) -> Stmt:
        return pack_panel(panel, [], b, lead, number, geometry.columns, None, lanes)

    return pack
