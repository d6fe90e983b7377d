"""Kernels that users bring: a call that carries its own loops, taken as it is.

Such a call is ``R.call_dps_packed`` with the kernel, a TVMScript ``prim_func``, among its
attributes, so that module, names and sharing of equal kernels work as for any operator.
To passes it is opaque: a unit of its own, on the host, scheduled by whoever wrote it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import tvm
from tvm import IRModule, relax, s_tir, tirx
from tvm.ir.expr import Var
from tvm.ir.transform import Sequential

from motet.runtime.errors import UnsupportedOperatorError
from motet.targets.host.interface import tensors_only
from motet.targets.host.loops import Buffer, Stmt, seq
from motet.targets.host.machine import Machine
from motet.targets.host.object_code import compile_kernel

KERNEL = "motet.kernel"
"""Attribute of a call that holds its kernel."""

_PACKED = "relax.call_dps_packed"


def kernel_call(kernel: tirx.PrimFunc, name: str, args: Sequence[Any], ty: Any) -> relax.Call:
    """A call of ``kernel`` on ``args`` whose result has type ``ty`` (a tuple's for several)."""
    plain = relax.call_dps_packed(name, tuple(args), out_ty=ty)
    anonymous = kernel.without_attr("global_symbol")
    attributes = tvm.ir.make_node("ir.DictAttrs", **{KERNEL: anonymous})
    return relax.Call(plain.op, plain.args, attributes, plain.ty_args)


def kernel_of(expr: Any) -> tirx.PrimFunc | None:
    """The kernel that a call carries; None for any other expression."""
    if not isinstance(expr, relax.Call) or getattr(expr.op, "name", "") != _PACKED:
        return None
    attributes = expr.attrs
    return attributes[KERNEL] if attributes is not None and KERNEL in attributes else None


def kernel_name(call: relax.Call) -> str:
    """How reports call the kernel."""
    return str(call.args[0].global_symbol)


def lower_user_kernel(unit: relax.Function, call: relax.Call, machine: Machine) -> tirx.PrimFunc:
    """The kernel as the library takes it: the unit's parameters, then its outputs.

    Raises
    ------
    UnsupportedOperatorError
        Where TVM cannot compile it, or it calls what a bundle does not bring along.
    """
    kernel, name = kernel_of(call), kernel_name(call)
    assert kernel is not None
    try:
        tensors, body = tensors_only(*_with_parameters(_without_blocks(kernel), unit, call))
        result = tirx.PrimFunc(tensors, body).with_attr("tirx.noalias", True)
        _refuse_foreign_calls(result, name)
        compile_kernel("kernel", result, machine)
    except UnsupportedOperatorError:
        raise
    except Exception as error:  # TVM raises every kind
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        cause = lines[-1] if lines else type(error).__name__
        raise UnsupportedOperatorError(f"kernel '{name}' cannot be compiled: {cause}") from error
    return result


def _with_parameters(
    kernel: tirx.PrimFunc, unit: relax.Function, call: relax.Call
) -> tuple[list[Buffer], Stmt]:
    """Parameters and body for a unit, which takes a tensor that is read twice only once."""
    buffers, args = list(kernel.params), list(call.args[1].fields)
    params: list[Buffer] = []
    twice: list[tuple[Buffer, Buffer]] = []
    for number, param in enumerate(unit.params):
        own = [b for b, arg in zip(buffers, args, strict=False) if arg.same_as(param)]
        params.append(own[0] if own else _unread(param, number))
        twice += [(own[0], other) for other in own[1:]]
    params += buffers[len(args) :]
    bound = {d for buffer in params for d in buffer.shape if isinstance(d, Var)}
    statements: list[Stmt] = []
    for first, other in twice:
        for size, known in zip(other.shape, first.shape, strict=True):
            if isinstance(size, Var) and size not in bound:
                statements.append(tirx.Bind(size, known))
                bound.add(size)
        statements.append(tirx.DeclBuffer(other, data=first.data))
    return params, seq(*statements, kernel.body)


def _unread(param: relax.Var, number: int) -> Buffer:
    """A parameter that only says what a symbolic dimension is, which the kernel knows itself."""
    sizes = [tirx.Var(f"unread{number}_{axis}", "int64") for axis in range(int(param.ty.ndim))]
    return tirx.decl_buffer(sizes, str(param.ty.dtype), f"unread{number}")


def _without_blocks(kernel: tirx.PrimFunc) -> tirx.PrimFunc:
    """Blocks that schedules need become plain loops; a kernel without any stays."""
    if not kernel.attrs or not kernel.attrs.get("s_tir", False):
        return kernel
    passes = [
        s_tir.transform.LowerInitBlock(),
        s_tir.transform.PlanAndUpdateBufferAllocationLocation(),
        s_tir.transform.ConvertBlocksToOpaque(),
        s_tir.transform.LowerOpaqueBlock(),
    ]
    named = kernel.with_attr("global_symbol", "kernel")
    return Sequential(passes)(IRModule({"kernel": named}))["kernel"]


_FOREIGN = re.compile(r"\bT\.(\w*call_(?:c?packed|extern|pure_extern)\w*)\(")


def _refuse_foreign_calls(kernel: tirx.PrimFunc, name: str) -> None:
    """Refuse a kernel that calls functions that the bundle's library does not hold."""
    foreign = _FOREIGN.search(str(kernel.script()))  # TVM has no visitor of statements in Python
    if foreign is not None:
        raise UnsupportedOperatorError(
            f"kernel '{name}' uses {foreign[1]}, and so a function that the bundle does not "
            "bring along: write it out in TVMScript"
        )
