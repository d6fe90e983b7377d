"""Copies share no variable with what they are of, and are equal to it."""

from __future__ import annotations

import numpy as np
from tvm import relax, tirx
from tvm_ffi import structural_equal

from motet.passes.copying import with_own_variables
from motet.passes.graph import bindings_of
from motet.passes.names import names_of, with_names
from motet.passes.typing import is_typed


def _function(batch: int | tirx.Var) -> relax.Function:
    """Two outputs of a convolution with its bias, one through a tuple."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([batch, 3, 8, 8], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            weight = relax.const(np.ones((4, 3, 3, 3), np.float32))
            conv = builder.emit(with_names(relax.op.nn.conv2d(x, weight), ["conv"]))
            pair = builder.emit(relax.Tuple([conv, relax.op.nn.relu(conv)]))
            both = builder.emit(relax.op.concat(relax.Tuple([conv, pair[1]]), 1))
            out = builder.emit_output(both)
        builder.emit_func_output(out)
    return builder.get()["main"].with_attr("motet.op", "m/0")


def _variables(function: relax.Function) -> set[relax.Var]:
    return {*function.params, *(binding.var for binding in bindings_of(function))}


def _check(function: relax.Function) -> relax.Function:
    copied = with_own_variables(function)
    assert structural_equal(copied, function)
    assert _variables(copied).isdisjoint(_variables(function))
    for ours, theirs in zip(bindings_of(copied), bindings_of(function), strict=True):
        assert ours.var.name == theirs.var.name
        assert type(ours.var) is type(theirs.var)
        assert names_of(ours.value) == names_of(theirs.value)
        assert is_typed(ours.value)
    assert dict(copied.attrs) == dict(function.attrs)
    relax.analysis.well_formed(copied)  # raises where it is not
    return copied


def test_a_function_of_known_sizes() -> None:
    function = _function(2)
    copied = _check(function)
    weights = [
        next(b.value.args[1] for b in bindings_of(f) if names_of(b.value))
        for f in (copied, function)
    ]
    assert weights[0].same_as(weights[1]), "weights are shared, not copied"


def test_symbols_are_new_too() -> None:
    batch = tirx.Var("N", "int64")
    copied = _check(_function(batch))
    assert not copied.params[0].ty.shape.values[0].same_as(batch)
