"""From a network to regions and their workloads: the values are those of the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import tvm
from array_workload_values import evaluate
from relax_modules import calls, named, random_inputs, run
from tvm import relax
from tvm.ir import GlobalVar
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.fuse import fuse
from motet.passes.graph import constant_array
from motet.passes.names import ARRAY, ONNX_NODES, TARGET
from motet.passes.place import place
from motet.passes.regions import regions
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.from_relax.rules import accepts_epilogue, refusal
from motet.targets.systolic.from_relax.workload import RegionBinding, workload_of
from motet.targets.systolic.instructions.program import Role

ARRAY_OF_TESTS = load_architecture("tiny-4x4")
RANDOM = np.random.default_rng(0)


def weight(*shape: int) -> np.ndarray[Any, Any]:
    return RANDOM.uniform(-1, 1, shape).astype("float32")


W1, W2, W3 = weight(6, 3, 3, 3), weight(6, 6, 3, 3), weight(6, 5)
B1 = weight(1, 6, 1, 1)


@I.ir_module
class Residual:
    @R.function
    def main(x: R.Tensor((1, 3, 8, 8), "float32")):
        with R.dataflow():
            conv1 = R.nn.conv2d(x, R.const(W1), padding=(1, 1))
            bias1 = R.add(conv1, R.const(B1))
            relu1 = R.nn.relu(bias1)
            conv2 = R.nn.conv2d(relu1, R.const(W2), padding=(1, 1))
            add = R.add(conv2, relu1)
            relu2 = R.nn.relu(add)
            pool = R.mean(relu2, [2, 3], True)
            flat = R.reshape(pool, (1, 6))
            gemm = R.matmul(flat, R.const(W3))
            y = R.nn.softmax(gemm)
            R.output(y)
        return y


@I.ir_module
class Attention:
    @R.function
    def main(
        q: R.Tensor((2, 5, 4), "float32"),
        k: R.Tensor((2, 6, 4), "float32"),
        v: R.Tensor((2, 6, 3), "float32"),
    ):
        with R.dataflow():
            turned = R.permute_dims(k, [0, 2, 1])
            scores = R.matmul(q, turned)
            scaled = R.multiply(scores, R.const(np.float32(0.5)))
            soft = R.nn.softmax(scaled)
            mixed = R.matmul(soft, v)
            y = R.nn.gelu(mixed)
            R.output(y)
        return y


def in_regions(mod: tvm.IRModule, *pinned: str) -> tvm.IRModule:
    placed = place(lambda call: refusal(call, ARRAY_OF_TESTS), pinned, None, accepts_epilogue)(
        named(mod)
    )
    return regions()(fuse(None, accepts_epilogue)(placed))


def bindings(mod: tvm.IRModule) -> list[RegionBinding]:
    """The workloads of the module's regions, in the order of their calls."""
    found = [mod[c.op] for c in calls(mod["main"]) if isinstance(c.op, GlobalVar)]
    return [
        workload_of(
            region,
            lambda name: mod[name],
            lambda unit: "+".join(map(str, unit.attrs[ONNX_NODES])),
            [int(i) for i in region.attrs["motet.weights"]],
        )
        for region in found
        if region.attrs[TARGET] == ARRAY
    ]


def steps(mod: tvm.IRModule) -> list[list[str]]:
    return [[step.name for step in binding.workload.steps] for binding in bindings(mod)]


def test_a_residual_network_is_one_region() -> None:
    assert steps(in_regions(Residual)) == [
        ["conv1+bias1+relu1", "conv2+add+relu2", "pool", "gemm", "y"]
    ]


def test_roles_of_its_tensors() -> None:
    (binding,) = bindings(in_regions(Residual))
    roles = [tensor.role for tensor in binding.workload.tensors]
    assert roles.count(Role.WEIGHT) == 4
    assert (roles.count(Role.INPUT), roles.count(Role.OUTPUT)) == (1, 1)


def test_attention_is_one_region() -> None:
    assert steps(in_regions(Attention)) == [["turned+scores", "scaled", "soft", "mixed+y"]]


def test_what_is_pinned_to_the_host_parts_regions() -> None:
    mod = in_regions(Residual, "pool")
    assert steps(mod) == [["conv1+bias1+relu1", "conv2+add+relu2"], ["gemm", "y"]]


@pytest.mark.parametrize("mod", [Residual, Attention], ids=["residual", "attention"])
@pytest.mark.parametrize("pinned", [(), ("scores", "conv2"), ("soft", "relu1", "gemm")])
def test_values(mod: tvm.IRModule, pinned: tuple[str, ...]) -> None:
    inputs = random_inputs(mod["main"])
    (wanted,) = run(mod, inputs)
    np.testing.assert_allclose(interpreted(in_regions(mod, *pinned), inputs), wanted, atol=1e-5)


def interpreted(mod: tvm.IRModule, inputs: list[Any]) -> Any:
    """The entry function with every region as numpy evaluates its workload."""
    main, waiting = mod["main"], iter(bindings(mod))
    values: dict[relax.Var, Any] = dict(zip(main.params, inputs, strict=True))
    for binding in (b for block in main.body.blocks for b in block.bindings):
        values[binding.var] = value_of(mod, binding.value, values, waiting)
    return values[main.body.body]


def value_of(mod: tvm.IRModule, expr: Any, values: dict[relax.Var, Any], waiting: Any) -> Any:
    if isinstance(expr, relax.Var):
        return values[expr]
    if isinstance(expr, relax.TupleGetItem):
        return values[expr.tuple_value][int(expr.index)]
    given = [
        values[arg] if isinstance(arg, relax.Var) else constant_array(arg)
        for arg in expr.args
        if not isinstance(arg, relax.ShapeExpr)
    ]
    if not isinstance(expr.op, GlobalVar):
        return given[0].reshape([int(d) for d in expr.ty.shape.values])
    function = mod[expr.op]
    if function.attrs[TARGET] != ARRAY:
        unit = function.without_attr("motet.op").with_attr("global_symbol", "main")
        (made,) = run(tvm.IRModule({"main": unit}), given)
        return made
    return region_values(function, next(waiting), given)


def region_values(function: relax.Function, binding: RegionBinding, given: list[Any]) -> Any:
    made = evaluate(binding.workload, [given[index] for index in binding.params])
    types = function.ret_ty.fields if isinstance(function.ret_ty, relax.TupleType) else None
    types = types or [function.ret_ty]
    results: list[Any] = [None] * len(made)
    for index, value in zip(binding.results, made, strict=True):
        shape = [int(d) for d in types[index].shape.values]
        results[index] = value.reshape(shape).astype("float32")
    return results if len(results) > 1 else results[0]
