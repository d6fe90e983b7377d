from __future__ import annotations

import numpy as np
import tvm
from relax_modules import calls, named, names
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.dead_code import dead_code
from motet.passes.op_kinds import op_name
from motet.passes.split_to_slices import split_to_slices


@I.ir_module
class Splits:
    @R.function
    def main(x: R.Tensor((2, 7, 3), "float32")):
        with R.dataflow():
            parts = R.split(x, [2, 5], axis=1)
            equal = R.split(x, 3, axis=2)
            y = (parts[0], parts[1], parts[2], equal[2])
            R.output(y)
        return y


@I.ir_module
class Open:
    @R.function
    def main(x: R.Tensor(("n", 6), "float32")):
        with R.dataflow():
            parts = R.split(x, 2, axis=1)
            y = (parts[0], parts[1])
            R.output(y)
        return y


def run(mod: tvm.IRModule, x: np.ndarray) -> list[np.ndarray]:
    built = tvm.compile(mod, target=tvm.target.Target({"kind": "llvm"}))
    made = tvm.relax.VirtualMachine(built, tvm.cpu())["main"](tvm.runtime.tensor(x))
    return [value.numpy() for value in made]


def test_parts_become_slices_of_the_same_values_and_names() -> None:
    before = named(Splits)
    after = dead_code(split_to_slices(before))
    assert {op_name(c) for c in calls(after["main"])} == {"relax.strided_slice"}
    assert set(names(after["main"])) <= set(names(before["main"]))
    x = np.arange(42, dtype=np.float32).reshape(2, 7, 3)
    for mine, truth in zip(run(after, x), [*np.split(x, [2, 5], 1), x[..., 2:]], strict=True):
        np.testing.assert_array_equal(mine, truth)


def test_open_sizes_stay() -> None:
    after = split_to_slices(named(Open))
    assert {op_name(c) for c in calls(after["main"])} == {"relax.split"}
