from __future__ import annotations

from tvm import relax

from motet.passes.names import merged_names, names_of, span_of, target_of, with_names
from motet.passes.typing import is_typed, with_type

X = relax.Var("x", relax.TensorType([2], "float32"))


def test_names_and_target_of_a_call() -> None:
    call = with_names(relax.op.nn.relu(X), ["a", "b", "a"], "array")
    assert names_of(call) == ("a", "b")
    assert target_of(call) == "array"


def test_without_marks() -> None:
    assert names_of(relax.op.nn.relu(X)) == ()
    assert target_of(relax.op.nn.relu(X)) == "host"


def test_a_name_may_hold_anything() -> None:
    strange = 'layer "1"/{x}\n\\é'
    assert names_of(with_names(relax.op.nn.relu(X), [strange])) == (strange,)


def test_merged_in_order_without_repeats() -> None:
    calls = [with_names(relax.op.nn.relu(X), names) for names in (["b", "a"], ["a", "c"])]
    assert merged_names(calls) == ("b", "a", "c")


def test_types_are_kept() -> None:
    typed = relax.BlockBuilder().normalize(relax.op.nn.relu(X))
    assert not is_typed(relax.op.nn.relu(X))
    assert with_names(typed, ["a"]).ty.same_as(typed.ty)
    assert is_typed(with_type(relax.op.nn.relu(X), X.ty))


def test_names_survive_tvm_passes() -> None:
    builder = relax.BlockBuilder()
    with builder.function("main", [X]):
        with builder.dataflow():
            value = builder.emit(with_names(builder.normalize(relax.op.nn.relu(X)), ["a"]))
            output = builder.emit_output(value)
        builder.emit_func_output(output)
    mod = relax.transform.CanonicalizeBindings()(builder.finalize())
    assert names_of(mod["main"].body.blocks[0].bindings[0].value) == ("a",)
    assert span_of(["a"]).source_name.name != ""
