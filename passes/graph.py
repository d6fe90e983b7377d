"""Looking at a Relax function: its bindings, who uses what, and constants as arrays.

Where all items of TVM's arrays are looked at, ``array[:]`` makes a list of them first: going
through the array itself takes four times as long.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence

import numpy as np
from tvm import IRModule, relax, sym, tirx
from tvm.ir import PrimType
from tvm.ir.expr import GenericConst

from motet.passes.typing import is_typed
from motet.runtime.device import Array


def map_functions(mod: IRModule, change: Callable[[relax.Function], relax.Function]) -> IRModule:
    """A new module with ``change`` applied to every Relax function."""
    result = mod.clone()
    for variable, function in mod.functions_items():
        if isinstance(function, relax.Function):
            result[variable] = change(function)
    return result


def blocks_of(expr: relax.Expr) -> Iterator[relax.BindingBlock]:
    """All binding blocks of a function or sequence, those of branches included."""
    body = expr.body if isinstance(expr, relax.Function) else expr
    if not isinstance(body, relax.SeqExpr):
        return
    for block in body.blocks[:]:
        yield block
        for binding in block.bindings[:]:
            if isinstance(binding.value, relax.If):
                yield from blocks_of(binding.value.true_branch)
                yield from blocks_of(binding.value.false_branch)


def bindings_of(expr: relax.Expr) -> Iterator[relax.Binding]:
    """All bindings in order, those of branches included."""
    for block in blocks_of(expr):
        yield from block.bindings[:]


def block_like(block: relax.BindingBlock, bindings: Sequence[relax.Binding]) -> relax.BindingBlock:
    """``bindings`` as a block of the same kind as ``block``: dataflow or plain."""
    kind = relax.DataflowBlock if isinstance(block, relax.DataflowBlock) else relax.BindingBlock
    return kind(bindings)


def variables_in(expr: relax.Expr) -> Iterator[relax.Var]:
    """The variables that an expression reads, once per occurrence; also symbols read as such."""
    if isinstance(expr, relax.Var):
        yield expr
    elif isinstance(expr, relax.Tuple):
        for item in expr.fields[:]:
            yield from variables_in(item)
    elif isinstance(expr, relax.Call):
        for item in expr.args[:]:
            yield from variables_in(item)
    elif isinstance(expr, relax.TupleGetItem):
        yield from variables_in(expr.tuple_value)
    elif isinstance(expr, relax.If):
        yield from variables_in(expr.cond)
        for branch in (expr.true_branch, expr.false_branch):
            yield from _variables_in_sequence(branch)


def _variables_in_sequence(expr: relax.Expr) -> Iterator[relax.Var]:
    if not isinstance(expr, relax.SeqExpr):
        yield from variables_in(expr)
        return
    for block in expr.blocks[:]:
        for binding in block.bindings[:]:
            yield from variables_in(binding.value)
    yield from variables_in(expr.body)


def symbols_in(expr: relax.Expr) -> set[tirx.Var]:
    """The symbolic dimensions in the types of an expression and its operands, or read by it."""
    operands = expr.args[:] if isinstance(expr, relax.Call) else ()
    found: set[tirx.Var] = set()
    for part in (expr, *operands):
        if is_typed(part):
            found |= set(relax.analysis.tir_vars_in_type(part.ty))
        found |= _scalars_in(part)
    return found


def _scalars_in(expr: relax.Expr) -> set[tirx.Var]:
    """The symbols of operands that are dimensions themselves: where a slice ends."""
    if isinstance(expr, relax.Tuple):
        return {symbol for field in expr.fields for symbol in _scalars_in(field)}
    is_scalar = isinstance(expr.ty, PrimType)
    return set(tirx.analysis.undefined_vars(expr)) if is_scalar else set()


def use_counts(function: relax.Function) -> Counter[relax.Var]:
    """How often each variable is read; being returned counts as one use."""
    return Counter(_variables_in_sequence(function.body))


def definitions(function: relax.Function) -> dict[relax.Var, relax.Expr]:
    """The value that each variable of the function is bound to."""
    return {binding.var: binding.value for binding in bindings_of(function)}


def constant_array(expr: relax.Expr) -> Array | None:
    """The values of a constant as a numpy array; None for anything else."""
    return expr.value.numpy() if isinstance(expr, GenericConst) else None


def static_shape(expr: relax.Expr) -> tuple[int, ...] | None:
    """The shape of a tensor where every dimension is known, else None."""
    return sizes_of(expr.ty)


def sizes_of(ty: relax.Type) -> tuple[int, ...] | None:
    """The shape of a tensor type where every dimension is known, else None."""
    shape = getattr(ty, "shape", None)
    values = getattr(shape, "values", None)
    if values is None:
        return None
    sizes = [getattr(value, "value", None) for value in values[:]]
    known = tuple(int(size) for size in sizes if size is not None)
    return known if len(known) == len(sizes) else None


def elements_of(ty: relax.Type) -> int | None:
    """Elements of a tensor, or of all tensors of a tuple; None where it is not known."""
    if isinstance(ty, relax.TupleType):
        counts = [elements_of(part) for part in ty.fields]
        known = [count for count in counts if count is not None]
        return sum(known) if len(known) == len(counts) else None
    sizes = sizes_of(ty)
    return None if sizes is None else math.prod(sizes)


def with_open_as(value: tirx.PrimExpr, open_as: int) -> int:
    """A size, or a count made of sizes, with ``open_as`` for every open size in it."""
    analyzer = sym.Analyzer()
    for symbol in tirx.analysis.undefined_vars(value):
        analyzer.bind(symbol, tirx.IntImm(str(symbol.ty.dtype), open_as))
    return int(analyzer.simplify(value).value)


def bytes_with_open_as(ty: relax.Type, open_as: int) -> int:
    """As ``bytes_of``, with ``open_as`` for every size that is not known."""
    if isinstance(ty, relax.TupleType):
        return sum(bytes_with_open_as(part, open_as) for part in ty.fields)
    if not isinstance(ty, relax.TensorType):
        return 0
    values = getattr(ty.shape, "values", None)
    sizes = (
        [open_as] * max(0, int(ty.ndim))
        if values is None
        else [with_open_as(value, open_as) for value in values[:]]
    )
    return math.prod(sizes) * np.dtype(str(ty.dtype)).itemsize


def bytes_of(ty: relax.Type) -> int | None:
    """Bytes of a tensor, or of all tensors of a tuple; 0 of what is no tensor; None where a size
    is not known.
    """
    if isinstance(ty, relax.TupleType):
        parts = [bytes_of(part) for part in ty.fields]
        known = [part for part in parts if part is not None]
        return sum(known) if len(known) == len(parts) else None
    if not isinstance(ty, relax.TensorType):
        return 0
    elements = elements_of(ty)
    return None if elements is None else elements * np.dtype(str(ty.dtype)).itemsize
