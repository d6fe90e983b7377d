"""Stages of merged convolutions: which units may be one, and what that one costs."""

from __future__ import annotations

import numpy as np
import pytest
import tvm
from relax_modules import named
from tvm import relax

from motet.passes.merge_parallel import merge_parallel
from motet.passes.merged_units import merge_keys, merged_unit
from motet.passes.scheduling import inter_operator
from motet.passes.stage_cost import keys_of, stage_costs
from motet.passes.unit_cost import ArrayTarget, HostTarget, Resources, Target, estimate
from motet.passes.unit_figures import figures_of
from motet.passes.units import Unit, Units, units_of
from motet.targets.host.machine import machine_for
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.estimate import with_pods

HOST = HostTarget(machine_for("x86-64-v3"), threads=2)
ARRAY = ArrayTarget(with_pods(load_architecture("sosa-256x32x32"), 2), "int8", HOST)
SIZES = {"a": (48, 1), "b": (16, 1), "c": (32, 3)}


def network(batch: int = 1, image: int = 14) -> tvm.IRModule:
    """Three convolutions of x, two with a ReLU, one of a pooling of x, and their concatenation."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((batch, 64, image, image), "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            made = {
                name: builder.emit(
                    relax.op.nn.conv2d(x, weight(outs, size), padding=size // 2), name
                )
                for name, (outs, size) in SIZES.items()
            }
            relus = [builder.emit(relax.op.nn.relu(made[n]), f"r{n}") for n in "ab"]
            pooled = builder.emit(relax.op.nn.max_pool2d(x, 3, padding=1), "pool")
            last = builder.emit(relax.op.nn.conv2d(pooled, weight(16, 1)), "d")
            whole = builder.emit(relax.op.concat([*relus, made["c"], last], 1), "whole")
            output = builder.emit_output(whole)
        builder.emit_func_output(output)
    return named(builder.finalize())


def weight(outs: int, size: int) -> relax.Expr:
    values = np.random.default_rng(outs).standard_normal((outs, 64, size, size))
    return relax.const(values.astype("float32"))


def titled(units: Units, *titles: str) -> list[Unit]:
    return [next(one for one in units.units if one.title == title) for title in titles]


@pytest.fixture(scope="module")
def units() -> Units:
    return units_of(network()["main"], "main")


def test_only_equal_activations_of_one_value_may_be_one(units: Units) -> None:
    keys = merge_keys(units)
    a, b, c, d = (one.name for one in titled(units, "a", "b", "c", "d"))
    assert {*keys} == {a, b}
    assert keys[a] == keys[b]
    asked = keys_of(units, merge=True)
    assert asked[a].merge == keys[a]
    assert asked[c].merge is asked[d].merge is None
    assert all(key.merge is None for key in keys_of(units).values())


def test_the_merged_unit_is_the_rewritten_convolution(units: Units) -> None:
    one = merged_unit(titled(units, "a", "b"))
    after = units_of(merge_parallel()(network())["main"], "main")
    made = next(unit for unit in after.units if {"a", "b"} <= {*unit.onnx_nodes})
    assert {*one.onnx_nodes} == {"a", "b", "ra", "rb"}
    assert figures_of(one.bindings) == figures_of(made.bindings[:2])
    assert figures_of(one.bindings).macs == 14 * 14 * 64 * (48 + 16)


def test_slices_that_are_no_run_are_copied() -> None:
    units = units_of(network(batch=2)["main"], "main")
    one = merged_unit(titled(units, "a", "b"))
    kinds = [binding.value.op.name for binding in one.bindings[:-1]]
    assert kinds[-2:] == ["relax.strided_slice", "relax.strided_slice"]


@pytest.mark.parametrize("target", [HOST, ARRAY], ids=["host", "array"])
def test_a_merged_stage_costs_what_its_unit_does(units: Units, target: Target) -> None:
    costs = stage_costs(units, target, merge=True)
    both = titled(units, "a", "b")
    alone = estimate(merged_unit(both), target, Resources()).seconds
    merged = costs.merged(tuple(one.name for one in both))
    assert merged is not None
    assert merged >= alone
    assert merged == pytest.approx(alone, rel=0.3)


@pytest.mark.parametrize("target", [HOST, ARRAY], ids=["host", "array"])
def test_floors_hold_for_merged_stages(units: Units, target: Target) -> None:
    costs = stage_costs(units, target, merge=True)
    both = tuple(one.name for one in titled(units, "a", "b"))
    merged = costs.merged(both)
    assert merged is not None
    assert sum(costs.floor(name) for name in both) <= merged


def test_the_programme_sees_merges(units: Units) -> None:
    with_merges = stage_costs(units, ARRAY, merge=True)
    found = inter_operator.schedule(units.graph, with_merges, keys_of(units, merge=True))
    without = inter_operator.schedule(units.graph, stage_costs(units, ARRAY), keys_of(units))
    merged = [stage for stage in found.stages if stage.kind == "merged"]
    assert found.seconds < without.seconds
    assert [{units.by_name[n].title for group in s.groups for n in group} for s in merged] == [
        {"a", "b"}
    ]
    assert all(stage.kind == "concurrent" for stage in without.stages)
