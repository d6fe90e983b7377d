"""Small constructors for loop nests in TIR.

Kernels are written as loops, loads and stores at once, not as a schedule applied to a
naive nest: that is faster to compile (a schedule primitive costs milliseconds) and says
exactly what runs. Indices are int64; they are narrowed to int32 when the nest is built.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tvm import tirx
from tvm.sym import Analyzer

Expr = Any
Stmt = Any
Buffer = Any

SERIAL = tirx.ForKind.SERIAL
PARALLEL = tirx.ForKind.PARALLEL
VECTORIZED = tirx.ForKind.VECTORIZED


def index(value: int | Expr) -> Expr:
    """``value`` as an int64 expression."""
    return tirx.IntImm("int64", value) if isinstance(value, int) else value


def constant_of(value: int | Expr) -> int | None:
    """The integer that ``value`` is, or None where it is symbolic."""
    if isinstance(value, int):
        return value
    return int(value.value) if isinstance(value, tirx.IntImm) else None


def simplify(value: int | Expr) -> Expr:
    """``value`` simplified without knowledge of its variables' ranges."""
    return index(value) if isinstance(value, int) else Analyzer().simplify(value)


def product(values: Sequence[int | Expr]) -> Expr:
    """The product of extents, an int64 expression."""
    result: Expr = index(1)
    for value in values:
        result = result * value
    return simplify(result)


def loop(name: str, extent: int | Expr, body: Callable[[Expr], Stmt], kind: Any = SERIAL) -> Stmt:
    """``for name in range(extent): body(name)``; a loop of one iteration vanishes."""
    if constant_of(extent) == 1:
        return body(index(0))
    var = tirx.Var(name, "int64")
    return tirx.For(var, index(0), index(extent), kind, body(var))


def nest(names: Sequence[str], extents: Sequence[int | Expr], body: Callable[..., Stmt]) -> Stmt:
    """Serial loops, the last one innermost."""

    def level(done: tuple[Expr, ...]) -> Stmt:
        if len(done) == len(names):
            return body(*done)
        return loop(names[len(done)], extents[len(done)], lambda i: level((*done, i)))

    return level(())


def parallel(
    names: Sequence[str],
    extents: Sequence[int | Expr],
    body: Callable[..., Stmt],
    worth_it: bool,
) -> Stmt:
    """One fused loop over ``extents``, parallel where ``worth_it``."""
    if any(constant_of(e) == 0 for e in extents):
        return tirx.Evaluate(0)
    kept = [k for k, e in enumerate(extents) if constant_of(e) != 1]
    if len(kept) < len(names):

        def widened(*at: Expr) -> Stmt:
            full: list[Expr] = [index(0)] * len(names)
            for k, i in zip(kept, at, strict=True):
                full[k] = i
            return body(*full)

        if not kept:
            return widened()
        inner = [names[k] for k in kept], [extents[k] for k in kept]
        return parallel(*inner, widened, worth_it)
    if len(names) == 1:
        return loop(names[0], extents[0], body, PARALLEL if worth_it else SERIAL)
    if not worth_it:
        return nest(names, extents, body)

    def fused(flat: Expr) -> Stmt:
        parts: list[Expr] = []
        rest = flat
        for extent in reversed(extents[1:]):
            parts.append(tirx.floormod(rest, index(extent)))
            rest = tirx.floordiv(rest, index(extent))
        return body(rest, *reversed(parts))

    return loop("_".join(names), product(extents), fused, PARALLEL)


def seq(*statements: Stmt | None) -> Stmt:
    """Statements in order; None is left out."""
    kept = [s for s in statements if s is not None]
    return kept[0] if len(kept) == 1 else tirx.SeqStmt(kept)


def ramp(start: Expr, lanes: int) -> Expr:
    """Consecutive indices from ``start``; ``start`` itself for one lane."""
    return index(start) if lanes == 1 else tirx.Ramp(index(start), index(1), lanes)


def broadcast(value: Expr, lanes: int) -> Expr:
    """``value`` in every lane."""
    return value if lanes == 1 else tirx.Broadcast(value, lanes)


def load(buffer: Buffer, *indices: int | Expr) -> Expr:
    """``buffer[indices]``."""
    return tirx.BufferLoad(buffer, [index(i) for i in indices])


def store(buffer: Buffer, value: Expr, *indices: int | Expr) -> Stmt:
    """``buffer[indices] = value``."""
    return tirx.BufferStore(buffer, value, [index(i) for i in indices])


def scratch(name: str, shape: Sequence[int | Expr], dtype: str) -> Buffer:
    """A buffer for ``allocate``: registers or stack when small, workspace otherwise."""
    return tirx.decl_buffer([index(s) for s in shape], dtype, name=name)


def allocate(buffer: Buffer) -> Stmt:
    """Brings ``buffer`` to life until the end of the enclosing statement list."""
    return tirx.AllocBuffer(buffer)


def round_up(value: int, multiple: int) -> int:
    """The smallest multiple of ``multiple`` that is at least ``value``."""
    return -(-value // multiple) * multiple
