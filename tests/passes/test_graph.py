from __future__ import annotations

import numpy as np
from tvm import relax, tirx
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.graph import (
    bindings_of,
    bytes_of,
    bytes_with_open_as,
    constant_array,
    definitions,
    elements_of,
    map_functions,
    static_shape,
    use_counts,
    variables_in,
    with_open_as,
)
from motet.passes.op_kinds import KINDS, Kind, kind_of, op_name


@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((2, "n"), "float32"), cond: R.Tensor((), "bool")):
        a = R.exp(x)
        if cond:
            b = R.add(a, a)
            r = R.add(b, x)
        else:
            r = R.concat((a, x), axis=0)
            r = R.strided_slice(r, axes=[0], begin=[0], end=[2])
        return (r, a)


def test_uses_count_branches_tuples_and_outputs() -> None:
    uses = {variable.name: count for variable, count in use_counts(Model["main"]).items()}
    assert uses["a"] == 2 + 1 + 1
    assert uses["x"] == 3
    assert uses["cond"] == 1
    assert uses["b"] == 1


def test_bindings_and_definitions_reach_into_branches() -> None:
    ops = [op_name(b.value) for b in bindings_of(Model["main"])]
    for name in ("exp", "add", "concat", "strided_slice"):
        assert f"relax.{name}" in ops
    bound = {variable.name: value for variable, value in definitions(Model["main"]).items()}
    assert op_name(bound["a"]) == "relax.exp"
    assert op_name(bound["b"]) == "relax.add"


def test_variables_once_per_occurrence() -> None:
    x = Model["main"].params[0]
    assert [v.name for v in variables_in(relax.op.add(x, x))] == ["x", "x"]


def test_shapes_and_elements() -> None:
    x, cond = Model["main"].params
    assert static_shape(x) is None
    assert static_shape(cond) == ()
    assert elements_of(x.ty) is None
    assert elements_of(cond.ty) == 1
    tensor = relax.TensorType([3, 4], "float32")
    assert elements_of(relax.TupleType([tensor, tensor])) == 24
    assert elements_of(relax.TupleType([tensor, x.ty])) is None


def test_constants() -> None:
    np.testing.assert_array_equal(constant_array(relax.const([1.0, 2.0])), [1, 2])
    assert constant_array(Model["main"].params[0]) is None


def test_map_functions_leaves_the_module() -> None:
    seen = []
    result = map_functions(Model, lambda f: seen.append(f) or f.with_attr("seen", 1))
    assert len(seen) == 1
    assert "seen" in result["main"].attrs
    assert "seen" not in (Model["main"].attrs or {})


def test_every_kind_names_an_operator_of_tvm() -> None:
    from importlib import import_module

    from tvm.ir import Op

    for name in ("narrow", "recurrence", "selection", "vectors"):  # what registers our own
        import_module(f"motet.targets.operators.{name}")
    assert [name for name in KINDS if name not in Op.list_op_names()] == []


def test_kinds() -> None:
    x = Model["main"].params[0]
    assert kind_of(relax.op.exp(x)) is Kind.ELEMENTWISE
    assert kind_of(relax.op.sort(x)) is Kind.OPAQUE
    assert kind_of(x) is Kind.OPAQUE
    assert op_name(x) == ""


def test_open_sizes_get_a_number() -> None:
    n = tirx.Var("n", "int64")
    assert with_open_as(n * 2 + 3, 1) == 5
    assert with_open_as(tirx.IntImm("int64", 7), 1) == 7
    parts = relax.TupleType(
        [relax.TensorType([4, n * 2], "float32"), relax.TensorType(dtype="int8", ndim=2)]
    )
    assert bytes_of(parts) is None
    assert bytes_with_open_as(parts, 1) == 4 * 2 * 4 + 1
    assert bytes_with_open_as(relax.TensorType([4, 3], "float16"), 1) == 24
