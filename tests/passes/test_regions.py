"""Regions of the array: convex, in an order, and nothing changes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from relax_modules import assert_same_values, calls, named
from tvm import relax
from tvm.ir import GlobalVar
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.fuse import fuse
from motet.passes.names import ARRAY, names_of, with_names
from motet.passes.options import RegionsOptions
from motet.passes.regions import components, levels_of, ordered, regions
from motet.passes.rewrite import Rewriter, rewrite_functions

WEIGHT = np.random.default_rng(0).uniform(-1, 1, (4, 4)).astype("float32")


@st.composite
def graphs(draw: st.DrawFn) -> tuple[list[list[int]], list[bool]]:
    count = draw(st.integers(1, 14))
    inputs = [
        sorted(draw(st.sets(st.integers(0, i - 1), max_size=3))) if i else [] for i in range(count)
    ]
    return inputs, draw(st.lists(st.booleans(), min_size=count, max_size=count))


def reachable(inputs: Sequence[Sequence[int]]) -> list[set[int]]:
    """All that each item is computed from."""
    found: list[set[int]] = []
    for reads in inputs:
        found.append(set(reads).union(*(found[i] for i in reads)))
    return found


@given(graphs())
@settings(max_examples=300, deadline=None)
def test_regions_of_random_graphs_are_convex_and_connected(
    graph: tuple[list[list[int]], list[bool]],
) -> None:
    inputs, on_array = graph
    region = components(inputs, on_array, levels_of(inputs, on_array))
    before = reachable(inputs)
    for one in range(len(inputs)):
        assert (region[one] >= 0) == on_array[one]
        for between in before[one]:
            for start in before[between]:
                if region[one] == region[start] >= 0:
                    assert region[between] == region[one], "a path leaves the region and returns"
    for root in {r for r in region if r >= 0}:
        members = [i for i, r in enumerate(region) if r == root]
        joined = {root}
        for _ in members:
            joined |= {
                i
                for i in members
                if any(j in joined and (j in inputs[i] or i in inputs[j]) for j in members)
            }
        assert joined == set(members)


@given(graphs())
@settings(max_examples=300, deadline=None)
def test_regions_of_random_graphs_can_be_run_in_an_order(
    graph: tuple[list[list[int]], list[bool]],
) -> None:
    inputs, on_array = graph
    region = components(inputs, on_array, levels_of(inputs, on_array))
    items = [i if r < 0 else r for i, r in enumerate(region)]
    numbers = {item: number for number, item in enumerate(sorted(set(items)))}
    between: list[list[int]] = [[] for _ in numbers]
    for reader, reads in enumerate(inputs):
        for read in reads:
            if items[read] != items[reader]:
                between[numbers[items[reader]]].append(numbers[items[read]])
    order = ordered(between)
    assert sorted(order) == list(range(len(numbers)))
    place = {item: at for at, item in enumerate(order)}
    assert all(place[read] < place[i] for i, reads in enumerate(between) for read in reads)


def test_adjacent_units_of_a_level_are_one_region() -> None:
    inputs = [[], [0], [1], [0], [2, 3]]
    assert components(inputs, [True] * 5, levels_of(inputs, [True] * 5)) == [0] * 5


def test_what_waits_for_each_other_has_no_order() -> None:
    with pytest.raises(ValueError, match="wait for each other"):
        ordered([[1], [0]])


class _Marker(Rewriter):
    """Everything whose variable's name starts with ``a`` runs on the array."""

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        if isinstance(value, relax.Call) and variable.name.startswith("a"):
            return with_names(value, names_of(value), ARRAY)
        return value


def cut(mod: tvm.IRModule, enabled: bool = True) -> tvm.IRModule:
    """``mod`` in regions; every call is a unit of its own."""
    fused = fuse(None, lambda *_: False)(rewrite_functions(named(mod), _Marker))
    after = regions(RegionsOptions(enabled=enabled))(fused)
    assert relax.analysis.check_well_formed(after)
    assert_same_values(mod, after)
    return after


def nodes(mod: tvm.IRModule) -> list[list[str]]:
    """The ONNX nodes of every array program, in the order of their calls."""
    called = [mod[call.op] for call in calls(mod["main"]) if isinstance(call.op, GlobalVar)]
    return [
        [str(name) for name in function.attrs["motet.onnx_nodes"]]
        for function in called
        if function.attrs["motet.target"] == ARRAY
    ]


def results(mod: tvm.IRModule) -> list[int]:
    """How many results every region has."""
    found = [f.ret_ty for name, f in mod.functions_items() if "__region" in str(name.name_hint)]
    return [len(ty.fields) if isinstance(ty, relax.TupleType) else 1 for ty in found]


@I.ir_module
class Residual:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            a1 = R.matmul(x, R.const(WEIGHT))
            a2 = R.matmul(a1, R.const(WEIGHT))
            a3 = R.add(a1, a2)
            host = R.exp(a1)
            a4 = R.multiply(host, a3)
            y = R.sin(a4)
            R.output(y)
        return y


def test_what_the_host_reads_is_a_result() -> None:
    after = cut(Residual)
    assert nodes(after) == [["a1", "a2", "a3"], ["a4"]]
    assert sorted(results(after)) == [1, 2]


def test_disabled_every_unit_is_a_region() -> None:
    assert nodes(cut(Residual, enabled=False)) == [["a1"], ["a2"], ["a3"], ["a4"]]


@I.ir_module
class Viewed:
    @R.function
    def main(x: R.Tensor((4, 4), "float32")):
        with R.dataflow():
            a1 = R.matmul(x, R.const(WEIGHT))
            flat = R.reshape(a1, (16,))
            wide = R.reshape(flat, (2, 8))
            a2 = R.nn.relu(wide)
            host = R.exp(flat)
            back = R.reshape(a2, (4, 4))
            a3 = R.matmul(back, R.const(WEIGHT))
            y = (host, a3)
            R.output(y)
        return y


def test_views_between_units_are_inside_and_those_of_the_host_outside() -> None:
    after = cut(Viewed)
    assert nodes(after) == [["a1", "a2", "a3"]]
    assert results(after) == [2]
    outside = [call for call in calls(after["main"]) if not isinstance(call.op, GlobalVar)]
    assert len(outside) == 1


@I.ir_module
class Branched:
    @R.function
    def main(x: R.Tensor((4, 4), "float32"), cond: R.Tensor((), "bool")):
        a1 = R.matmul(x, R.const(WEIGHT))
        if cond:
            a2 = R.matmul(a1, R.const(WEIGHT))
            a3 = R.matmul(a2, R.const(WEIGHT))
            z = a3
        else:
            z = R.exp(a1)
        a4 = R.matmul(z, R.const(WEIGHT))
        return a4  # noqa: RET504 - its name is what the test looks for


def test_regions_stay_on_their_side_of_a_branch() -> None:
    after = cut(Branched)
    assert sorted(nodes(after)) == [["a1"], ["a2", "a3"], ["a4"]]


def test_the_weights_of_a_region_are_told() -> None:
    after = cut(Residual)
    weights = {
        str(name.name_hint): [int(i) for i in f.attrs["motet.weights"]]
        for name, f in after.functions_items()
        if "__region" in str(name.name_hint)
    }
    assert sorted(weights.values()) == [[], [1, 2]]
