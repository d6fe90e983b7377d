"""The whole list of passes: values, names and forms on random graphs, hooks and records."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from relax_modules import calls, kinds, names, random_inputs, units
from relax_modules import run as run_module
from tvm import relax, transform
from tvm.ir import GlobalVar

from motet.compiler.pipeline import PASS_NAMES, Hooks, Step, run, steps_for
from motet.compiler.spec import PassesSpec
from motet.passes.names import names_of, with_names
from motet.passes.options import (
    FoldBatchNormOptions,
    FuseOptions,
    MergeDepthOptions,
    PlaceOptions,
    ReplaceDepthwiseOptions,
)
from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture_file import load_architecture

OP = relax.op
ARRAY = load_architecture("tiny-4x4")


class Graph:
    """A module in the making: every call is named n0, n1, ... as if by an ONNX node."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.builder = relax.BlockBuilder()
        self.input = relax.Var("x", relax.TensorType([1, 4, 4, 4], "float32"))
        self.calls = 0

    def call(self, call: relax.Call) -> relax.Var:
        name = f"n{self.calls}"
        self.calls += 1
        return self.builder.emit(with_names(self.builder.normalize(call), [name]), name)

    def const(self, *shape: int) -> relax.Expr:
        return relax.const(self.rng.uniform(0.25, 1, shape).astype("float32"))

    def norm(self, x: relax.Expr, channels: int) -> relax.Var:
        params = [self.const(channels) for _ in range(4)]
        norm = self.call(OP.nn.batch_norm(x, *params, axis=1, training=False))
        return self.builder.emit(relax.TupleGetItem(norm, 0))

    def finish(self, emit: Callable[[], relax.Expr]) -> tvm.IRModule:
        with self.builder.function("main", [self.input]):
            with self.builder.dataflow():
                output = self.builder.emit_output(emit())
            self.builder.emit_func_output(output)
        return self.builder.finalize()


def channels_of(x: relax.Expr) -> int:
    return int(x.ty.shape[1])


