"""Refitted merges: never worse on the calibration data, exact ones untouched, order kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from msgspec.structs import replace
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.calibration.values import checked_model, observed_values
from motet.compiler.decided_onnx import apply_merges
from motet.compiler.recovery import recovered
from motet.passes.decisions import Decided, Decisions, Geometry, Kept, Merge, Removed
from motet.passes.merging.algebra import chain
from motet.passes.merging.convolution import Conv, conv

SIZES = (6, 5)
DATA = [
    {"x": np.random.default_rng(seed).standard_normal((2, 2, *SIZES), "float32")}
    for seed in range(12)
]


def _network(path: Path, sizes: tuple[int, int] = SIZES) -> tuple[Path, list[list[Conv]]]:
    """Two blocks of a pointwise convolution, ReLU and a 3x3 convolution, in a row."""
    random = np.random.default_rng(0)
    nodes, weights, blocks, source = [], {}, [], "x"
    for block in "ab":
        first = conv(random.standard_normal((4, 2, 1, 1)))
        second = conv(random.standard_normal((2, 4, 3, 3)) / 4, padding=(1, 1, 1, 1))
        blocks.append([first, second])
        nodes += [
            helper.make_node("Conv", [source, f"{block}1.w"], [f"{block}1.y"], f"{block}1"),
            helper.make_node("Relu", [f"{block}1.y"], [f"{block}r.y"], f"{block}r"),
            helper.make_node("Conv", [f"{block}r.y", f"{block}2.w"], [f"{block}2.y"], f"{block}2",
                             pads=[1, 1, 1, 1]),
        ]  # fmt: skip
        weights |= {f"{block}1.w": first.weight, f"{block}2.w": second.weight}
        source = f"{block}2.y"
    graph = helper.make_graph(
        nodes, "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2, *sizes])],
        [helper.make_tensor_value_info("b2.y", TensorProto.FLOAT, ["N", 2, *sizes])],
        [numpy_helper.from_array(w.astype("f4"), n) for n, w in weights.items()],
    )  # fmt: skip
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), path)
    return path, blocks


def _decided(blocks: list[list[Conv]], removed: bool = True) -> Decided:
    merges, weights = [], {}
    for name, source, block in (("a", "x", blocks[0]), ("b", "a2", blocks[1])):
        made = chain(block, SIZES)
        assert isinstance(made, Conv)
        shape = Geometry(in_channels=2, out_channels=2, kernel=made.kernel, stride=made.stride,
                         padding=made.padding, dilation=made.dilation)  # fmt: skip
        gone = (Removed(nodes=(f"{name}r",)),) if removed else ()
        merges.append(
            Merge(
                model="m", block=len(merges), nodes=(f"{name}1", f"{name}r", f"{name}2"),
                convolutions=(f"{name}1", f"{name}2"), removed=gone, input=source,
                output=f"{name}2", input_shape=("N", 2, *SIZES), output_shape=("N", 2, *SIZES),
                geometry=shape, weight=f"{name}.weight",
            )
        )  # fmt: skip
        weights[f"{name}.weight"] = made.weight.astype("f4")
    kept = Kept(model="m", block=2, nodes=("z",), reason="alone")
    return Decided(Decisions(decisions=(merges[0], kept, merges[1])), weights)


def _error(path: Path, decided: Decided, tensor: str) -> float:
    model = checked_model(path, {})
    want = list(observed_values(model, [tensor], DATA, threads=1))
    have = list(observed_values(apply_merges(model, decided, "m"), [tensor], DATA, threads=1))
    pairs = [(h[tensor], w[tensor]) for h, w in zip(have, want, strict=True)]
    square = sum(((h - w) ** 2).sum() for h, w in pairs)
    return float(np.sqrt(square / sum((w**2).sum() for _, w in pairs)))


@pytest.mark.parametrize("method", ["refit", "bias"])
def test_every_fit_lowers_the_error_and_says_what_it_is(tmp_path: Path, method: str) -> None:
    path, blocks = _network(tmp_path / "m.onnx")
    before = _decided(blocks)
    after, told = recovered(checked_model(path, {}), before, DATA, "m", method, threads=1)  # type: ignore[arg-type]
    assert [one.output for one in told] == ["a2", "b2"]
    assert all(one.after < one.before for one in told)
    assert told[0].before == pytest.approx(_error(path, before, "a2.y"), rel=1e-3)
    assert told[0].after == pytest.approx(_error(path, after, "a2.y"), rel=1e-3)
    # The second one's operand is that of the network with the first one fitted.
    assert told[1].after == pytest.approx(_error(path, after, "b2.y"), rel=1e-3)
    first, second = after.decisions.merges
    before_second = Decided(replace(after.decisions, decisions=(first, before.decisions.merges[1])),
                            {**after.weights, "b.weight": before.weights["b.weight"]})  # fmt: skip
    assert told[1].before == pytest.approx(_error(path, before_second, "b2.y"), rel=1e-3)
    assert _error(path, after, "b2.y") < _error(path, before, "b2.y")
    if method == "bias":
        assert np.array_equal(after.weights["a.weight"], before.weights["a.weight"])
    assert second.bias
    assert after.decisions.kept == before.decisions.kept


def test_too_few_samples_are_told(tmp_path: Path) -> None:
    path, blocks = _network(tmp_path / "m.onnx", (2, 2))
    small = [{"x": DATA[0]["x"][:1, :, :2, :2]}]
    _, told = recovered(checked_model(path, {}), _decided(blocks), small, "m", threads=1)
    assert told[0].note == "4 results for 19 unknowns: give more samples"
    many = [{"x": run["x"][:, :, :2, :2]} for run in DATA]
    _, told = recovered(checked_model(path, {}), _decided(blocks), many, "m", threads=1)
    assert not told[0].note


def test_exact_merges_and_those_for_fine_tuning_stay(tmp_path: Path) -> None:
    path, blocks = _network(tmp_path / "m.onnx")
    exact = _decided(blocks, removed=False)
    model = checked_model(path, {})
    after, told = recovered(model, exact, DATA, "m", threads=1)
    assert not told
    assert after is exact
    tuned = _decided(blocks)
    merges = [replace(merge, activation="relu6") for merge in tuned.decisions.merges]
    tuned = Decided(Decisions(decisions=tuple(merges)), tuned.weights)
    assert recovered(model, tuned, DATA, "m", threads=1) == (tuned, [])
