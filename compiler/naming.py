"""Errors that say which model and ONNX nodes they are about."""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.passes.names import ONNX_NODES, names_of
from motet.runtime.errors import CompileError

NAMED = 8
"""Nodes that a message names; a region of the array may have hundreds."""


def named(error: CompileError, model: str, value: relax.Expr, mod: IRModule) -> CompileError:
    """``error``, that ``value`` caused, with the names of model and nodes where it lacks them."""
    where = f"model {model!r}"
    if str(error).startswith(where):
        return error
    names = names_of(value)
    if isinstance(value, relax.Call) and isinstance(value.op, GlobalVar):
        names = tuple(str(name) for name in mod[value.op].attrs[ONNX_NODES])
    listed = ", ".join(names[:NAMED]) + (f" and {len(names) - NAMED} more" * (len(names) > NAMED))
    return CompileError(f"{where}, node {listed or 'unnamed'}: {error}")
