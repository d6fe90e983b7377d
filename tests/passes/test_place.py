from __future__ import annotations

import numpy as np
import tvm
from relax_modules import calls, named, names
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.names import target_of
from motet.passes.op_kinds import op_name
from motet.passes.place import Placement, place

WEIGHT = np.ones((4, 4), "float32")


@I.ir_module
class Model:
    @R.function
    def main(x: R.Tensor((1, 4, 4, 4), "float32"), cond: R.Tensor((), "bool")):
        conv = R.nn.conv2d(x, R.const(np.ones((4, 4, 1, 1), "float32")))
        relu = R.nn.relu(conv)
        if cond:  # noqa: SIM108
            product = R.matmul(relu, R.const(WEIGHT))
        else:
            product = R.nn.softmax(relu)
        return R.matmul(product, R.const(WEIGHT))


def no_convolution(call: relax.Call) -> str | None:
    return "it is a convolution" if "conv" in op_name(call) else None


def marks(mod: tvm.IRModule) -> dict[str, str]:
    return {op_name(c) + str(i): target_of(c) for i, c in enumerate(calls(mod["main"]))}


def test_products_are_marked_and_reasons_kept() -> None:
    placement = Placement()
    before = named(Model)
    after = place(no_convolution, (), placement)(before)
    assert sorted(marks(after).values()) == ["array", "array", "host", "host", "host"]
    placed = [call for call in calls(after["main"]) if target_of(call) == "array"]
    assert {op_name(call) for call in placed} == {"relax.matmul"}
    assert placement.refused == [(("conv",), "it is a convolution")]
    assert len(placement.on_array) == 2
    assert placement.summary == ("2 operators on the array, 1 refused (it is a convolution: conv)")
    assert names(after["main"]) == names(before["main"])
    tvm.ir.assert_structural_equal(after, before)


def test_pinned_nodes_stay_on_the_host() -> None:
    placement = Placement()
    after = place(lambda call: None, ("conv", "relu"), placement)(named(Model))
    assert marks(after)["relax.nn.conv2d0"] == "host"
    assert (("conv",), "pinned to the host") in placement.refused
    assert placement.unknown == []


def test_one_pinned_name_of_several_is_enough() -> None:
    from motet.passes.common_subexpressions import common_subexpressions

    @I.ir_module
    class Twice:
        @R.function
        def main(x: R.Tensor((4, 4), "float32")):
            with R.dataflow():
                a = R.matmul(x, R.const(WEIGHT))
                b = R.matmul(x, R.const(WEIGHT))
                y = R.add(a, b)
                R.output(y)
            return y

    after = place(lambda call: None, ("b",))(common_subexpressions(named(Twice)))
    assert names(after["main"])[0] == ("a", "b")
    assert target_of(calls(after["main"])[0]) == "host"


def test_unknown_pinned_names_are_told() -> None:
    placement = Placement()
    place(lambda call: None, ("conv", "nosuch"), placement)(named(Model))
    assert placement.unknown == ["nosuch"]


def test_summary_names_a_few_nodes_of_each_reason() -> None:
    refused = [((f"conv{number}",), "too small") for number in range(6)] + [(("gemm",), "odd")]
    assert Placement([], refused).summary == (
        "0 operators on the array, 7 refused "
        "(too small: conv0, conv1, conv2, conv3 and 2 more; odd: gemm)"
    )


def test_summary_without_refusals() -> None:
    assert Placement([("a",)]).summary == "1 operators on the array, 0 refused"
