"""Convolution of plain N, C, *spatial tensors, of any rank, stride, dilation and groups.

Stage 1 copies the input, padded, into a workspace where each stride phase of an axis is
contiguous: element ``q`` of phase ``p`` is position ``q * stride + p``. There, an output
position flattened at the workspace's pitch, ``j``, reads for every kernel tap at ``j`` plus
a constant, so that neighbouring outputs are neighbouring loads::

    x'[n, c, phase, q] = padded x                                    parallel over n, c
    for n, group, block of output rows, part of the output channels: parallel
        for ob in blocks of output channels:
            for j in the block's positions, a tile at a time:
                acc[o, j] += w'[ob, ic, tap, o] * x'[n, ic, phase(tap), j + offset(tap)]
            for o, oh, ow: y[n, o, oh, ow] = epilogue(acc[o, oh * pitch + ow])

``w'`` holds the weights of ``rows`` output channels side by side, so that the values to be
broadcast are contiguous; it is packed at compile time where weights are constant. Positions
that fall into the halo of a row are computed and dropped. A pointwise convolution of stride
1 reads its input where it is, all spatial axes flattened to one. With few channels per group
(depthwise) the copy is made per group inside the parallel loop, where it stays in cache.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray
from tvm import tirx

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.conv_geometry import Convolution, describe
from motet.targets.host.kernels.conv_input import copy_channel, workspace_value
from motet.targets.host.kernels.conv_plan import UNROLLED_STEPS, Plan, make_plan
from motet.targets.host.kernels.conv_weights import pack_weights, pack_weights_at_run_time
from motet.targets.host.kernels.epilogue import Epilogue, find_epilogue
from motet.targets.host.kernels.operand import (
    Operand,
    Packing,
    constant_source,
    find_operand,
    operand_buffers,
    packed_dtype,
)  # fmt: skip
from motet.targets.host.kernels.pairs import pairs_along, takes_pairs
from motet.targets.host.kernels.tile import Tile, emit_tile
from motet.targets.host.kernels.vectors import overlapping_vectors, vector_loop
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    loop,
    nest,
    parallel,
    product,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.stages import Stage, StagedFunction


def _tap_loops(conv: Convolution, tile: Tile, body: Callable[[Sequence[Expr]], Stmt]) -> Stmt:
    """Loops over the kernel's taps, the inner axes unrolled as far as code size allows."""
    size, unrolled = tile.rows * tile.vectors, 0
    for k in reversed(conv.kernel):
        if size * k > UNROLLED_STEPS:
            break
        size *= k
        unrolled += 1
    looped = len(conv.kernel) - unrolled

    def inner(*outer: Expr) -> Stmt:
        tails = itertools.product(*map(range, conv.kernel[looped:]))
        return seq(*[body([*outer, *map(index, tail)]) for tail in tails])

    return nest([f"t{i}" for i in range(looped)], conv.kernel[:looped], inner)


