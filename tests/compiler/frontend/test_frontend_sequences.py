"""Sequences and optionals, inside models and as their inputs and outputs."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from bundle_runs import assert_same, compiled, onnxruntime_run, parsed
from frontend_models import calls, load, operators

import motet
from motet.compiler.frontend import joining
from motet.runtime.bundle import open_bundle
from motet.runtime.errors import (
    InputError,
    ModelError,
    SpecError,
    UnsupportedOperatorError,
    ValueNeededError,
)

RNG = np.random.default_rng(6)


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def check(graph: str, feeds: dict[str, Any], tmp_path: Any, opset: int = 17, **options: Any) -> Any:
    """Compile, run, and compare with onnxruntime; returns the session."""
    proto = parsed(graph, opset)
    session = compiled(proto, tmp_path, **options)
    for got, want in zip(session.run(None, feeds), onnxruntime_run(proto, feeds), strict=True):
        assert_same(got, want)
    return session


LISTS = """
m (float[2,3] x, float[2,3] y, float[1,3] z)
        => (float[2,3] a, float[1,3] b, int64 n, float[5,3] c, float[2,2,3] d, float[2,3] e) {
    one = Constant<value = int64 {1}>()
    back = Constant<value = int64 {-2}>()
    two = SequenceConstruct(x, y)
    three = SequenceInsert(two, z, one)
    a = SequenceAt(three, back_one)
    b = SequenceAt(three, back)
    n = SequenceLength(three)
    c = ConcatFromSequence<axis = 0>(three)
    rest = SequenceErase(three, back)
    d = ConcatFromSequence<axis = 0, new_axis = 1>(rest)
    none = SequenceEmpty()
    some = SequenceInsert(none, x)
    first = SequenceErase(two)
    e0 = SequenceAt(first, zero)
    e1 = SequenceAt(some, zero)
    e = Add(e0, e1)
}
""".replace(
    "two = SequenceConstruct",
    """back_one = Constant<value = int64 {-1}>()
    zero = Constant<value = int64 {0}>()
    two = SequenceConstruct""",
)


def test_lists_are_lists_at_import(tmp_path):
    check(LISTS, {"x": f(2, 3), "y": f(2, 3), "z": f(1, 3)}, tmp_path)


SPLITS = """
m (float[5,2] x) => (SEQ p, SEQ q, SEQ r, SEQ s) {
    two = Constant<value = int64 {2}>()
    parts = Constant<value = int64[3] {1, 3, 1}>()
    p = SplitToSequence(x, two)
    q = SplitToSequence(x, parts)
    r = SplitToSequence<axis = -1>(x)
    s = SplitToSequence<axis = 1, keepdims = 0>(x)
}
""".replace("SEQ", "seq(float[])")


def test_a_tensor_split_into_a_list(tmp_path):
    x = f(5, 2)
    session = compiled(parsed(SPLITS), tmp_path)
    p, q, r, s = session.run(None, {"x": x})
    assert_same(p, [x[:2], x[2:4], x[4:]])
    assert_same(q, [x[:1], x[1:4], x[4:]])
    assert_same(r, [x[:, :1], x[:, 1:]])
    assert_same(s, [x[:, 0], x[:, 1]])
    assert [o.type for o in session.get_outputs()] == ["seq(tensor(float))"] * 4
    assert session.get_inputs()[0].type == "tensor(float)"


MAPPED = """
m (seq(float[N]) many, float[2] x) => (seq(float[N]) sums, seq(int64[1]) shapes, int64 count) {
    sums, shapes = SequenceMap<body = body (float[N] one, float[2] other)
            => (float[2] sum, int64[1] shape) {
        sum = Add(one, other)
        shape = Shape(one)
    }>(many, x)
    count = SequenceLength(many)
}
"""


def test_a_list_goes_in_and_comes_out(tmp_path):
    many, x = [f(2), f(2), f(1)], f(2)
    shapes = {"many": [[2], [2], [1]]}
    session = compiled(parsed(MAPPED), tmp_path, shapes=shapes)
    want = [[v + x for v in many], [np.array(v.shape) for v in many], np.array(3)]
    assert_same(session.run(None, {"many": many, "x": x}), want)
    assert_same(session.run(["count", "sums"], {"many": many, "x": x}), [want[2], want[0]])
    single = {f"many.{i}": v for i, v in enumerate(many)}  # each item is an input of its own
    assert_same(session.run(None, {**single, "x": x}), want)
    assert [(i.name, i.type) for i in session.get_inputs()] == [
        ("many", "seq(tensor(float))"),
        ("x", "tensor(float)"),
    ]
    with pytest.raises(InputError, match="'many' is a sequence of 3 tensors, not 2 items"):
        session.run(None, {"many": many[:2], "x": x})
    with pytest.raises(InputError, match="'many' is a sequence of 3 tensors, not no list"):
        session.run(None, {"many": x, "x": x})


def test_lists_survive_the_file(tmp_path):
    proto = parsed(MAPPED)
    (tmp_path / "m.onnx").write_bytes(proto.SerializeToString())
    bundle = motet.compile(tmp_path / "m.onnx", shapes={"many.0": [2], "many.1": [1]})
    bundle.save(tmp_path / "m.motet")
    session = motet.load(open_bundle(tmp_path / "m.motet"), threads=1)
    a, b, x = f(2), f(1), f(2)
    got = session.run("m", {"many": [a, b], "x": x})
    assert_same(got["sums"], [a + x, b + x])
    assert_same(session.run_all({"m": {"many": [a, b], "x": x}})["m"]["sums"], [a + x, b + x])


def test_a_list_of_nothing(tmp_path):
    session = compiled(parsed(MAPPED), tmp_path, shapes={"many": []})
    assert_same(session.run(None, {"many": [], "x": f(2)}), [[], [], np.array(0)])


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ({}, r"'many' is a sequence: give the shape of each.*\[\[2, 3\], \[4\]\]"),
        ({"many": [2, 3]}, "shapes.many: the input is a sequence: give a list of shapes"),
        ({"many": [[2], [2, 3]]}, r"shapes.many\[1\]: rank 2 given"),
        ({"x": [[2], [2]]}, "no input of that name"),
    ],
)
def test_what_is_said_of_lists_is_checked(tmp_path, shapes, message):
    with pytest.raises(SpecError, match=message):
        compiled(parsed(MAPPED), tmp_path, shapes=shapes)


OPTIONAL = """
m (float[2] x, optional(float[2]) maybe, optional(seq(float[2])) list)
        => (float[2] y, bool there, bool listed, optional(float[2]) same) {
    there = OptionalHasElement(maybe)
    listed = OptionalHasElement(list)
    y = If(there)<then_branch = yes () => (float[2] a) {
            v = OptionalGetElement(maybe)
            a = Add(x, v)
        }, else_branch = no () => (float[2] b) { b = Neg(x) }>
    same = Identity(maybe)
}
"""


def test_an_optional_input_is_there_or_not(tmp_path):
    proto, x, v = parsed(OPTIONAL, 16), f(2), f(2)
    session = compiled(proto, tmp_path, shapes={"list": [[2]]})
    got = session.run(None, {"x": x, "maybe": v, "list": [v]})
    assert_same(got, [x + v, np.array(True), np.array(True), v])
    empty = {"maybe": None, "list": None}
    session = compiled(proto, tmp_path, values=empty)
    assert_same(session.run(None, {"x": x}), [-x, np.array(False), np.array(False), None])
    assert [info.name for info in session.get_inputs()] == ["x"]


def test_an_optional_made_inside(tmp_path):
    graph = """
    m (float[2] x) => (float[2] y, bool a, bool b) {
        held = Optional(x)
        y = OptionalGetElement(held)
        a = OptionalHasElement(held)
        none = Optional<type = float[2]>()
        b = OptionalHasElement(none)
    }
    """
    x = f(2)
    proto = parsed(graph.replace("Optional<type = float[2]>()", "Optional(x)"), 16)
    proto.graph.node[3].input.pop()
    held = proto.graph.input[0].type
    proto.graph.node[3].attribute.append(onnx.helper.make_attribute("type", held))
    got = compiled(proto, tmp_path).run(None, {"x": x})
    assert_same(got, [x, np.array(True), np.array(False)])
    assert operators(load(proto, tmp_path)) == []


def test_none_is_for_optionals_only(tmp_path):
    with pytest.raises(SpecError, match=r"values\.x: is no optional, which alone can be none"):
        compiled(parsed(OPTIONAL, 16), tmp_path, values={"x": "none"}, shapes={"list": [[2]]})


LOOPED = """
m (float[2] x, float[1] y) => (seq(float[]) all) {
    none = SequenceEmpty()
    n = Constant<value = int64 {3}>()
    all = Loop<body = body (int64 i, bool go, seq(float[]) list) => (bool more, seq(float[]) out) {
        more = Identity(go)
        f = Cast<to = 1>(i)
        v = Add(x, f)
        front = Constant<value = int64 {0}>()
        out = SequenceInsert(list, v, front)
    }>(n, , none)
}
"""


def test_a_loop_that_fills_a_list(tmp_path):
    x = f(2)
    got = compiled(parsed(LOOPED), tmp_path).run(None, {"x": x, "y": f(1)})
    assert_same(got, [[x + 2, x + 1, x]])


CHOSEN = """
m (float[2] x, bool c) => (seq(float[]) list) {
    list = If(c)<then_branch = yes () => (seq(float[]) a) {
            p = Neg(x)
            a = SequenceConstruct(x, p)
        }, else_branch = no () => (seq(float[]) b) {
            q = Exp(x)
            b = SequenceConstruct(ELSE)
        }>
}
"""


def test_a_choice_between_lists_of_one_length(tmp_path):
    session = compiled(parsed(CHOSEN.replace("ELSE", "q, x")), tmp_path)
    x = f(2)
    assert_same(session.run(None, {"x": x, "c": np.array(True)}), [[x, -x]])
    assert_same(session.run(None, {"x": x, "c": np.array(False)}), [[np.exp(x), x]])


def test_a_choice_between_lists_of_different_lengths_is_refused(tmp_path):
    with pytest.raises(ValueNeededError, match="sequences of 2 and 1") as error:
        load(parsed(CHOSEN.replace("ELSE", "q")), tmp_path)
    assert error.value.inputs == ("c",)


def test_an_item_at_a_position_of_the_run(tmp_path):
    graph = """
    m (float[2] x, float[2] y, int64 p) => (float[2] z) {
        list = SequenceConstruct(x, y, x)
        z = SequenceAt(list, p)
    }
    """
    session = compiled(parsed(graph), tmp_path)
    x, y = f(2), f(2)
    for position, want in ((0, x), (1, y), (-1, x), (-2, y)):
        got = session.run(None, {"x": x, "y": y, "p": np.array(position)})
        assert_same(got, [want])


def test_a_choice_between_something_and_nothing_is_refused(tmp_path):
    proto = parsed(
        """
    m (float[2] x, optional(float[2]) none, bool c) => (optional(float[2]) y) {
        y = If(c)<then_branch = yes () => (optional(float[2]) a) { a = Optional(x) },
                  else_branch = no () => (optional(float[2]) b) { b = Identity(none) }>
    }
    """,
        16,
    )
    with pytest.raises(ValueNeededError, match="with and without a value") as error:
        load(proto, tmp_path, values={"none": "none"})
    assert error.value.inputs == ("c",)
    session = compiled(proto, tmp_path, values={"none": None, "c": False})
    assert_same(session.run(None, {"x": f(2)}), [None])
    assert [(o.name, o.type) for o in session.get_outputs()] == [("y", "optional()")]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("y = SequenceAt(list, far)", "position 5 in a sequence of 2"),
        ("more = SequenceErase(list, p) y = SequenceAt(more, p)", "its position .*; .*--value p"),
        ("y = Relu(list)", r"Relu.*unsupported type: seq"),
    ],
)
def test_wrong_uses_are_refused(tmp_path, node, message):
    graph = f"""
    m (float[2] x, int64 p) => (float[2] y) {{
        far = Constant<value = int64 {{5}}>()
        list = SequenceConstruct(x, x)
        {node}
    }}
    """
    with pytest.raises((UnsupportedOperatorError, ModelError), match=message):
        load(parsed(graph), tmp_path)


@pytest.mark.parametrize(("batch", "time"), [(0, 1), (1, 0)])
def test_reversed_sequences_of_lengths_of_the_run(tmp_path, batch, time):
    graph = f"""
    m (float[3,4,2] x, int64[n] lens) => (float[3,4,2] y) {{
        y = ReverseSequence<batch_axis = {batch}, time_axis = {time}>(x, lens)
    }}
    """
    lens = np.array([2, 4, 1] if batch == 0 else [1, 3, 2, 3])
    check(graph, {"x": f(3, 4, 2), "lens": lens}, tmp_path, shapes={"lens": [len(lens)]})
    session = compiled(parsed(graph), tmp_path, values={"lens": lens})
    x = f(3, 4, 2)
    want = onnxruntime_run(parsed(graph), {"x": x, "lens": lens})
    assert_same(session.run(None, {"x": x}), want)


def test_a_long_list_is_joined_a_few_at_a_time(tmp_path):
    graph = """
    m (float[2] x) => (float[2,n] y, float[k] z) {
        n = Constant<value = int64 {20}>()
        none = SequenceEmpty()
        list = Loop<body = body (int64 i, bool go, seq(float[]) v)
                => (bool more, seq(float[]) w) {
            more = Identity(go)
            f = Cast<to = 1>(i)
            a = Add(x, f)
            w = SequenceInsert(v, a)
        }>(n, , none)
        y = ConcatFromSequence<axis = -1, new_axis = 1>(list)
        z = ConcatFromSequence<axis = 0>(list)
    }
    """
    check(graph, {"x": f(2)}, tmp_path)
    found = [
        len(call.args[0].fields)
        for call in calls(load(parsed(graph), tmp_path))
        if call.op.name in ("relax.concat", "relax.stack")
    ]
    assert max(found) <= joining.MAX_OPERANDS
