"""``motet.quantize_vectors``: integers and scales of vectors, in one pass over the data.

The arithmetic is that of ``targets/quantized/scales``: float32, divisions included, halves to
even. Where vectors lie along the last axis, a vector of the machine runs along them. Else it runs
over neighbouring positions, so that reading is contiguous::

    for batch, block of positions: parallel
        for g, lanes of the block:
            s = max |x[g V + v]| / largest;  scale = ...;  step = ...
            q[v] = round(x[g V + v] / step), four neighbours in a word
            y[position, g, ...] = words, position by position

A block of positions is a line of the cache wide, and its results stay in the first-level cache
until they are whole lines too.

The operator becomes one opaque stage marked ``motet.anchor = "quantize_vectors"``, whose
statement only names its buffers: a store of every operand's first element, then one into every
output.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from tvm import relax, s_tir, te, tirx
from tvm.ir import Range
from tvm.ir.expr import GenericConst

from motet.targets.host.kernels.anchor import EmittedAnchor
from motet.targets.host.kernels.combining import folded
from motet.targets.host.kernels.injective import worth_parallel
from motet.targets.host.kernels.vector_products.tasks import tasks
from motet.targets.host.loops import (
    Buffer,
    Expr,
    Stmt,
    allocate,
    broadcast,
    constant_of,
    index,
    load,
    loop,
    product,
    ramp,
    scratch,
    seq,
    simplify,
    store,
)
from motet.targets.host.machine import Machine
from motet.targets.host.options import KernelOptions
from motet.targets.host.stages import Stage, StagedFunction, block_of
from motet.targets.operators.vectors import QUANTIZE_VECTORS, Quantizing

_TINY = 2.0**-126
"""The least normal float32."""
_LINE = 64
_NODES = 40


def _named(attrs: Mapping[str, Any], ins: Sequence[Buffer], outs: Sequence[Buffer]) -> Stmt:
    """A block that names the buffers under the annotations ``attrs``."""
    integers, scales = outs

    def first(buffer: Buffer) -> list[Any]:
        return [index(0)] * len(buffer.shape)

    reads = [store(scales, load(x, *first(x)).astype(scales.dtype), *first(scales)) for x in ins]
    ends = [store(o, tirx.const(0, o.dtype), *first(o)) for o in (integers, scales)]
    whole = [[tirx.BufferRegion(b, [Range(0, d) for d in b.shape]) for b in x] for x in (ins, outs)]
    block = s_tir.SBlock(
        [], *whole, "quantize_vectors", seq(*reads, *ends), annotations=dict(attrs)
    )
    return s_tir.SBlockRealize([], True, block)


def _legalize(builder: Any, call: Any) -> relax.Expr:
    """Legalisation of ``motet.quantize_vectors``."""
    attrs = {str(k): call.attrs[k] for k in call.attrs.keys()}  # noqa: SIM118
    attrs["motet.anchor"] = "quantize_vectors"
    operands = list(call.args)
    if len(operands) == 2 and isinstance(operands[1], GenericConst):
        value = operands.pop().value.numpy().reshape(-1)[0]
        attrs["gamma"] = tirx.const(value.item(), "float32")
    types = [str(part.dtype) for part in call.ty.fields]
    shapes = [list(part.shape.values) for part in call.ty.fields]

    def compute(*tensors: te.Tensor) -> Any:
        return te.extern(
            shapes, list(tensors), partial(_named, attrs), dtype=types, name="quantize_vectors"
        )

    return builder.call_te(compute, *operands, primfunc_name_hint="quantize_vectors")


def _buffers(anchor: Stage) -> tuple[list[Buffer], Buffer, Buffer]:
    """Operands, integers and scales, out of the statement that ``_named`` made."""
    *reads, integers, scales = list(block_of(anchor.statement).body)
    values = [s.value.value if isinstance(s.value, tirx.Cast) else s.value for s in reads]
    return [value.source for value in values], integers.buffer, scales.buffer


def emit_quantizing(
    anchor: Stage, _func: StagedFunction, _constants: Sequence[Buffer], machine: Machine,
    _options: KernelOptions,
) -> EmittedAnchor:  # fmt: skip
    """The nest of a quantisation of vectors."""
    own = {str(k): v for k, v in anchor.attrs.items() if str(k) not in ("motet.anchor", "gamma")}
    what = Quantizing.of(SimpleNamespace(attrs=own))
    operands, integers, scales = _buffers(anchor)
    x = operands[0]
    gamma = None
    if what.kind.scale_bits is not None:
        given = anchor.attrs.get("gamma")
        gamma = given if given is not None else load(operands[1], *[0] * len(operands[1].shape))
    several = worth_parallel(list(x.shape), _NODES, machine)
    flat = [
        tirx.decl_buffer([product(b.shape)], b.dtype, b.name, data=b.data)
        for b in (x, integers, scales)
    ]
    aliases = [
        tirx.DeclBuffer(f, data=b.data) for f, b in zip(flat, (x, integers, scales), strict=True)
    ]
    axis = what.axis % len(x.shape)
    outer, size, inner = product(x.shape[:axis]), x.shape[axis], product(x.shape[axis + 1 :])
    lanes = max(1, machine.vector_bytes // 4)
    work = _Work(what, gamma, outer, size, inner, (flat[0], flat[1], flat[2]), lanes)
    along = constant_of(inner) == 1
    body = work.along_vectors(several) if along else work.across_vectors(several)
    return EmittedAnchor(seq(*aliases, body), (integers, scales), (anchor,))


@dataclass(frozen=True, eq=False)
class _Work:
    """``buffers``: data (outer, size, inner), integers (outer, inner, G, V), scales; all flat."""

    what: Quantizing
    gamma: Expr | None
    outer: Expr
    size: Expr
    inner: Expr
    buffers: tuple[Buffer, Buffer, Buffer]
    lanes: int

    @property
    def length(self) -> int:
        """V."""
        return self.what.kind.vector

    @property
    def count(self) -> Expr:
        """G."""
        return simplify(tirx.floordiv(self.size + self.length - 1, index(self.length)))

    def const(self, value: float, lanes: int) -> Expr:
        """A float32 in every lane."""
        return broadcast(tirx.const(value, "float32"), lanes)

    def steps(self, top: Expr, lanes: int, bind: Any) -> tuple[Expr, Expr]:
        """Scales (uint16 as float32, or float32) and divisors, of the largest magnitudes."""
        kind, gamma = self.what.kind, self.gamma
        zero = self.const(0, lanes)
        s = bind("s", top / self.const(kind.largest, lanes))
        infinite = self.const(float("inf"), lanes)
        if gamma is None:
            step = tirx.max(s, self.const(_TINY, lanes))
            step = bind("step", tirx.Select(s > zero, step, self.const(1, lanes)))
            return step, step
        scale = tirx.nearbyint(s / broadcast(gamma, lanes))
        scale = tirx.min(scale, self.const(kind.largest_scale, lanes))
        if self.what.paper:
            return bind("scale", scale), bind("step", tirx.Select(s > zero, s, infinite))
        scale = tirx.Select(s > zero, tirx.max(scale, self.const(1, lanes)), scale)
        scale = bind("scale", scale)
        step = bind("product", scale * broadcast(gamma, lanes))
        return scale, bind("step", tirx.Select(step > zero, step, infinite))

    def rounded(self, x: Expr, step: Expr, lanes: int) -> Expr:
        """Integers, as float32."""
        kind = self.what.kind
        if not kind.signed:
            x = tirx.max(x, self.const(0, lanes))
        ratio = tirx.nearbyint(x / step)
        low, high = (self.const(v, lanes) for v in (kind.least, kind.largest))
        return tirx.min(tirx.max(ratio, low), high)

    def magnitude(self, x: Expr, lanes: int) -> Expr:
        """|x|; of unsigned types what is not negative."""
        other = -x if self.what.kind.signed else self.const(0, lanes)
        return tirx.max(x, other)

    def _scale_out(self, scale: Expr) -> Expr:
        dtype = str(self.buffers[2].dtype)
        return scale if dtype == "float32" else scale.astype("int32").astype(dtype)

    # Vectors along the last axis.

    def along_vectors(self, several: bool) -> Stmt:
        """Rows of vectors."""
        whole = simplify(tirx.floordiv(self.size, index(self.length)))
        known = constant_of(self.size)

        def row(o: Expr) -> Stmt:
            main = loop("g", whole, lambda g: self._vector(o, g, index(self.length)))
            if known is not None and known % self.length == 0:
                return main
            rest = simplify(self.size - whole * self.length)
            tail = self._vector(o, whole, rest)
            return seq(main, tail if known is not None else tirx.IfThenElse(rest > 0, tail, None))

        return tasks(["row"], [self.outer], row, several)

    def _vector(self, o: Expr, g: Expr, count: Expr) -> Stmt:
        """One vector, of which ``count`` elements are data."""
        x, integers, scales = self.buffers
        start = tirx.Var("start", "int64")
        number = tirx.Var("number", "int64")
        lanes = self.lanes
        while lanes > self.length:
            lanes //= 2
        top = scratch("top", [lanes], "float32")
        statements: list[Stmt] = [
            tirx.Bind(start, o * self.size + g * self.length),
            tirx.Bind(number, simplify(o * self.count + g)),
            allocate(top),
            store(top, self.const(0, lanes), ramp(index(0), lanes)),
            self._maxima(top, start, count, lanes),
            *folded(top, lanes, tirx.max),
        ]

        def bind(name: str, value: Expr) -> Expr:
            var = tirx.Var(name, value.ty)
            statements.append(tirx.Bind(var, value))
            return var

        scale, step = self.steps(load(top, 0), 1, bind)
        statements.append(store(scales, self._scale_out(scale), number))

        def put(i: Expr, width: int) -> Stmt:
            at, to = ramp(start + i, width), ramp(number * self.length + i, width)
            value = self.rounded(load(x, at), broadcast(step, width), width)
            kind = str(integers.dtype) + (f"x{width}" if width > 1 else "")
            integer = "int32" + (f"x{width}" if width > 1 else "")
            return store(integers, value.astype(integer).astype(kind), to)

        def fill(i: Expr) -> Stmt:
            zero = tirx.const(0, str(integers.dtype))
            return store(integers, zero, number * self.length + count + i)

        statements.append(_cut("i", count, lanes, put))
        if constant_of(count) != self.length:
            statements.append(loop("z", simplify(self.length - count), fill))
        return seq(*statements)

    def _maxima(self, top: Buffer, start: Expr, count: Expr, lanes: int) -> Stmt:
        x = self.buffers[0]

        def step(i: Expr, width: int) -> Stmt:
            where = ramp(index(0), width)
            value = self.magnitude(load(x, ramp(start + i, width)), width)
            return store(top, tirx.max(load(top, where), value), where)

        return _cut("m", count, lanes, step)

    # Vectors along another axis.

    def across_vectors(self, several: bool) -> Stmt:
        """Blocks of positions."""
        block = max(self.lanes, _LINE // 4)
        known = constant_of(self.inner)
        if known is not None and known < block:
            block = known
        blocks = simplify(tirx.floordiv(self.inner + block - 1, index(block)))

        def task(o: Expr, number: Expr) -> Stmt:
            first = number * block
            if known is not None and known % block:
                first = tirx.min(first, index(known - block))
            var = tirx.Var("position", "int64")
            if known is None:
                here = simplify(tirx.min(index(block), self.inner - var))
            else:
                here = index(block)
            return seq(tirx.Bind(var, first), self._block(o, var, here))

        return tasks(["outer", "block"], [self.outer, blocks], task, several)

    def _block(self, o: Expr, first: Expr, count: Expr) -> Stmt:
        whole = simplify(tirx.floordiv(self.size, index(self.length)))
        known = constant_of(self.size)

        def group(g: Expr, rest: Expr) -> Stmt:
            return _overlapped(
                "lanes", count, self.lanes, lambda i, w: self._lanes(o, first + i, g, rest, w)
            )

        main = loop("g", whole, lambda g: group(g, index(self.length)))
        if known is not None and known % self.length == 0:
            return main
        rest = simplify(self.size - whole * self.length)
        tail = group(whole, rest)
        return seq(main, tail if known is not None else tirx.IfThenElse(rest > 0, tail, None))

    def _lanes(self, o: Expr, position: Expr, g: Expr, count: Expr, lanes: int) -> Stmt:
        """Vector ``g`` of neighbouring positions; ``count`` of its elements are data."""
        x, _, scales = self.buffers
        start, number = tirx.Var("start", "int64"), tirx.Var("number", "int64")
        lane = ramp(index(0), lanes)
        top = scratch("top", [lanes], "float32")

        def element(v: Expr) -> Expr:
            return load(x, ramp(start + v * self.inner, lanes))

        def larger(v: Expr) -> Stmt:
            value = self.magnitude(element(v), lanes)
            return store(top, tirx.max(load(top, lane), value), lane)

        statements: list[Stmt] = [
            tirx.Bind(start, (o * self.size + g * self.length) * self.inner + position),
            tirx.Bind(number, (o * self.inner + position) * self.count + g),
            allocate(top),
            store(top, self.const(0, lanes), lane),
            loop("v", count, larger),
        ]

        def bind(name: str, value: Expr) -> Expr:
            var = tirx.Var(name, value.ty)
            statements.append(tirx.Bind(var, value))
            return var

        scale, step = self.steps(load(top, lane), lanes, bind)
        held = scratch("scale", [lanes], "float32")
        statements += [allocate(held), store(held, scale, lane)]
        each = self.count

        def put_scale(i: Expr) -> Stmt:
            return store(scales, self._scale_out(load(held, i)), number + i * each)

        statements.append(loop("i", lanes, put_scale))
        statements.append(self._words(element, step, count, number, lanes))
        return seq(*statements)

    def _words(self, element: Any, step: Expr, count: Expr, number: Expr, lanes: int) -> Stmt:
        """Integers of a vector, four at a time; zeros behind ``count``."""
        integers = self.buffers[1]
        words = scratch("words", [lanes], "int32")
        dtype, each = str(integers.dtype), self.count
        kind = f"int32x{lanes}" if lanes > 1 else "int32"

        def value(v: Expr) -> Expr:
            return self.rounded(element(v), step, lanes).astype(kind)

        def write(first: Expr, size: int) -> Stmt:
            def one(i: Expr) -> Stmt:
                at = (number + i * each) * self.length + first
                word = load(words, i)
                if size == 4:
                    return store(integers, tirx.reinterpret(f"{dtype}x4", word), ramp(at, 4))
                return store(integers, word.astype(dtype), at)

            return loop("i", lanes, one)

        def four(w: Expr) -> Stmt:
            total: Expr = None
            for i in range(4):
                part = value(w * 4 + i)
                if i < 3:
                    part = part & broadcast(tirx.const(0xFF, "int32"), lanes)
                if i:
                    part = part << broadcast(tirx.const(8 * i, "int32"), lanes)
                total = part if total is None else total | part
            return seq(store(words, total, ramp(index(0), lanes)), write(w * 4, 4))

        def single(v: Expr) -> Stmt:
            return seq(store(words, value(v), ramp(index(0), lanes)), write(v, 1))

        zero = broadcast(tirx.const(0, "int32"), lanes)
        fours = simplify(tirx.floordiv(count, index(4)))
        rest = simplify(tirx.floormod(count, index(4)))
        behind = simplify(self.length - count)
        statements = [allocate(words), loop("w", fours, four)]
        if constant_of(rest) != 0:
            statements.append(loop("r", rest, lambda r: single(fours * 4 + r)))
        if constant_of(behind) != 0:
            statements.append(store(words, zero, ramp(index(0), lanes)))
            statements.append(loop("z", behind, lambda z: write(count + z, 1)))
        return seq(*statements)


def _cut(name: str, count: Expr, lanes: int, body: Any) -> Stmt:
    """``body(start, width)`` over ``count``: whole vectors, then single elements."""
    if lanes == 1:
        return loop(name, count, lambda i: body(i, 1))
    whole = simplify(tirx.floordiv(count, index(lanes)))
    rest = simplify(count - whole * lanes)
    main = loop(name, whole, lambda i: body(i * lanes, lanes))
    if constant_of(rest) == 0:
        return main
    return seq(main, loop(f"{name}_rest", rest, lambda i: body(whole * lanes + i, 1)))


def _overlapped(name: str, count: Expr, lanes: int, body: Any) -> Stmt:
    """As ``_cut``; a known count ends in a vector that starts early, of its own width if small."""
    known = constant_of(count)
    if known is None:
        return _cut(name, count, lanes, body)
    while lanes > known:
        lanes //= 2
    if known == 0:
        return tirx.Evaluate(0)

    def vector(i: Expr) -> Stmt:
        start = i * lanes
        if known % lanes:
            start = tirx.min(start, index(known - lanes))
        return body(simplify(start), lanes)

    return loop(name, -(-known // lanes), vector)


LEGALIZATIONS: Mapping[str, Any] = {QUANTIZE_VECTORS: _legalize}