def convolution(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    kernel = int(graph.rng.choice([1, 3]))
    weight = graph.const(4, channels_of(x), kernel, kernel)
    return graph.call(OP.nn.conv2d(x, weight, padding=kernel // 2))


def bias(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    return graph.call(OP.add(x, graph.const(1, channels_of(x), 1, 1)))


def scale(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    return graph.call(OP.multiply(graph.const(channels_of(x), 1, 1), x))


def add(graph: Graph, x: relax.Expr, other: relax.Expr) -> relax.Expr:
    if channels_of(x) == channels_of(other):
        return graph.call(OP.add(x, other))
    return concat(graph, x, other)


def concat(graph: Graph, x: relax.Expr, other: relax.Expr) -> relax.Expr:
    joined = graph.call(OP.concat([x, other], axis=1))
    weight = graph.const(4, channels_of(joined), 1, 1)
    return graph.call(OP.nn.conv2d(joined, weight))


def reshape(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    flat = graph.call(OP.reshape(x, (1, channels_of(x), 16)))
    soft = graph.call(OP.nn.softmax(flat))
    return graph.call(OP.reshape(soft, (1, channels_of(x), 4, 4)))


def mean(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    pooled = graph.call(OP.mean(x, axis=[2, 3], keepdims=True))
    return graph.call(OP.multiply(x, graph.call(OP.sigmoid(pooled))))


def relu(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    return graph.call(OP.nn.relu(x))


def norm(graph: Graph, x: relax.Expr, _other: relax.Expr) -> relax.Expr:
    return graph.norm(x, channels_of(x))


STEPS = (convolution, bias, scale, add, concat, reshape, mean, relu, norm)
Recipe = list[tuple[int, int, int]]


def random_graph(recipe: Recipe, outputs: int) -> tvm.IRModule:
    """Steps on earlier values, counted from the last; the last values are the outputs."""
    graph = Graph()

    def emit() -> relax.Expr:
        values = [graph.input]
        for step, first, second in recipe:
            x, other = values[-1 - first % len(values)], values[-1 - second % len(values)]
            values.append(STEPS[step](graph, x, other))
        kept = [value for value in values[-outputs:] if not value.same_as(graph.input)]
        return kept[0] if len(kept) == 1 else relax.Tuple(kept)

    return graph.finish(emit)


def entry_views(mod: tvm.IRModule) -> list[relax.Call]:
    return [call for call in calls(mod["main"]) if not isinstance(call.op, GlobalVar)]


RECIPES = st.lists(
    st.tuples(st.integers(0, len(STEPS) - 1), st.integers(0, 3), st.integers(0, 5)),
    min_size=1,
    max_size=9,
)


@given(RECIPES, st.integers(1, 3), st.sampled_from([None, ARRAY]), st.sampled_from([2, 4, 32]))
@settings(
    max_examples=30, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
def test_random_graphs(recipe: Recipe, outputs: int, array: Any, max_ops: int) -> None:
    before = relax.transform.DeadCodeElimination()(random_graph(recipe, outputs))
    steps = steps_for(PassesSpec(fuse=FuseOptions(max_ops=max_ops)), array)
    at = [step.name for step in steps].index("fuse")
    unfused, _ = run(before, steps[:at], Hooks(verify=True))
    after, _ = run(unfused, steps[at:], Hooks(verify=True))
    inside = [call for unit in units(after) for call in calls(unit)]
    assert sorted(map(names_of, inside + entry_views(after))) == sorted(names(unfused["main"]))
    assert {n for each in names(before["main"]) for n in each} == {
        n for call in inside + entry_views(after) for n in names_of(call)
    }
    inputs = random_inputs(before["main"])
    for old, new in zip(run_module(before, inputs), run_module(after, inputs), strict=True):
        np.testing.assert_allclose(new, old, rtol=1e-3, atol=1e-3)


def layered(layers: int) -> tvm.IRModule:
    """Five calls a layer: convolution, bias, batch-norm, relu and residual sum."""
    graph = Graph()

    def emit() -> relax.Expr:
        value = graph.input
        for _ in range(layers):
            conv = graph.call(OP.nn.conv2d(value, graph.const(4, 4, 1, 1)))
            biased = graph.call(OP.add(conv, graph.const(1, 4, 1, 1)))
            clamped = graph.call(OP.nn.relu(graph.norm(biased, 4)))
            value = graph.call(OP.add(clamped, value))
        return value

    return graph.finish(emit)


def test_one_unit_a_layer_on_the_host() -> None:
    after, records = run(layered(3), steps_for(PassesSpec(), None), Hooks())
    assert kinds(after) == ["nn.conv2d+add+nn.relu+add"] * 3
    assert [record.name for record in records] == [
        "join_vectors",
        "canonicalize",
        "merge_depth",
        "fold_batch_norm",
        "decompose",
        "widen_halves",
        "layout",
        "fuse",
    ]
    assert [record.summary for record in records] == [
        "15 calls -> 15", "15 calls -> 15", "15 calls -> 15; nothing merged", "15 calls -> 12",
        "12 calls -> 12", "12 calls -> 12", "12 calls -> 12", "12 calls -> 3",
    ]  # fmt: skip


def test_the_array_takes_the_convolution_with_bias_and_clamp() -> None:
    after, records = run(layered(2), steps_for(PassesSpec(), ARRAY), Hooks())
    assert kinds(after) == ["nn.conv2d+add+nn.relu", "add"] * 2
    assert [str(unit.attrs["motet.target"]) for unit in units(after)] == ["array"] * 4
    assert records[5].summary == "8 calls -> 8; 4 operators on the array, 0 refused"
    assert records[-1].summary == "4 calls -> 1"


def test_time_grows_with_the_calls_alone() -> None:
    """Four times the calls may take eight times as long, which sixteen would not pass."""

    def seconds(layers: int) -> float:
        mod, steps = layered(layers), steps_for(PassesSpec(), None)
        started = time.process_time()
        run(mod, steps, Hooks())
        return time.process_time() - started

    seconds(10)
    assert seconds(200) < 8 * seconds(50) + 1


def test_steps_that_options_leave_out() -> None:
    options = PassesSpec(
        fold_batch_norm=FoldBatchNormOptions(enabled=False),
        merge_depth=MergeDepthOptions(enabled=False),
        place=PlaceOptions(enabled=False),
    )
    assert [step.name for step in steps_for(options, ARRAY)] == [
        "join_vectors",
        "canonicalize",
        "decompose",
        "widen_halves",
        "layout",
        "fuse",
    ]
    nothing = Step("host_stages", transform.Sequential([]))
    asked = PassesSpec(replace_depthwise=ReplaceDepthwiseOptions(enabled=True))
    merging = Step("merge_parallel", transform.Sequential([]))
    everything = steps_for(asked, ARRAY, compute="bf16", stages=nothing, merging=merging)
    assert [step.name for step in everything] == list(PASS_NAMES)
    after, _ = run(layered(1), steps_for(options, ARRAY), Hooks())
    assert all(str(unit.attrs["motet.target"]) == "host" for unit in units(after))


def test_without_folding_the_values_are_the_same() -> None:
    options = PassesSpec(fold_batch_norm=FoldBatchNormOptions(enabled=False))
    before = layered(1)
    after, _ = run(before, steps_for(options, None), Hooks())
    inputs = random_inputs(before["main"])
    np.testing.assert_allclose(
        run_module(after, inputs)[0], run_module(before, inputs)[0], rtol=1e-4, atol=1e-4
    )


def test_an_unknown_pinned_node_is_an_error() -> None:
    steps = steps_for(PassesSpec(place=PlaceOptions(host_ops=("n0", "conv9"))), ARRAY)
    with pytest.raises(SpecError, match=r"passes\.place\.host_ops.*'conv9'"):
        run(layered(1), steps, Hooks())


def test_hooks_print_time_and_tell() -> None:
    written: list[str] = []
    started: list[str] = []
    hooks = Hooks(frozenset({"fuse"}), True, written.append, started.append)
    run(layered(1), steps_for(PassesSpec(), None), hooks)
    assert started == [
        "join_vectors", "canonicalize", "merge_depth", "fold_batch_norm", "decompose",
        "widen_halves", "layout", "fuse",
    ]  # fmt: skip
    assert len(written) == 1
    assert written[0].startswith("# after fuse\n")
    assert "main__unit0" in written[0]
    assert sorted(hooks.seconds) == sorted(started)


def test_a_misspelt_pass_name() -> None:
    with pytest.raises(SpecError, match="no pass 'fuze'; the passes are join_vectors"):
        Hooks(frozenset({"fuze"}))
