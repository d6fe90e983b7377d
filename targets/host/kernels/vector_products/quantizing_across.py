"""Quantising vectors that lie along another axis than the last.

A vector of the machine runs over neighbouring positions, so that reading is contiguous. A block of
positions is a line of the cache wide, and its results stay in the first-level cache until they are
whole lines too.
"""

from __future__ import annotations

from typing import Any

from tvm import tirx

from motet.targets.host.kernels.vector_products.quantizing_work import QuantizingWork, cut_loop
from motet.targets.host.kernels.vector_products.tasks import tasks
from motet.targets.host.loops import (
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

_LINE = 64


class AcrossVectors(QuantizingWork):
    """Neighbouring positions lie ``inner`` apart from their next element."""

    def statement(self, several: bool) -> Stmt:
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
            return store(scales, self.scale_out(load(held, i)), number + i * each)

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


def _overlapped(name: str, count: Expr, lanes: int, body: Any) -> Stmt:
    """As ``cut_loop``; a known count ends in a vector that starts early, narrower if small."""
    known = constant_of(count)
    if known is None:
        return cut_loop(name, count, lanes, body)
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
