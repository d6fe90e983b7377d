"""Depthwise replacement: what the decisions say is what the module computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from hypothesis import given, settings
from hypothesis import strategies as st
from relax_modules import assert_equal, calls, named, names, run
from separable_networks import RNG, Network, Shape, random
from tvm import relax
from tvm.script import ir as I
from tvm.script import relax as R

from motet.passes.decisions import read_decisions, write_decisions
from motet.passes.options import ReplaceDepthwiseOptions
from motet.passes.replace_depthwise import Outcome, replace_depthwise
from motet.passes.separable.sites import sites_of
from motet.runtime.errors import SpecError


def apply(
    module: tvm.IRModule, variant: str = "half", **options: Any
) -> tuple[tvm.IRModule, Outcome]:
    outcome = Outcome()
    wanted = ReplaceDepthwiseOptions(enabled=True, variant=variant, **options)  # type: ignore[arg-type]
    after = replace_depthwise(wanted, None, outcome)(module)
    outcome.check()
    assert relax.analysis.check_well_formed(after)
    return after, outcome


def operators(module: tvm.IRModule) -> list[str]:
    return [call.op.name.removeprefix("relax.") for call in calls(module["main"])]


def assert_as_decided(net: Network, after: tvm.IRModule, outcome: Outcome) -> None:
    s = net.shape
    x = RNG.standard_normal((s.batch, s.inputs, *s.size)).astype(np.float32)
    (made,) = run(after, [x])
    wanted = net.expected(outcome.decided, x)
    np.testing.assert_allclose(made, wanted, atol=1e-4 * np.abs(wanted).max())


def test_half_before_and_expected() -> None:
    """Lines of the middle; the first channel a row, the second a column; the clip joins both."""
    weight = np.zeros((2, 1, 3, 3), np.float32)
    weight[0, 0, 1] = [1, 2, 3]
    weight[1, 0, :, 1] = [4, 5, 6]
    row, column = weight[:1, :, 1:2], weight[1:, :, :, 1:2]
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([1, 2, 5, 5], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = builder.emit(
                relax.op.nn.conv2d(x, relax.const(weight), padding=1, groups=2), "dw"
            )  # fmt: skip
            out = builder.emit_output(relax.op.clip(y, 0.0, 6.0))
        builder.emit_func_output(out)

    @I.ir_module
    class Expected:
        @R.function
        def main(x: R.Tensor((1, 2, 5, 5), "float32")) -> R.Tensor((1, 2, 5, 5), "float32"):
            with R.dataflow():
                a = R.strided_slice(x, [1], [0], [1])
                b = R.nn.conv2d(a, R.const(row), padding=[0, 1, 0, 1], groups=1)
                c = R.strided_slice(x, [1], [1], [2])
                d = R.nn.conv2d(c, R.const(column), padding=[1, 0, 1, 0], groups=1)
                e = R.clip(b, 0.0, 6.0)
                f = R.clip(d, 0.0, 6.0)
                lv = R.concat([e, f], axis=1)
                gv = lv
                R.output(gv)
            return gv

    after, outcome = apply(named(builder.finalize()))
    ops = operators(after)
    assert ops == [call.op.name.removeprefix("relax.") for call in calls(Expected["main"])]
    (decision,) = outcome.decided.decisions.replacements
    assert decision.error < 1e-3  # what is on the lines already stays
    np.testing.assert_allclose(outcome.weights[decision.row], row, atol=1e-4)
    np.testing.assert_allclose(outcome.weights[decision.column], column, atol=1e-4)
    image = random(1, 2, 5, 5)
    np.testing.assert_allclose(
        run(after, [image])[0], run(builder.finalize(), [image])[0], atol=1e-3
    )


@pytest.mark.parametrize("variant", ["half", "full"])
def test_names_survive_and_the_activation_is_done_to_parts(variant: str) -> None:
    net = Network(Shape())
    after, _ = apply(net.module, variant)
    ops = operators(after)
    assert ops.count("nn.conv2d") == 4
    concat = ops.index("concat")
    assert ops[concat - 2 : concat + 2] == ["clip", "clip", "concat", "nn.conv2d"]
    carried = {name for one in names(after["main"]) for name in one}
    assert carried >= {"expand", "dw", "dw_bias", "dw_act", "project"}
    assert_as_decided(net, *apply(net.module, variant))


SHAPES = st.builds(
    Shape,
    channels=st.integers(2, 7),
    kernel=st.sampled_from([(3, 3), (5, 5), (7, 7), (3, 5)]),
    stride=st.sampled_from([(1, 1), (2, 2), (2, 1), (3, 3)]),
    padding=st.tuples(*[st.integers(0, 4)] * 4),
    size=st.tuples(st.integers(7, 10), st.integers(7, 10)),
    batch=st.integers(1, 2),
    activation=st.sampled_from(["clip", "silu", ""]),
    bias=st.booleans(),
    expands=st.booleans(),
)


@settings(max_examples=25, deadline=None)
@given(SHAPES, st.sampled_from(["half", "full"]))
def test_any_block_computes_what_was_decided(shape: Shape, variant: str) -> None:
    net = Network(shape)
    after, outcome = apply(net.module, variant)
    (decision,) = outcome.decided.decisions.replacements
    assert decision.rows == (net.width if variant == "full" else (net.width + 1) // 2)
    assert_as_decided(net, after, outcome)


def test_residual_around_the_block() -> None:
    net = Network(Shape(residual=True))
    for variant in ("half", "full"):
        assert_as_decided(net, *apply(net.module, variant))


def test_full_where_nothing_stands_between_is_the_best_cross() -> None:
    """What is on a cross already is computed as it was."""
    net = Network(Shape(activation=""))
    cross = net.depthwise.weight.copy()
    cross[:, :, ::2, ::2] = 0
    net.depthwise = net.depthwise.__class__(cross, net.depthwise.bias, *(
        (1, 1), (1, 1, 1, 1), (1, 1), 6
    ))  # fmt: skip
    before = named(net.build())
    after, outcome = apply(before, "full")
    assert outcome.decided.decisions.replacements[0].error < 1e-3
    x = random(2, 3, 9, 8)
    (was,), (now,) = run(before, [x]), run(after, [x])
    np.testing.assert_allclose(now, was, atol=2e-4 * np.abs(was).max())


def test_channels_are_reordered_only_where_nothing_tells_them_apart() -> None:
    net = Network(Shape())
    assert sites_of(net.module["main"])[0].producer is not None
    (decision,) = apply(net.module)[1].decided.decisions.replacements
    assert [new.nodes[0] for new in decision.layers] == ["expand", "project"]
    alone = Network(Shape(expands=False, inputs=6))
    (decision,) = apply(alone.module)[1].decided.decisions.replacements
    assert decision.layers == ()


def test_macs_by_hand() -> None:
    """72 positions, 6 channels: 9 taps become 3 (half), or 6 and a projection twice as wide."""
    net = Network(Shape(batch=1))
    for variant, after in (("half", 72 * 6 * (3 + 3)), ("full", 72 * 6 * (6 + 6))):
        (one,) = apply(net.module, variant)[1].decided.decisions.replacements
        assert (one.macs_before, one.macs_after) == (72 * 6 * (9 + 3), after)


def test_which_by_number_and_name_and_the_costlier_half() -> None:
    module = two_blocks()
    done = lambda **o: [d.index for d in apply(module, **o)[1].decided.decisions.replacements]  # noqa: E731
    assert done() == [0, 1]
    assert done(which=(1,)) == done(which=("dw1",)) == [1]
    assert done(variant="half50") == [0]
    kept = apply(module, "half50")[1].decided.decisions.not_replaced
    assert [(one.index, one.reason) for one in kept] == [(1, "not chosen")]
    with pytest.raises(SpecError, match=r"which: the models have no depthwise .* 'dw7'"):
        apply(module, which=("dw7",))


def two_blocks(first_kernel: int = 5) -> tvm.IRModule:
    """MobileNetV1's form: each pointwise layer reads one depthwise layer and feeds the next."""
    builder = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType([1, 4, 8, 8], "float32"))
    with builder.function("main", [x]):
        with builder.dataflow():
            y = x
            for index, size in enumerate((first_kernel, 3)):
                dw = relax.const(random(4, 1, size, size))
                y = builder.emit(
                    relax.op.nn.conv2d(y, dw, padding=size // 2, groups=4), f"dw{index}"
                )  # fmt: skip
                y = builder.emit(relax.op.nn.relu(y), f"act{index}")
                y = builder.emit(
                    relax.op.nn.conv2d(y, relax.const(random(4, 4, 1, 1))), f"p{index}"
                )
                y = builder.emit(relax.op.nn.relu(y), f"pact{index}")
            out = builder.emit_output(y)
        builder.emit_func_output(out)
    return named(builder.finalize())


@pytest.mark.parametrize("variant", ["half", "full"])
def test_a_layer_between_two_replaced_ones_gets_the_weights_of_both(variant: str) -> None:
    """One that is exact by itself after another: only the first one's error is left."""
    module = two_blocks()
    first, _ = apply(module, variant, which=(0,))
    both, outcome = apply(module, variant)
    last = outcome.decided.decisions.replacements[1]
    shared = [new for new in last.layers if new.nodes[0] == "p0"]
    shape = outcome.weights[shared[0].weight].shape if shared else None
    assert shape == ((4, 4, 1, 1) if variant == "half" else None)
    x = random(1, 4, 8, 8)
    assert run(both, [x])[0].shape == run(first, [x])[0].shape
    again = Outcome()
    options = ReplaceDepthwiseOptions(enabled=True)
    given_back = replace_depthwise(options, outcome.decided, again)(module)
    assert_equal(given_back, both)


def test_decisions_are_written_and_read_back(tmp_path: Path) -> None:
    net = Network(Shape())
    after, outcome = apply(net.module, "full")
    write_decisions(outcome.decided, tmp_path / "x.json")
    back = read_decisions(tmp_path / "x.json")
    assert back.decisions == outcome.decided.decisions
    again = replace_depthwise(ReplaceDepthwiseOptions(enabled=True), back)(net.module)
    assert_equal(again, after)


def test_decisions_of_another_model_are_refused() -> None:
    _, outcome = apply(Network(Shape()).module)
    options, told = ReplaceDepthwiseOptions(enabled=True), Outcome()
    replace_depthwise(options, outcome.decided, told)(two_blocks())
    with pytest.raises(SpecError, match="'dw' is no depthwise convolution of this model"):
        told.check()


def test_an_array_that_is_missing_is_named(tmp_path: Path) -> None:
    _, outcome = apply(Network(Shape()).module)
    outcome.weights.pop("main/dw/row")
    write_decisions(outcome.decided, tmp_path / "x.json")
    with pytest.raises(SpecError, match=r"x\.npz has no array 'main/dw/row'"):
        read_decisions(tmp_path / "x.json")
