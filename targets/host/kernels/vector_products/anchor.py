"""``motet.vector_conv`` and ``motet.vector_matmul``: from a Relax call to a nest.

A call becomes a stage marked ``motet.anchor = "vectors"``. Its value only names the operands, in
order; what it computes its attributes say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil, lcm
from typing import Any

from tvm import relax, te, tirx
from tvm.ir.expr import GenericConst

from motet.targets.host.exprs import loads
from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.epilogue import Epilogue, find_epilogue
from motet.targets.host.kernels.injective import axes_fuse
from motet.targets.host.kernels.operand import is_one_of
from motet.targets.host.kernels.vector_products.data import Source, data_of
from motet.targets.host.kernels.vector_products.form import Form, Ranges, form_of
from motet.targets.host.kernels.vector_products.geometry import Geometry
from motet.targets.host.kernels.vector_products.nest import ProductNest
from motet.targets.host.kernels.vector_products.results import SQUARE, Results
from motet.targets.host.kernels.vector_products.tile import Reading, TileNest
from motet.targets.host.kernels.vector_products.weights import (
    Packer,
    RunTimePacker,
    vectors_in,
)
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    constant_of,
    index,
    load,
    nest,
    product,
    scratch,
    seq,
    simplify,
    store,
)
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.stages import Stage, StagedFunction
from motet.targets.operators.vectors import (
    VECTOR_CONV,
    VECTOR_MATMUL,
    VectorProduct,
    Window,
)

_SMALL_WORK = 500_000
"""Products of integers below which threads do not pay."""
_BLOCK = 64


def _operand(expr: Any) -> Any:
    """A scalar constant as an immediate value."""
    if isinstance(expr, GenericConst) and not expr.ty.shape.values:
        return tirx.const(expr.value.numpy().item(), str(expr.ty.dtype))
    return expr


def _legalize(builder: Any, call: Any) -> relax.Expr:
    attrs = {
        "motet.anchor": "vectors",
        "motet.operator": str(call.op.name),
        **{str(k): call.attrs[k] for k in call.attrs.keys()},  # noqa: SIM118
    }
    shape, dtype = list(call.ty.shape.values), str(call.ty.dtype)
    operands = list(map(_operand, call.args))
    if isinstance(operands[-1], tirx.FloatImm):
        attrs["factor"] = operands.pop()

    def compute(*operands: Any) -> te.Tensor:
        axis = te.reduce_axis((0, 1), "all")

        def element(*at: Expr) -> Expr:
            value = tirx.const(1, dtype)
            for operand in operands:
                value = value * operand(*[axis.var] * len(operand.shape)).astype(dtype)
            return te.sum(value, axis=axis)

        return te.compute(shape, element, name="vectors", attrs=attrs)

    return builder.call_te(compute, *operands, primfunc_name_hint="vectors")


@dataclass(frozen=True, eq=False)
class _Call:
    """The operands of an anchor; ``factor`` is a buffer, or a number."""

    x: Buffer
    x_scales: Buffer
    w: Buffer
    w_scales: Buffer
    factor: Any

    @classmethod
    def of(cls, anchor: Stage) -> _Call:
        found = [x.source for x in loads(anchor.value) if not x.source.same_as(anchor.output)]
        factor = found[4] if len(found) == 5 else anchor.attrs["factor"]
        return cls(found[0], found[1], found[2], found[3], factor)

    def factor_of(self, channel: Expr) -> Expr:
        """The factor of an output channel."""
        if isinstance(self.factor, tirx.FloatImm):
            return self.factor
        shape = self.factor.shape
        if not len(shape):
            return load(self.factor)
        return load(self.factor, index(0) if constant_of(shape[0]) == 1 else channel)


def emit_vectors(
    anchor: Stage, func: StagedFunction, constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a product of vectors with its epilogue."""
    call, what = _Call.of(anchor), VectorProduct.of(anchor)
    is_conv = str(anchor.attrs["motet.operator"]) == VECTOR_CONV
    window = Window.of(anchor) if is_conv else None
    ranges = Ranges.of(what, str(call.x.dtype) == "int8", str(call.w.dtype) == "int8")
    lanes = max(1, machine.vector_bytes // 4)
    constant = is_one_of(call.w, constants) and is_one_of(call.w_scales, constants)
    form = form_of(what, ranges, constant_of(call.w.shape[-1]) or 0, machine, lanes, constant)
    lead = 0 if is_conv else len(call.w.shape) - 3
    source, geometry, offsets, fill = _laid_out(anchor, call, window, lead)
    several = _is_worth_threads(geometry, form, machine)
    data = data_of(source, form, lanes, several)
    epilogue = find_epilogue(anchor, func)
    rows, blocks = _tile_shape(machine, geometry)
    width = blocks * lanes
    each = _outputs(call, lead, geometry.groups)
    panels = simplify(tirx.floordiv(each + width - 1, index(width)))
    shape = [geometry.groups, panels, simplify(geometry.vectors * form.rows + 1), width]
    packed = scratch("packed", [*call.w.shape[:lead], *shape], "int32")
    flat = tirx.decl_buffer([product(packed.shape)], "int32", "packed_flat", data=packed.data)
    reading = Reading(data.integers, data.scales, flat, offsets)
    tile = TileNest(form, machine, rows, blocks, lanes, reading)
    block = _block(geometry, rows)
    parts = _parts(geometry, block, panels, machine) if several else 1
    raw = what.out_dtype == "int64"
    results = Results.of(
        geometry, tile, None if raw else call.factor_of, epilogue, block,
        _may_vectorise(epilogue, geometry),
    )  # fmt: skip
    main = ProductNest(geometry, tile, packed, lead > 0, results, parts).statement(several)
    body = [tirx.DeclBuffer(flat, data=packed.data), *data.prepare, *fill, main]
    consumed = tuple(s for s in (anchor, epilogue.stage) if s is not None)
    if constant:
        pack = Packer(form, geometry.groups, width).packed
        unused = scratch("unused", [1], str(call.w_scales.dtype))
        return EmittedAnchor(
            seq(*body), (epilogue.output,), consumed,
            {call.w: (packed, pack), call.w_scales: (unused, lambda s: s.reshape(-1)[:1].copy())},
            {call.w: (call.w_scales,)},
        )  # fmt: skip
    pack_now = RunTimePacker(
        form, geometry.groups, width, call.w, call.w_scales, packed, lead
    ).statement(several)
    return EmittedAnchor(
        seq(allocate(packed), body[0], pack_now, *body[1:]), (epilogue.output,), consumed
    )


def _outputs(call: _Call, lead: int, groups: int) -> Expr:
    return simplify(tirx.floordiv(call.w.shape[lead], index(groups)))


def _tile_shape(machine: Machine, geometry: Geometry) -> tuple[int, int]:
    """Positions and vectors of output channels of a register tile."""
    most = constant_of(geometry.positions)
    rows = 8 if machine.vector_bytes == 64 else 4
    return (rows if most is None else max(1, min(rows, most))), 2


def _block(geometry: Geometry, rows: int) -> int:
    """Positions of a task: whole tiles, and whole squares that are transposed."""
    step = lcm(rows, SQUARE) if geometry.positions_last else rows
    known = constant_of(geometry.positions)
    if known is None:
        return _BLOCK // step * step
    even = ceil(known / max(1, ceil(known / _BLOCK)))
    return ceil(even / step) * step


def _parts(geometry: Geometry, block: int, panels: Expr, machine: Machine) -> int:
    """Of the panels, so that there are several tasks for every core."""
    extents = [constant_of(e) for e in (*geometry.lead, geometry.positions, panels)]
    if any(e is None for e in extents):
        return 4
    *lead, positions, count = [e or 0 for e in extents]
    tasks = geometry.groups * -(-positions // block)
    for extent in lead:
        tasks *= extent
    return max(1, min(count, -(-4 * machine.cores // max(1, tasks))))


def _is_worth_threads(geometry: Geometry, form: Form, machine: Machine) -> bool:
    if machine.cores == 1:
        return False
    extents = (*geometry.lead, geometry.positions, geometry.columns, geometry.vectors)
    work = constant_of(product([*extents, index(geometry.groups * form.vector)]))
    return work is None or work >= _SMALL_WORK


def _may_vectorise(epilogue: Epilogue, geometry: Geometry) -> bool:
    """Whether all positions can be counted along the result's last axis."""
    if not geometry.positions_last or epilogue.stage is None:
        return True
    axes = epilogue.stage.spatial[2:]
    value = epilogue.stage.value
    apart = epilogue.anchor.output
    return all(axes_fuse(value, a, b, apart) for a, b in pairwise(axes))


def _laid_out(
    anchor: Stage, call: _Call, window: Window | None, lead: int
) -> tuple[Source, Geometry, Buffer | None, list[Stmt]]:
    """How data lie, what the nest runs over, and where vectors of a window lie."""
    if window is None:
        return (*_matrices(anchor, call, lead), None, [])
    rank = len(window.strides)
    before, after = window.pads[:rank], window.pads[rank:]
    source = Source(call.x, call.x_scales, 1, before, after)
    geometry = _convolution(anchor, call, window, source)
    offsets, fill = _offsets(call, window, source, geometry)
    return source, geometry, offsets, fill


def _matrices(anchor: Stage, call: _Call, lead: int) -> tuple[Source, Geometry]:
    rank = len(call.x.shape) - 2 - lead
    source = Source(call.x, call.x_scales, lead, (0,) * rank, (0,) * rank)
    extents = list(call.x.shape[lead:-2])
    positions = product(extents)
    count = call.x.shape[-2]
    batch = list(call.x.shape[:lead])

    def base(at: Sequence[Expr], _group: Expr, m: Expr) -> Expr:
        number: Expr = index(0)
        for i, extent in zip(at, batch, strict=True):
            number = number * extent + i
        return simplify((number * positions + m) * count)

    def place(at: Sequence[Expr], _group: Expr, m: Expr, o: Expr, _flat: bool) -> list[Expr]:
        return [*at, *_apart(m, extents), o]

    columns = call.w.shape[lead]
    geometry = Geometry(batch, 1, positions, columns, vectors_in(call.w, lead), base, place, False)
    return source, geometry


def _apart(flat: Expr, extents: Sequence[Expr]) -> list[Expr]:
    """The indices of a flat one."""
    parts: list[Expr] = []
    for extent in reversed(extents[1:]):
        parts.append(tirx.floormod(flat, extent))
        flat = tirx.floordiv(flat, extent)
    return [simplify(part) for part in [flat, *reversed(parts)]]


def _convolution(anchor: Stage, call: _Call, window: Window, source: Source) -> Geometry:
    out_space = [axis.extent for axis in anchor.spatial[2:]]
    count, per_group = call.x.shape[-2], call.w.shape[-2]
    columns = index((constant_of(call.w.shape[0]) or 0) // window.groups)

    def base(at: Sequence[Expr], group: Expr, m: Expr) -> Expr:
        number = at[0]
        where = zip(_apart(m, out_space), source.padded, window.strides, strict=True)
        for i, extent, stride in where:
            number = number * extent + i * stride
        return simplify(number * count + group * per_group)

    def place(at: Sequence[Expr], group: Expr, m: Expr, o: Expr, flat: bool) -> list[Expr]:
        zeros = [index(0)] * (len(out_space) - 1)
        where = [*zeros, m] if flat else _apart(m, out_space)
        return [at[0], simplify(group * columns + o), *where]

    return Geometry(
        [call.x.shape[0]], window.groups, product(out_space), columns, vectors_in(call.w, 0),
        base, place, True,
    )  # fmt: skip


def _offsets(
    call: _Call, window: Window, source: Source, geometry: Geometry
) -> tuple[Buffer | None, list[Stmt]]:
    """Where vector k of a window lies, counted from its first; None where that is k."""
    taps, per_group = list(call.w.shape[1:-2]), call.w.shape[-2]
    if all(constant_of(tap) == 1 for tap in taps):
        return None, []
    offsets = scratch("offsets", [geometry.vectors], "int64")

    def one(*at: Expr) -> Stmt:
        number: Expr = index(0)
        inside: Expr = index(0)
        each = zip(at, taps, source.padded, window.dilations, strict=False)
        for i, tap, extent, dilation in each:
            number = number * tap + i
            inside = inside * extent + i * dilation
        g = at[-1]
        value = simplify(inside * call.x.shape[-2] + g)
        return store(offsets, value, simplify(number * per_group + g))

    names = [f"t{i}" for i in range(len(taps))] + ["g"]
    return offsets, [allocate(offsets), nest(names, [*taps, per_group], one)]


LEGALIZATIONS: Mapping[str, Any] = {VECTOR_CONV: _legalize, VECTOR_MATMUL: _legalize}
