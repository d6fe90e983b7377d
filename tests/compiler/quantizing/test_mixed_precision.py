"""Sensitivity of products, and mixes of settings chosen by it."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from motet.compiler.quantizing.mixing import Mixer, stored_bytes
from motet.compiler.quantizing.quantizer import Quantizer
from motet.compiler.quantizing.sensitivity import Sensitivities, sensitivities
from motet.targets.quantized.notation import setting

RUNGS = [setting("4/4"), setting("4/8"), setting("8/8"), setting("4/8/4/8", 4), None]


@pytest.fixture(scope="module")
def quantizer(tmp_path_factory: pytest.TempPathFactory) -> Quantizer:
    """A convolution with a bias, a depthwise one, one weight read twice, two computed values."""
    rng = np.random.default_rng(0)
    shapes = {"w1": (8, 3, 3, 3), "b1": (8,), "w2": (8, 1, 3, 3), "w3": (8, 8), "w4": (8, 4)}
    weights = [
        numpy_helper.from_array(rng.standard_normal(shape).astype(np.float32), name)
        for name, shape in shapes.items()
    ]
    nodes = [
        helper.make_node("Conv", ["x", "w1", "b1"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="each", group=8),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("MatMul", ["e", "w3"], ["f"], name="once"),
        helper.make_node("MatMul", ["f", "w3"], ["g"], name="twice"),
        helper.make_node("Transpose", ["g"], ["h"], name="turn", perm=[1, 0]),
        helper.make_node("MatMul", ["g", "h"], ["i"], name="computed"),
        helper.make_node("MatMul", ["i", "g"], ["j"], name="mixed"),
        helper.make_node("Gemm", ["j", "w4"], ["y"], name="head", alpha=0.5),
    ]
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3, 8, 8])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 4])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    path: Path = tmp_path_factory.mktemp("mix") / "net.onnx"
    onnx.save(model, path)
    data = [{"x": x} for x in rng.standard_normal((3, 6, 3, 8, 8)).astype(np.float32)]
    return Quantizer(path, data)


@pytest.fixture(scope="module")
def found(quantizer: Quantizer) -> Sensitivities:
    return sensitivities(quantizer, RUNGS)


def test_noise_is_that_of_the_model_with_one_product_quantised(
    quantizer: Quantizer, found: Sensitivities
) -> None:
    """Trials by added errors are as good as compiling each."""
    assert found.samples == 18
    for name, rung in [("first", 0), ("each", 3), ("computed", 2), ("head", 1)]:
        row = next(row for row in found.rows if row.product.name == name)
        choice = row.choices[rung]
        assert choice is not None
        alone = quantizer.outputs_of(quantizer.quantized([choice]))
        measured = quantizer.output_sqnr_db(alone)
        estimated = 10 * np.log10(found.signal / row.noises[rung])
        assert estimated == pytest.approx(measured, abs=0.2)
    assert all(row.noises[-1] == 0 for row in found.rows)


def test_multiplications_are_counted(found: Sensitivities) -> None:
    macs = {row.product.name: row.macs for row in found.rows}
    assert macs["first"] == 6 * 8 * 64 * 27
    assert macs["each"] == 6 * 8 * 36 * 9
    assert macs["computed"] == 6 * 6 * 8
    assert macs["head"] == 6 * 4 * 8


def test_bytes_of_weights(quantizer: Quantizer, found: Sensitivities) -> None:
    """What a file grows by from a few weights to many more is what is counted of them."""
    row = next(row for row in found.rows if row.product.name == "first")
    sizes = [stored_bytes(row.product, choice) for choice in row.choices]
    # 216 weights and 8 zero points, 8 scales of float32; vectors of 3: 72 scales of 4 bits.
    assert sizes == [112 + 32, 112 + 32, 224 + 32, 108 + 36 + 32, 864]
    made = [quantizer.quantized([c] if c else []) for c in row.choices]
    stored = [
        sum(len(t.raw_data) for t in model.graph.initializer if t.name.startswith("w1"))
        for model in made
    ]
    assert stored == sizes


def test_mixes_are_the_best_of_all(found: Sensitivities) -> None:
    """Against every mix there is, of products that share weights together."""
    mixer = Mixer(found, RUNGS)
    names = [row.product.name for row in found.rows]
    shared = {names.index("once"), names.index("twice")}
    computed = [row.product.weights.values is None for row in found.rows]
    least, most = mixer.sizes
    totals = []
    for rungs in itertools.product(range(len(RUNGS)), repeat=len(names)):
        if len({rungs[i] for i in shared}) > 1:
            continue
        if any(c and RUNGS[r] is None for c, r in zip(computed, rungs, strict=True)):
            continue
        size = sum(
            stored_bytes(row.product, row.choices[r])
            for i, (row, r) in enumerate(zip(found.rows, rungs, strict=True))
            if i != max(shared)
        )
        totals.append((size, sum(row.noises[r] for row, r in zip(found.rows, rungs, strict=True))))
    sizes, noises = np.array(totals).T
    for budget in np.linspace(least, most, 7).astype(int):
        mix = mixer.under_size(int(budget))
        assert mix is not None
        assert mix.size <= budget
        assert mix.noise == pytest.approx(noises[sizes <= budget].min())
        assert len({mix.rungs[i] for i in shared}) == 1
    for noise in np.quantile(noises, [0.01, 0.2, 0.7]):
        mix = mixer.under_noise(float(noise))
        assert mix is not None
        assert mix.noise <= noise * (1 + 1e-6)
        assert mix.size == sizes[noises <= noise].min()
    assert mixer.under_size(least - 1) is None
    assert mixer.under_noise(noises.min() * 0.99) is None


def test_computed_values_take_integers(found: Sensitivities) -> None:
    """float32 costs them no bytes: it is not theirs to take."""
    mixer = Mixer(found, RUNGS)
    mix = mixer.under_size(mixer.sizes[1])
    assert mix is not None
    settings = mixer.settings(mix)
    assert settings["first"] is None
    assert settings["computed"] is not None
    assert settings["mixed"] is not None
