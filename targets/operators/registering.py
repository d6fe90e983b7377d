"""How an operator of Motet's own becomes known to Relax."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tvm import relax
from tvm.ir import _ffi_api
from tvm.ir.op import register_op_attr

InferType = Callable[[relax.Call, relax.BlockBuilder], Any]


def register(name: str, description: str, infer: InferType) -> None:
    """Make ``name`` a pure operator whose calls have the type that ``infer`` gives.

    TVM keeps operators for the life of the process, so a second registration is none.
    """
    if name in _ffi_api.ListOpNames():
        return
    _ffi_api.RegisterOp(name, description)
    register_op_attr(name, "FInferType", infer)
    register_op_attr(name, "FPurity", True)
    register_op_attr(name, "TScriptPrinterName", name)
