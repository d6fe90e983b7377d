"""If, Loop and Scan against onnxruntime, and onnx's reference evaluator where it is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from bundle_runs import assert_same, compiled, onnxruntime_run, parsed, reference_run
from frontend_models import calls, load

from motet.compiler.frontend import importer, loop_bodies
from motet.passes.names import names_of
from motet.runtime.errors import UnsupportedOperatorError, ValueNeededError

RNG = np.random.default_rng(5)


def f(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


GROWING = """
m (float[2] x) => (float[n] last, float[k,2] each, int64[k] numbers) {
    m = Constant<value = int64 {3}>()
    last, each, numbers = Loop<body = body (int64 i, bool go, float[a] v)
            => (bool more, float[b] longer, float[2] e, int64 number) {
        more = Identity(go)
        longer = Concat<axis = 0>(v, x)
        start = Constant<value = int64[1] {0}>()
        end = Constant<value = int64[1] {2}>()
        head = Slice(longer, start, end)
        f = Cast<to = 1>(i)
        e = Add(head, f)
        number = Add(i, i)
    }>(m, , x)
}
"""


def test_a_loop_whose_carried_value_grows(tmp_path):
    proto, feeds = parsed(GROWING), {"x": f(2)}
    for got, want in zip(
        compiled(proto, tmp_path).run(None, feeds), onnxruntime_run(proto, feeds), strict=True
    ):
        assert_same(got, want)


def test_calls_of_an_iteration_carry_their_node_and_the_loop(tmp_path):
    proto = parsed(GROWING)
    loop = proto.graph.node[1]
    loop.name = "repeat"
    body = loop.attribute[0].g
    for node in body.node:
        node.name = "grow" if node.op_type == "Concat" else ""
    found = [names_of(call) for call in calls(load(proto, tmp_path))]
    assert found.count(("grow", "repeat")) == 3
    assert ("repeat/Add_6", "repeat") in found  # a node without a name, by its path
    assert {names[-1] for names in found} == {"repeat"}


@pytest.mark.parametrize(("trips", "go"), [(0, True), (4, False)])
def test_no_iteration_gives_empty_outputs_of_the_right_shape(tmp_path, trips, go):
    text = GROWING.replace("int64 {3}", f"int64 {{{trips}}}")
    text = text.replace("(m, , x)", "(m, c, x)").replace(
        "m = Con", f"c = Constant<value = bool {{{int(go)}}}>()\n m = Con"
    )
    feeds = {"x": f(2)}
    last, each, numbers = compiled(parsed(text), tmp_path).run(None, feeds)
    assert_same(last, feeds["x"])
    assert_same(each, np.zeros((0, 2), np.float32))
    assert_same(numbers, np.zeros(0, np.int64))


WHILE = """
m (float[3] x, int64 least) => (float[3] y) <int64 most = {TRIPS}> {
    yes = Constant<value = bool {1}>()
    y = Loop<body = body (int64 i, bool go, float[3] v) => (bool more, float[3] w) {
        w = Add(v, v)
        CONDITION
    }>(most, yes, x)
}
"""


def test_a_condition_that_follows_from_the_number_of_the_iteration(tmp_path):
    text = WHILE.replace("TRIPS", str(2**62)).replace(
        "CONDITION", "four = Constant<value = int64 {4}>() more = Less(i, four)"
    )
    feeds = {"x": f(3), "least": np.int64(0)}
    assert_same(compiled(parsed(text), tmp_path).run(None, feeds)[0], feeds["x"] * 32)


def test_a_condition_of_the_run_stops_a_bounded_loop(tmp_path):
    condition = """
        sum = ReduceSum<keepdims = 0>(w)
        bound = Cast<to = 1>(least)
        more = Less(sum, bound)
    """
    proto = parsed(WHILE.replace("TRIPS", "5").replace("CONDITION", condition))
    session = compiled(proto, tmp_path)
    for least in (0, 10, 40, 1000):
        feeds = {"x": np.ones(3, np.float32), "least": np.array(least)}
        assert_same(session.run(None, feeds)[0], reference_run(proto, feeds)[0])


def test_a_first_condition_of_the_run(tmp_path):
    text = """
    m (float[2] x, bool c) => (float[2] y) {
        most = Constant<value = int64 {3}>()
        y = Loop<body = body (int64 i, bool go, float[2] v) => (bool more, float[2] w) {
            more = Identity(go)
            w = Add(v, v)
        }>(most, c, x)
    }
    """
    session, x = compiled(parsed(text), tmp_path), f(2)
    assert_same(session.run(None, {"x": x, "c": np.array(True)})[0], x * 8)
    assert_same(session.run(None, {"x": x, "c": np.array(False)})[0], x)


COUNTED = """
m (float[2] x, int64 count, bool c) => (float[2] y, float[n,2] all) {
    y, all = Loop<body = body (int64 i, bool go, float[2] v)
            => (bool more, float[2] w, float[2] e) {
        more = Identity(go)
        w = Add(v, v)
        e = Identity(v)
    }>(count, c, x)
}
"""


def test_an_unknown_number_of_iterations_is_refused_by_its_input(tmp_path):
    proto = parsed(COUNTED)
    with pytest.raises(
        ValueNeededError, match=r"'Loop_0' \(Loop\).*trip count.*--value count"
    ) as e:
        compiled(proto, tmp_path)
    assert e.value.inputs == ("count",)
    feeds = {"x": f(2), "count": np.array(3), "c": np.array(True)}
    got = compiled(proto, tmp_path, values={"count": 3, "c": True}).run(None, {"x": feeds["x"]})
    for one, other in zip(got, reference_run(proto, feeds), strict=True):
        assert_same(one, other)


COLLECTING = """
m (float[2] x, float least, bool c) => (float[2] y, float[n,2] all, int64[k] numbers) {
    most = Constant<value = int64 {6}>()
    y, all, numbers = Loop<body = body (int64 i, bool go, float[2] v)
            => (bool more, float[2] w, float[2] e, int64 number) {
        w = Add(v, v)
        sum = ReduceSum<keepdims = 0>(w)
        more = Less(sum, least)
        e = Mul(w, x)
        number = Add(i, i)
    }>(most, c, x)
}
"""


def test_the_run_decides_how_many_outputs_are_collected(tmp_path):
    proto = parsed(COLLECTING)
    session = compiled(proto, tmp_path)
    lengths = set()
    for least, go in ((0, False), (0, True), (10, True), (40, True), (1000, True)):
        feeds = {
            "x": np.ones(2, np.float32),
            "least": np.array(least, np.float32),
            "c": np.array(go),
        }
        got = session.run(None, feeds)
        for one, other in zip(got, onnxruntime_run(proto, feeds), strict=True):
            assert_same(one, other)
        lengths.add(len(got[1]))
    assert lengths == {0, 1, 3, 5, 6}


def test_a_condition_of_the_run_needs_a_bound(tmp_path):
    text = COLLECTING.replace("int64 {6}", "int64 {9223372036854775807}")
    with pytest.raises(ValueNeededError, match=r"a trip count of at most 4000 must bound") as error:
        load(parsed(text), tmp_path)
    assert error.value.inputs == ("c",)


def test_loops_are_unrolled_up_to_a_bound(tmp_path, monkeypatch):
    proto = parsed(GROWING.replace("int64 {3}", "int64 {100}"))
    monkeypatch.setattr(loop_bodies, "MAX_UNROLLED", 600)
    with pytest.raises(UnsupportedOperatorError, match="100 iterations of 8 nodes are 800 nodes"):
        load(proto, tmp_path)
    endless = WHILE.replace("most, yes, x", ", yes, x").replace("TRIPS", "1")
    proto = parsed(endless.replace("CONDITION", "more = Identity(go)"))
    monkeypatch.setattr(importer, "MAX_UNROLLED", 600)
    with pytest.raises(UnsupportedOperatorError, match=r"loop 'Loop_1' is unrolled.*600 nodes"):
        load(proto, tmp_path)


SCAN = """
m (float[2] s, float[3] t, float[4,2] x, float[3,5,4] z)
        => (float[2] s_n, float[3] t_n, float[2,n] a, float[n,3] b) {
    s_n, t_n, a, b = Scan<num_scan_inputs = 2, scan_input_axes = [0, -1],
            scan_input_directions = [0, 1], scan_output_axes = [-1, 0],
            scan_output_directions = [0, 1],
            body = body (float[2] p, float[3] q, float[2] u, float[3,5] v)
            => (float[2] p_n, float[3] q_n, float[2] g, float[3] h) {
        p_n = Add(p, u)
        sum = ReduceMax<axes = [1], keepdims = 0>(v)
        q_n = Sub(sum, q)
        g = Mul(p_n, u)
        h = Identity(q_n)
    }>(s, t, x, z)
}
"""


def test_a_scan_with_states_axes_and_directions(tmp_path):
    proto = parsed(SCAN)
    feeds = {"s": f(2), "t": f(3), "x": f(4, 2), "z": f(3, 5, 4)}
    got = compiled(proto, tmp_path).run(None, feeds)
    for one, other in zip(got, onnxruntime_run(proto, feeds), strict=True):
        assert_same(one, other)


BATCHED = """
m (float[2,3] s, float[2,4,3] x) => (float[2,3] last, float[2,4,3] all)
        <int64[2] lens = {3, 4}, float half = {0.5}> {
    last, all = Scan<num_scan_inputs = 1, directions = [DIRECTION],
            body = body (float[3] p, float[3] u) => (float[3] q, float[3] e) {
        kept = Mul(p, half)
        q = Add(kept, u)
        e = Identity(q)
    }>(LENS, s, x)
}
"""


@pytest.mark.parametrize(("lens", "direction"), [("lens", 0), ("", 1), ("lens", 1)])
def test_the_first_scan_scans_every_item_of_a_batch(tmp_path, lens, direction):
    proto = parsed(BATCHED.replace("LENS", lens).replace("DIRECTION", str(direction)), 8)
    feeds = {"s": f(2, 3), "x": f(2, 4, 3)}
    last, every = compiled(proto, tmp_path).run(None, feeds)
    want_last, want = onnxruntime_run(proto, feeds)
    assert_same(last, want_last)
    assert_same(every[1], want[1])
    assert_same(every[0, : 3 if lens else 4], want[0, : 3 if lens else 4])


def test_a_scan_over_nothing(tmp_path):
    proto = parsed(SCAN.replace("4,2] x", "0,2] x").replace("5,4] z", "5,0] z"))
    feeds = {"s": f(2), "t": f(3), "x": f(0, 2), "z": f(3, 5, 0)}
    s, t, a, b = compiled(proto, tmp_path).run(None, feeds)
    assert_same(s, feeds["s"])
    assert_same(t, feeds["t"])
    assert (a.shape, b.shape) == ((2, 0), (0, 3))


NESTED = """
m (float[2] x, bool c, bool d) => (float[2] y) <float[2] w = {1, 2}> {
    y = If(c)<then_branch = yes () => (float[2] a) <float[2] inner = {10, 20}> {
        n = Constant<value = int64 {3}>()
        a = Loop<body = body (int64 i, bool go, float[2] v)
                => (bool more, float[2] r) <float[2] step = {0.5, 0.25}> {
            more = Identity(go)
            outer = Add(v, w)
            one = Constant<value = int64 {1}>()
            second = Equal(i, one)
            r = If(second)<then_branch = at_one () => (float[2] b) {
                b = Add(outer, inner)
            }, else_branch = other () => (float[2] e) {
                e = If(d)<then_branch = d_yes () => (float[2] g) {
                    g = Mul(outer, step)
                }, else_branch = d_no () => (float[2] h) {
                    h = Sub(outer, x)
                }>
            }>
        }>(n, , x)
    }, else_branch = no () => (float[2] k) {
        k = Neg(x)
    }>
}
"""


def test_choices_in_loops_in_choices(tmp_path):
    proto = parsed(NESTED)
    session = compiled(proto, tmp_path)
    x = f(2)
    for c in (True, False):
        for d in (True, False):
            feeds = {"x": x, "c": np.array(c), "d": np.array(d)}
            assert_same(session.run(None, feeds)[0], onnxruntime_run(proto, feeds)[0])


def test_a_graph_inside_may_use_a_name_of_its_own_again(tmp_path):
    """Two loops whose bodies use the same names, and initialisers called as ones outside."""
    body = """body (int64 i, bool go, float[2] v) => (bool more, float[2] r)
        <float[2] own = {NUMBERS}> { more = Identity(go) r = Add(v, own) }"""
    text = f"""
    m (float[2] x) => (float[2] y) <float[2] own = {{5, 6}}> {{
        n = Constant<value = int64 {{2}}>()
        start = Add(x, own)
        h = Loop<body = {body.replace("NUMBERS", "1, 2")}>(n, , start)
        y = Loop<body = {body.replace("NUMBERS", "10, 20")}>(n, , h)
    }}
    """
    x = f(2)
    got = compiled(parsed(text), tmp_path).run(None, {"x": x})[0]
    assert_same(got, x + np.array([27, 50], np.float32))


def test_branches_of_different_lengths(tmp_path):
    proto = parsed("""
    m (float[2] x, bool c) => (float[n] y) {
        y = If(c)<then_branch = yes () => (float[4] a) { a = Concat<axis = 0>(x, x) },
                  else_branch = no () => (float[2] b) { b = Neg(x) }>
    }
    """)
    x, session = f(2), compiled(proto, tmp_path)
    for _ in range(2):
        for flag, want in ((True, np.concatenate([x, x])), (False, -x)):
            assert_same(session.run(None, {"x": x, "c": np.array(flag)})[0], want)


def test_branches_of_different_ranks_need_a_known_condition(tmp_path):
    proto = parsed("""
    m (float[2] x, bool c) => (float[n] y) {
        y = If(c)<then_branch = yes () => (float[2,2] a) {
                      shape = Constant<value = int64[2] {2, 2}>()
                      a = Expand(x, shape) },
                  else_branch = no () => (float[2] b) { b = Neg(x) }>
    }
    """)
    del proto.graph.output[0].type.tensor_type.shape.dim[:]
    proto.graph.output[0].type.tensor_type.ClearField("shape")
    with pytest.raises(ValueNeededError, match=r"float32 \[2, 2\] and float32 \[2\]") as error:
        compiled(proto, tmp_path)
    assert error.value.inputs == ("c",)
    x = f(2)
    session = compiled(proto, tmp_path, values={"c": True})
    assert_same(session.run(None, {"x": x})[0], np.stack([x, x]))


def test_what_both_branches_give_alike_stays_known(tmp_path):
    """The reshape needs the shape that either branch gives, whatever the condition."""
    proto = parsed("""
    m (float[6] x, bool c) => (float[2,3] y) {
        shape = If(c)<then_branch = yes () => (int64[2] a) {
                a = Constant<value = int64[2] {2, 3}>() },
            else_branch = no () => (int64[2] b) { b = Constant<value = int64[2] {2, 3}>() }>
        y = Reshape(x, shape)
    }
    """)
    x = f(6)
    got = compiled(proto, tmp_path).run(None, {"x": x, "c": np.array(False)})
    assert_same(got[0], x.reshape(2, 3))


def outputs_of(graph: str, tmp_path: Any, feeds: dict[str, Any]) -> list[Any]:
    proto = parsed(graph)
    got = compiled(proto, tmp_path).run(None, feeds)
    for one, other in zip(got, reference_run(proto, feeds), strict=True):
        assert_same(one, other)
    return got


def test_outputs_that_nothing_computes(tmp_path):
    """Constants, inputs and one value under two names, with and without other nodes."""
    graph = """
    m (float[2] x) => (float[2] same, float[2] again, float[2] k, float[2] y, float[2] y2)
            <float[2] w = {1, 2}> {
        same = Identity(x)
        again = Identity(x)
        k = Add(w, w)
        y = Relu(x)
        y2 = Identity(y)
    }
    """
    outputs_of(graph, tmp_path, {"x": f(2)})
    known = "m () => (float[2] k) <float[2] w = {1, 2}> { k = Mul(w, w) }"
    outputs_of(known, tmp_path, {})


def test_a_loop_in_a_function_of_the_model(tmp_path):
    proto = onnx.parser.parse_model("""
    <ir_version: 8, opset_import: ["" : 17, "own" : 1]>
    m (float[2] x) => (float[2] y) { y = own.Power<times = 3>(x) }
    <domain: "own", opset_import: ["" : 17]>
    Power<times>(v) => (r) {
        n = Constant<value_int: int = @times>()
        r = Loop<body = body (int64 i, bool go, float[2] p) => (bool more, float[2] q) {
            more = Identity(go)
            q = Mul(p, v)
        }>(n, , v)
    }
    """)
    x = f(2)
    assert_same(compiled(proto, tmp_path).run(None, {"x": x})[0], x**4)