@dataclass(frozen=True, eq=False)
class _Nest:
    """Writes the parts of the main nest."""

    conv: Convolution
    plan: Plan
    x: Buffer
    weights: Buffer
    epilogue: Epilogue

    def reduction(self, base: Expr, g: Expr, ob: Expr, step: Any) -> Stmt:
        """``base`` is where channel 0 of the group has the tile's first position."""
        conv, tile = self.conv, self.plan.tile

        def tap(c: Expr, taps: Sequence[Expr]) -> Stmt:
            number: Expr = index(0)
            for t, k in zip(taps, conv.kernel, strict=True):
                number = number * k + t
            at = base + c * conv.plane + conv.tap_offset(taps)
            return step(
                lambda r: load(self.weights, g, ob, c, simplify(number), r).astype(conv.dtype),
                lambda v: load(self.x, ramp(at + v * tile.lanes, tile.lanes)).astype(
                    f"{conv.dtype}x{tile.lanes}"
                ),
            )

        return loop("ic", conv.ic, lambda c: _tap_loops(conv, tile, lambda t: tap(c, t)))

    def tiles(self, sums: Buffer, base: Expr, row: Expr, span: Expr, g: Expr, ob: Expr) -> Stmt:
        """Accumulates the block's positions into ``sums[rows][positions]``."""
        conv, tile = self.conv, self.plan.tile
        start = row * conv.pitches[0]

        def one(j: Expr) -> Stmt:
            at: Expr = j * tile.columns
            if conv.in_place:
                at = tirx.min(at, conv.outputs[0] - tile.columns - start)
            first = tirx.Var("first", "int64")
            slot = first + tile.columns
            return seq(
                tirx.Bind(first, at),
                emit_tile(
                    tile,
                    lambda step: self.reduction(base + start + first, g, ob, step),
                    lambda r, v, value: store(
                        sums, value, r, ramp(slot + v * tile.lanes, tile.lanes)
                    ),
                ),
            )

        return loop("j", simplify(tirx.floordiv(span + tile.columns - 1, index(tile.columns))), one)

    def finish(self, sums: Buffer, n: Expr, g: Expr, ob: Expr, row: Expr, rows: Expr) -> Stmt:
        """Applies the epilogue to the block's outputs."""
        conv, tile = self.conv, self.plan.tile
        channels = tirx.min(index(tile.rows), conv.oc - ob * tile.rows)
        inner = conv.outputs[1:]

        def write(o: Expr, *at: Expr) -> Stmt:
            slot = sum((i * p for i, p in zip(at, conv.pitches, strict=True)), index(tile.columns))
            channel = g * conv.oc + ob * tile.rows + o
            position = [row + at[0], *at[1:]]
            if conv.direct:
                position = self._unflatten(position[0])
            return self.epilogue.write(load(sums, o, slot), [n, channel, *position])

        extents = [simplify(channels), rows, *inner]
        names = ["o", *[f"y{i}" for i in range(len(inner) + 1)]]
        # Short rows of integers end in a vector that starts early; its values are stored twice.
        vectors = overlapping_vectors if conv.paired else vector_loop
        return nest(
            names[:-1], extents[:-1],
            lambda *at: vectors(names[-1], extents[-1], tile.lanes, lambda i: write(*at, i)),
        )  # fmt: skip

    def _unflatten(self, flat: Expr) -> list[Expr]:
        position: list[Expr] = []
        for axis in reversed(self.epilogue.anchor.spatial[3:]):
            position.insert(0, tirx.floormod(flat, axis.extent))
            flat = tirx.floordiv(flat, axis.extent)
        return [flat, *position]

    def task(self, base: Expr, n: Expr, g: Expr, block: Expr, part: Expr) -> Stmt:
        """All output channels of a part, for a block of rows."""
        conv, plan = self.conv, self.plan
        row = block * plan.rows
        rows = simplify(tirx.min(plan.rows, conv.outputs[0] - row))
        per_part = -(-plan.channel_blocks // plan.channel_parts)
        widest = simplify(conv.row_span(plan.rows) + 3 * plan.tile.columns)
        sums = scratch("sums", [plan.tile.rows, widest], conv.dtype)

        def channels(ob: Expr) -> Stmt:
            at = part * per_part + ob
            return seq(
                self.tiles(sums, base, row, conv.row_span(rows), g, at),
                self.finish(sums, n, g, at, row, rows),
            )

        count = simplify(tirx.min(index(per_part), plan.channel_blocks - part * per_part))
        return seq(allocate(sums), loop("ob", tirx.max(count, index(0)), channels))


def _with_shared_copy(nest_: _Nest, pad: Stage, lanes: int) -> Stmt:
    conv, plan = nest_.conv, nest_.plan
    channels = conv.groups * conv.ic

    def copy(n: Expr, c: Expr) -> Stmt:
        return copy_channel(conv, pad, nest_.x, (n * channels + c) * conv.plane, n, c, lanes)

    return seq(
        allocate(nest_.x),
        parallel(["n", "c"], [conv.batch, channels], copy, plan.parallel),
        _main(nest_),
    )


def _with_paired_copy(nest_: _Nest, flat: Buffer) -> Stmt:
    conv, plan = nest_.conv, nest_.plan

    def copy(n: Expr, c: Expr) -> Stmt:
        start = (n * (conv.groups * conv.ic) + c) * conv.plane
        first = n * (conv.groups * conv.channels)

        def put(q: Expr) -> Stmt:
            def at(channel: Expr) -> Expr:
                return load(flat, (first + channel) * conv.plane + q)

            return store(nest_.x, workspace_value(conv, c, at), start + q)

        return vector_loop("q", conv.plane, plan.tile.lanes, put)

    extents = [conv.batch, conv.groups * conv.ic]
    copies = parallel(["n", "c"], extents, copy, plan.parallel)
    return seq(allocate(nest_.x), copies, _main(nest_))


def _main(nest_: _Nest) -> Stmt:
    conv, plan = nest_.conv, nest_.plan

    def task(n: Expr, g: Expr, block: Expr, part: Expr) -> Stmt:
        base = (n * (conv.groups * conv.ic) + g * conv.ic) * conv.plane
        return nest_.task(base, n, g, block, part)

    extents = [conv.batch, conv.groups, plan.row_blocks, plan.channel_parts]
    return parallel(["n", "g", "rows", "part"], extents, task, plan.parallel)


def _with_local_copy(nest_: _Nest, pad: Stage, lanes: int) -> Stmt:
    conv, plan = nest_.conv, nest_.plan

    def task(n: Expr, g: Expr) -> Stmt:
        def copy(c: Expr) -> Stmt:
            return copy_channel(conv, pad, nest_.x, c * conv.plane, n, g * conv.ic + c, lanes)

        return seq(
            allocate(nest_.x),
            loop("c", conv.ic, copy),
            loop("part", plan.channel_parts, lambda p: nest_.task(index(0), n, g, index(0), p)),
        )

    return parallel(["n", "g"], [conv.batch, conv.groups], task, plan.parallel)


def emit_convolution(
    anchor: Stage, func: StagedFunction, constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a convolution with its padding and its epilogue."""
    left, right = operand_buffers(anchor)
    x, w = find_operand(left, anchor, func), find_operand(right, anchor, func)
    shape = [constant_of(d) or 0 for d in right.shape]
    transposed = bool(int(anchor.attrs["transposed"]))
    paired = not transposed and takes_pairs(anchor.output.dtype, left.dtype, right.dtype)
    conv = describe(anchor, x, shape, paired=paired)
    plan = make_plan(conv, machine)
    columns = constant_of(conv.outputs[0])
    if conv.in_place and (columns is None or columns < plan.tile.columns):
        conv = describe(anchor, x, shape, flatten=False)
        plan = make_plan(conv, machine)
    dtype = "int32" if paired else packed_dtype(right, conv.dtype)
    packed = scratch(
        "packed", [conv.groups, plan.channel_blocks, conv.ic, conv.taps, plan.tile.rows],
        dtype,
    )  # fmt: skip
    epilogue = find_epilogue(anchor, func)
    consumed = [anchor, *[s for s in (x.stage, w.stage, epilogue.stage) if s is not None]]
    source = constant_source(w, constants)
    repacked: dict[Buffer, tuple[Buffer, Packing]] = {}
    prepare: list[Stmt] = []
    if source is not None:
        axes, rows, groups = source[1], plan.tile.rows, conv.groups

        def pack(weights: NDArray[Any]) -> NDArray[Any]:
            plain = weights.transpose(axes)
            if paired:
                plain = pairs_along(plain, 1)
            return pack_weights(plain, groups, rows, transposed).astype(dtype)

        repacked[source[0]] = packed, pack
    else:
        prepare = [
            allocate(packed),
            pack_weights_at_run_time(packed, w, conv, shape[2:], transposed),
        ]
    main = _input_nest(conv, plan, x, packed, epilogue)
    return EmittedAnchor(seq(*prepare, main), (epilogue.output,), tuple(consumed), repacked)


def _input_nest(
    conv: Convolution, plan: Plan, x: Operand, packed: Buffer, epilogue: Epilogue
) -> Stmt:
    channels = conv.ic if plan.local else product([conv.batch, conv.groups * conv.ic])
    size = simplify(channels * conv.plane + 2 * plan.tile.columns)
    padded = scratch("padded", [size], conv.dtype)
    if conv.direct:
        source = x.buffer if x.stage is None else x.stage.value.source
        flat = tirx.decl_buffer(
            [product(source.shape)], source.dtype, source.name, data=source.data
        )
        alias = tirx.DeclBuffer(flat, data=source.data)
        if conv.in_place:
            return seq(alias, _main(_Nest(conv, plan, flat, packed, epilogue)))
        return seq(alias, _with_paired_copy(_Nest(conv, plan, padded, packed, epilogue), flat))
    assert x.stage is not None
    nest_ = _Nest(conv, plan, padded, packed, epilogue)
    write = _with_local_copy if plan.local else _with_shared_copy
    return write(nest_, x.stage, plan.tile.lanes)
