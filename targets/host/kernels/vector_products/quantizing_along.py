"""Quantising vectors that lie along the last axis: a vector of the machine runs along them."""

from __future__ import annotations

from tvm import tirx

from motet.targets.host.kernels.combining import folded
from motet.targets.host.kernels.vector_products.quantizing_work import QuantizingWork, cut_loop
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
    ramp,
    scratch,
    seq,
    simplify,
    store,
)


class AlongVectors(QuantizingWork):
    """``inner`` is 1."""

    def statement(self, several: bool) -> Stmt:
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
        statements.append(store(scales, self.scale_out(scale), number))

        def put(i: Expr, width: int) -> Stmt:
            at, to = ramp(start + i, width), ramp(number * self.length + i, width)
            value = self.rounded(load(x, at), broadcast(step, width), width)
            kind = str(integers.dtype) + (f"x{width}" if width > 1 else "")
            integer = "int32" + (f"x{width}" if width > 1 else "")
            return store(integers, value.astype(integer).astype(kind), to)

        def fill(i: Expr) -> Stmt:
            zero = tirx.const(0, str(integers.dtype))
            return store(integers, zero, number * self.length + count + i)

        statements.append(cut_loop("i", count, lanes, put))
        if constant_of(count) != self.length:
            statements.append(loop("z", simplify(self.length - count), fill))
        return seq(*statements)

    def _maxima(self, top: Buffer, start: Expr, count: Expr, lanes: int) -> Stmt:
        x = self.buffers[0]

        def step(i: Expr, width: int) -> Stmt:
            where = ramp(index(0), width)
            value = self.magnitude(load(x, ramp(start + i, width)), width)
            return store(top, tirx.max(load(top, where), value), where)

        return cut_loop("m", count, lanes, step)
