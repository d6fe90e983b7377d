"""What the tests of passes share: ONNX names on modules written in TVMScript, and runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from tvm import relax

from motet.passes.graph import bindings_of
from motet.passes.names import names_of, with_names
from motet.passes.rewrite import Rewriter, rewrite_functions


class _Namer(Rewriter):
    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        return with_names(value, [variable.name]) if isinstance(value, relax.Call) else value


def named(mod: tvm.IRModule) -> tvm.IRModule:
    """Every call with the name of its variable as its ONNX node name."""
    return rewrite_functions(mod, _Namer)


def calls(function: relax.Function) -> list[relax.Call]:
    return [b.value for b in bindings_of(function) if isinstance(b.value, relax.Call)]


def names(function: relax.Function) -> list[tuple[str, ...]]:
    """The ONNX names of every call, in order."""
    return [names_of(call) for call in calls(function)]


def units(mod: tvm.IRModule) -> list[relax.Function]:
    """Outlined functions in the order of their numbers; regions, which call them, left out."""
    marks = [(f, f.attrs or {}) for _, f in mod.functions_items()]
    found = [f for f, own in marks if "motet.op" in own and "motet.weights" not in own]
    return sorted(found, key=lambda f: int(str(f.attrs["motet.op"]).split("/")[1]))


def kinds(mod: tvm.IRModule) -> list[str]:
    return [str(unit.attrs["motet.kind"]) for unit in units(mod)]


def random_inputs(function: relax.Function, seed: int = 0, **symbols: int) -> list[Any]:
    rng = np.random.default_rng(seed)
    inputs = []
    for param in function.params:
        dims = [
            symbols[str(d.name)] if isinstance(d, tvm.tirx.Var) else int(d)
            for d in param.ty.shape.values
        ]
        values = rng.standard_normal(dims) if str(param.ty.dtype) != "bool" else rng.random(dims)
        is_bool = str(param.ty.dtype) == "bool"
        inputs.append(values > 0.5 if is_bool else values.astype(str(param.ty.dtype)))
    return inputs


def run(mod: tvm.IRModule, inputs: list[Any], entry: str = "main") -> list[Any]:
    """The outputs of a function as TVM's own pipeline and VM compute them."""
    executable = tvm.compile(mod, target=tvm.target.Target({"kind": "llvm"}))
    machine = relax.VirtualMachine(executable, tvm.cpu())
    result = machine[entry](*[tvm.runtime.tensor(value) for value in inputs])
    items = [result] if isinstance(result, tvm.runtime.Tensor) else list(result)
    return [item.numpy() for item in items]


def assert_same_values(
    before: tvm.IRModule, after: tvm.IRModule, tolerance: float = 1e-5, **symbols: int
) -> None:
    inputs = random_inputs(before["main"], **symbols)
    for old, new in zip(run(before, inputs), run(after, inputs), strict=True):
        assert old.dtype == new.dtype
        np.testing.assert_allclose(new, old, rtol=tolerance, atol=tolerance)


def assert_equal(after: tvm.IRModule, expected: tvm.IRModule) -> None:
    assert relax.analysis.check_well_formed(after)
    tvm.ir.assert_structural_equal(after, expected)
