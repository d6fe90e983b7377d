"""Parallel loops whose indices are variables.

Of several fused loops an index is a remainder of quotients. Where extents are open, TVM's
simplifier would follow them into every address, for minutes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tvm import tirx
from tvm.ir.expr import Var

from motet.targets.host.loops import Expr, Stmt, parallel, seq


def tasks(
    names: Sequence[str], extents: Sequence[int | Expr], body: Callable[..., Stmt], several: bool
) -> Stmt:
    """``loops.parallel`` with every index of ``body`` a variable or a number."""

    def named(*at: Expr) -> Stmt:
        binds: list[Stmt] = []
        indices: list[Expr] = []
        for name, value in zip(names, at, strict=True):
            if not isinstance(value, Var | tirx.IntImm):
                var = tirx.Var(name, "int64")
                binds.append(tirx.Bind(var, value))
                value = var
            indices.append(value)
        return seq(*binds, body(*indices))

    return parallel(names, extents, named, several)
