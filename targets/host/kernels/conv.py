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

import numpy as np
from numpy.typing import NDArray
from tvm import tirx
from tvm.ir import Call, TensorLoad

from motet.targets.host.exprs import is_axis, substitute, walk
from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.epilogue import Epilogue, find_epilogue
from motet.targets.host.kernels.operand import (
    Operand,
    Packing,
    find_operand,
    operand_buffers,
)  # fmt: skip
from motet.targets.host.kernels.tile import Tile, choose_tile, emit_tile
from motet.targets.host.kernels.vectors import vector_loop
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
    round_up,
    scratch,
    seq,
    simplify,
    store,
)  # fmt: skip
from motet.targets.host.machine import Machine
from motet.targets.host.stages import Stage, StagedFunction

# Floating-point operations below which a parallel launch costs more than it saves.
PARALLEL_FLOPS = 1_000_000
# Bytes of input that a block of output rows may read, so that it stays in the second-level cache.
_BLOCK_BYTES = 192 * 1024
_LOCAL_COPY_BYTES = 128 * 1024
_UNROLLED_STEPS = 120


@dataclass(frozen=True, eq=False)
class Convolution:
    """Extents of a convolution; lists are per spatial axis, outermost first.

    lengths: of an axis of the workspace, in elements of one phase; pitches: distance of
    neighbours along an axis; phases: stride phases that some tap reads.
    """

    batch: Expr
    groups: int
    ic: int
    oc: int
    outputs: tuple[Expr, ...]
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilation: tuple[int, ...]
    direct: bool
    dtype: str

    @property
    def phases(self) -> tuple[int, ...]:
        """Stride phases in use, per axis."""
        return tuple(
            max(t * d % s for t in range(k)) + 1
            for k, s, d in zip(self.kernel, self.strides, self.dilation, strict=True)
        )

    @property
    def lengths(self) -> tuple[Expr, ...]:
        """Elements of one phase along an axis."""
        return tuple(
            simplify(o + (k - 1) * d // s)
            for o, k, s, d in zip(
                self.outputs, self.kernel, self.strides, self.dilation, strict=True
            )
        )

    @property
    def pitches(self) -> tuple[Expr, ...]:
        """Distance of neighbours along an axis, in elements."""
        lengths = self.lengths
        return tuple(product(lengths[i + 1 :]) for i in range(len(lengths)))

    @property
    def plane(self) -> Expr:
        """Elements of one channel in the workspace, all phases."""
        return product([*self.lengths, *self.phases])

    @property
    def taps(self) -> int:
        """Elements of the kernel."""
        return int(np.prod(self.kernel))

    def row_span(self, rows: Expr) -> Expr:
        """Positions from the first to the last output of ``rows`` outermost rows."""
        inner = sum(
            ((o - 1) * p for o, p in zip(self.outputs[1:], self.pitches[1:], strict=True)),
            index(0),
        )
        return simplify((rows - 1) * self.pitches[0] + inner + 1)

    def tap_offset(self, taps: Sequence[Expr]) -> Expr:
        """Where a tap reads, relative to the position of its output."""
        phase: Expr = index(0)
        offset: Expr = index(0)
        for t, s, d, count, pitch in zip(
            taps, self.strides, self.dilation, self.phases, self.pitches, strict=True
        ):
            phase = phase * count + tirx.floormod(t * d, index(s))
            offset = offset + tirx.floordiv(t * d, index(s)) * pitch
        return simplify(phase * product(self.lengths) + offset)


def _describe(
    anchor: Stage, x: Operand, weight_shape: Sequence[int], in_place: bool = True
) -> Convolution:
    attrs = anchor.attrs
    groups = int(attrs["groups"])
    strides = tuple(int(s) for s in attrs["strides"])
    kernel = tuple(weight_shape[2:])
    outputs = tuple(a.extent for a in anchor.spatial[2:])
    direct = in_place and _reads_in_place(x) and set(kernel) == {1} and set(strides) == {1}
    if direct:
        outputs, kernel, strides = (product(outputs),), (1,), (1,)
    channels = constant_of(anchor.spatial[1].extent)
    assert channels is not None
    return Convolution(
        anchor.spatial[0].extent, groups, constant_of(anchor.reduction[0].extent) or 0,
        channels // groups, outputs, kernel, strides,
        tuple(int(d) for d in attrs["dilation"])[: len(outputs)], direct, anchor.output.dtype,
    )  # fmt: skip


def _reads_in_place(x: Operand) -> bool:
    if x.stage is None:
        return True
    value = x.stage.value
    return isinstance(value, TensorLoad) and all(
        is_axis(i, a.var) or constant_of(a.extent) == 1
        for i, a in zip(value.indices, x.stage.spatial, strict=True)
    )


# --------------------------------------------------------------------- weights


def pack_weights(weights: NDArray[Any], groups: int, rows: int, transposed: bool) -> NDArray[Any]:
    """``[groups][blocks][ic][taps][rows]`` of weights (O, I/groups, *kernel), zero-filled;
    of weights (I, O/groups, *kernel), flipped, where ``transposed``.
    """
    if transposed:
        ic = weights.shape[0] // groups
        split = weights.reshape(groups, ic, weights.shape[1], *weights.shape[2:])
        split = np.flip(split, tuple(range(3, split.ndim))).swapaxes(1, 2)
    else:
        split = weights.reshape(groups, weights.shape[0] // groups, *weights.shape[1:])
    oc, ic = split.shape[1:3]
    flat = split.reshape(groups, oc, ic, -1)
    padded = np.zeros((groups, round_up(oc, rows), *flat.shape[2:]), weights.dtype)
    padded[:, :oc] = flat
    blocks = padded.reshape(groups, -1, rows, *flat.shape[2:])
    return np.ascontiguousarray(np.moveaxis(blocks, 2, -1))


def _weight_at(
    operand: Operand, conv: Convolution, kernel: Sequence[int], transposed: bool,
    group: Expr, o: Expr, ic: Expr, tap: Expr,
) -> Expr:  # fmt: skip
    taps: list[Expr] = []
    for k in reversed(kernel):
        t = tirx.floormod(tap, index(k))
        taps.insert(0, index(k - 1) - t if transposed else t)
        tap = tirx.floordiv(tap, index(k))
    if transposed:
        return operand.at([group * conv.ic + ic, o, *taps])
    return operand.at([group * conv.oc + o, ic, *taps])


def _pack_at_run_time(
    packed: Buffer, operand: Operand, conv: Convolution, kernel: Sequence[int], transposed: bool
) -> Stmt:
    _, blocks, ic, taps, rows = [constant_of(d) or 0 for d in packed.shape]

    def element(g: Expr, ob: Expr, c: Expr, tap: Expr, r: Expr) -> Stmt:
        o = ob * rows + r
        value = _weight_at(operand, conv, kernel, transposed, g, o, c, tap)
        if conv.oc % rows:
            value = tirx.if_then_else(o < conv.oc, value, tirx.const(0, packed.dtype))
        return store(packed, value, g, ob, c, tap, r)

    return nest("gbctr", [conv.groups, blocks, ic, taps, rows], element)


# ------------------------------------------------------------- the padded input


def _conjunction(condition: Expr) -> list[Expr]:
    if isinstance(condition, tirx.And):
        return _conjunction(condition.a) + _conjunction(condition.b)
    return [condition]


def _guard(pad: Stage) -> list[Expr]:
    """The terms of the condition under which a padded position lies in the input."""
    value = pad.value
    if (
        isinstance(value, Call)
        and "motet.role" in pad.attrs
        and any(
            int(a) or int(b) or int(z) > 1
            for a, b, z in zip(*(pad.attrs[k] for k in ("before", "after", "zeros")), strict=True)
        )
    ):
        return _conjunction(value.args[0])
    return []


def _copy_row(
    conv: Convolution, pad: Stage, target: Buffer, start: Expr, lead: Sequence[Expr],
    phase: int, lanes: int,
) -> Stmt:  # fmt: skip
    """Fills one row (last axis) of one phase; ``lead`` are the padded positions before it."""
    length, stride = conv.lengths[-1], conv.strides[-1]
    axes = [a.var for a in pad.spatial]

    def put(value: Expr, q: Expr) -> Stmt:
        values = dict(zip(axes, [*lead, q * stride + phase], strict=True))
        return store(target, substitute(value, values).astype(target.dtype), start + q)

    guard = _guard(pad)
    if not guard or int(pad.attrs["zeros"][-1]) != 1:
        return vector_loop("q", length, lanes, lambda q: put(pad.value, q))
    before, after = int(pad.attrs["before"][-1]), int(pad.attrs["after"][-1])
    inside = pad.spatial[-1].extent - after - phase + stride - 1
    first = simplify(tirx.min(index(max(0, -(-(before - phase) // stride))), length))
    last = simplify(tirx.max(tirx.min(tirx.floordiv(inside, index(stride)), length), first))
    zero = tirx.const(0, target.dtype)

    def zeros(at: Expr, count: Expr) -> Stmt | None:
        count = simplify(count)
        if constant_of(count) == 0:
            return None
        return loop("z", count, lambda q: store(target, zero, start + at + q))

    row = seq(
        zeros(index(0), first),
        vector_loop(
            "q", simplify(last - first), lanes, lambda q: put(pad.value.args[1], q + first)
        ),
        zeros(last, length - last),
    )
    rows_guard = [t for t in guard if not any(e.same_as(axes[-1]) for e in walk(t))]
    if not rows_guard:
        return row
    condition = substitute(tirx.all(*rows_guard), dict(zip(axes, lead, strict=False)))
    empty = vector_loop("z", length, lanes, lambda q: store(target, zero, start + q))
    return tirx.IfThenElse(condition, row, empty)


def _copy_channel(
    conv: Convolution, pad: Stage, target: Buffer, start: Expr, n: Expr, c: Expr, lanes: int
) -> Stmt:
    """Fills all phases of one channel from ``start``."""
    statements = []
    plane = product(conv.lengths)
    for number, phases in enumerate(itertools.product(*map(range, conv.phases))):
        base = start + plane * number

        def row(*q: Expr, base: Expr = base, phases: tuple[int, ...] = phases) -> Stmt:
            at = sum((i * p for i, p in zip(q, conv.pitches, strict=False)), index(0))
            lead = [i * s + p for i, s, p in zip(q, conv.strides, phases, strict=False)]
            return _copy_row(conv, pad, target, base + at, [n, c, *lead], phases[-1], lanes)

        names = [f"q{i}" for i in range(len(phases) - 1)]
        statements.append(nest(names, conv.lengths[:-1], row))
    return seq(*statements)


# ---------------------------------------------------------------- the main nest


@dataclass(frozen=True, eq=False)
class _Plan:
    """How the work is cut: ``rows`` outermost output rows and a part of the channel blocks
    to a task; ``local`` copies the input inside the task, for one group at a time.
    """

    tile: Tile
    rows: Expr
    row_blocks: Expr
    channel_blocks: int
    channel_parts: int
    parallel: bool
    local: bool


def _rows_per_block(conv: Convolution, tile: Tile) -> Expr:
    total, pitch = constant_of(conv.outputs[0]), constant_of(conv.pitches[0])
    if conv.direct or total is None or pitch is None:
        block = 8 * tile.columns if len(conv.outputs) == 1 else 4
        return index(block if total is None else min(total, _direct_block(conv, tile, total)))
    budget = max(1, _BLOCK_BYTES // (4 * conv.ic * pitch * max(1, int(np.prod(conv.phases)))))

    def cost(rows: int) -> float:
        span = constant_of(conv.row_span(index(rows))) or pitch * rows
        blocks = -(-total // rows)
        return blocks * (round_up(span, tile.columns) + tile.columns / 4)

    return index(min(range(1, min(total, budget) + 1), key=cost))


def _direct_block(conv: Convolution, tile: Tile, total: int) -> int:
    """Positions per block of a one-axis convolution: whole tiles within the cache."""
    fitting = max(1, _BLOCK_BYTES // (4 * conv.ic) // tile.columns)
    blocks = -(-total // (fitting * tile.columns))
    return round_up(-(-total // blocks), tile.columns)


def _plan(conv: Convolution, machine: Machine) -> _Plan:
    span = constant_of(conv.row_span(conv.outputs[0])) or 10_000
    tile = choose_tile(machine, conv.dtype, conv.oc, span)
    plane = constant_of(conv.plane)
    local = (
        conv.groups > 1 and not conv.direct and plane is not None
        and conv.ic * plane * 4 <= _LOCAL_COPY_BYTES
    )  # fmt: skip
    rows = conv.outputs[0] if local else _rows_per_block(conv, tile)
    row_blocks = simplify(tirx.floordiv(conv.outputs[0] + rows - 1, rows))
    blocks = -(-conv.oc // tile.rows)
    flops = constant_of(product([conv.batch, *conv.outputs]))
    work = None if flops is None else 2 * flops * conv.oc * conv.groups * conv.ic * conv.taps
    several = machine.cores > 1 and (work is None or work >= PARALLEL_FLOPS)
    tasks = constant_of(product([conv.batch, row_blocks])) or 1
    wanted = -(-4 * machine.cores // (tasks * conv.groups)) if several else 1
    return _Plan(tile, rows, row_blocks, blocks, min(blocks, wanted), several, local)


def _tap_loops(conv: Convolution, tile: Tile, body: Callable[[Sequence[Expr]], Stmt]) -> Stmt:
    """Loops over the kernel's taps, the inner axes unrolled as far as code size allows."""
    size, unrolled = tile.rows * tile.vectors, 0
    for k in reversed(conv.kernel):
        if size * k > _UNROLLED_STEPS:
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
    plan: _Plan
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
            if conv.direct:
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
        return nest(
            names[:-1], extents[:-1],
            lambda *at: vector_loop(names[-1], extents[-1], tile.lanes, lambda i: write(*at, i)),
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
        return _copy_channel(conv, pad, nest_.x, (n * channels + c) * conv.plane, n, c, lanes)

    return seq(
        allocate(nest_.x),
        parallel(["n", "c"], [conv.batch, channels], copy, plan.parallel),
        _main(nest_),
    )


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
            return _copy_channel(conv, pad, nest_.x, c * conv.plane, n, g * conv.ic + c, lanes)

        return seq(
            allocate(nest_.x),
            loop("c", conv.ic, copy),
            loop("part", plan.channel_parts, lambda p: nest_.task(index(0), n, g, index(0), p)),
        )

    return parallel(["n", "g"], [conv.batch, conv.groups], task, plan.parallel)


def emit_convolution(
    anchor: Stage, func: StagedFunction, constants: Sequence[Buffer], machine: Machine
) -> EmittedAnchor:
    """The nest of a convolution with its padding and its epilogue."""
    left, right = operand_buffers(anchor)
    x, w = find_operand(left, anchor, func), find_operand(right, anchor, func)
    shape = [constant_of(d) or 0 for d in right.shape]
    conv = _describe(anchor, x, shape)
    plan = _plan(conv, machine)
    columns = constant_of(conv.outputs[0])
    if conv.direct and (columns is None or columns < plan.tile.columns):
        conv = _describe(anchor, x, shape, in_place=False)
        plan = _plan(conv, machine)
    transposed = bool(int(anchor.attrs["transposed"]))
    packed = scratch(
        "packed", [conv.groups, plan.channel_blocks, conv.ic, conv.taps, plan.tile.rows],
        right.dtype,
    )  # fmt: skip
    epilogue = find_epilogue(anchor, func)
    consumed = [anchor, *[s for s in (x.stage, w.stage, epilogue.stage) if s is not None]]
    source = w.source()
    repacked: dict[Buffer, tuple[Buffer, Packing]] = {}
    prepare: list[Stmt] = []
    if source is not None and any(source[0].same_as(c) for c in constants):
        axes, rows, groups = source[1], plan.tile.rows, conv.groups

        def pack(weights: NDArray[Any]) -> NDArray[Any]:
            return pack_weights(weights.transpose(axes), groups, rows, transposed)

        repacked[source[0]] = packed, pack
    else:
        prepare = [
            allocate(packed),
            _pack_at_run_time(packed, w, conv, shape[2:], transposed),
        ]
    main = _input_nest(conv, plan, x, packed, epilogue)
    return EmittedAnchor(seq(*prepare, main), (epilogue.output,), tuple(consumed), repacked)


def _input_nest(
    conv: Convolution, plan: _Plan, x: Operand, packed: Buffer, epilogue: Epilogue
) -> Stmt:
    if conv.direct:
        source = x.buffer if x.stage is None else x.stage.value.source
        flat = tirx.decl_buffer(
            [product(source.shape)], source.dtype, source.name, data=source.data
        )
        return seq(
            tirx.DeclBuffer(flat, data=source.data),
            _main(_Nest(conv, plan, flat, packed, epilogue)),
        )
    assert x.stage is not None
    channels = conv.ic if plan.local else product([conv.batch, conv.groups * conv.ic])
    size = simplify(channels * conv.plane + 2 * plan.tile.columns)
    nest_ = _Nest(conv, plan, scratch("padded", [size], conv.dtype), packed, epilogue)
    write = _with_local_copy if plan.local else _with_shared_copy
    return write(nest_, x.stage, plan.tile.lanes)
