"""Observed values are onnxruntime's, by tensor or node name, of any part of a graph."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from motet.compiler.calibration.values import ValueObserver, model_inputs, observed_values
from motet.compiler.onnx_files import read_whole, write_whole
from motet.runtime.errors import ModelError

MOBILE = Path(__file__).parents[3] / "examples" / "models" / "digits_mobile.onnx"
NAMES = ["block1/depthwise/norm", "block1/depthwise/relu6/output", "image"]


def _reference(names: list[str], image: np.ndarray) -> list[np.ndarray]:
    onnxruntime = pytest.importorskip("onnxruntime")
    model = onnx.load(MOBILE)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    return list(session.run(names, {"image": image}))


def test_values_are_those_of_onnxruntime() -> None:
    data = [
        {"image": np.random.default_rng(seed).random((2, 1, 32, 32), "float32")}
        for seed in range(2)
    ]
    found = list(observed_values(MOBILE, NAMES, data, threads=1))
    for run, values in zip(data, found, strict=True):
        tensors = ["block1/depthwise/norm/output", NAMES[1]]
        for name, want in zip(NAMES, _reference(tensors, run["image"]), strict=False):
            np.testing.assert_allclose(values[name], want, atol=1e-5)
        assert np.array_equal(values["image"], run["image"])


def test_a_model_in_memory_may_be_observed() -> None:
    proto, external = read_whole(MOBILE)
    assert not external
    observer = ValueObserver(proto, ["stem/conv"], {"image": (1, 1, 32, 32)}, threads=1)
    image = np.ones((1, 1, 32, 32), "float32")
    want = _reference(["stem/conv/output"], image)[0]
    np.testing.assert_allclose(observer.run({"image": image})["stem/conv"], want, atol=1e-5)


def test_an_unknown_name_is_refused_before_anything_is_compiled() -> None:
    with pytest.raises(ModelError, match="no node or computed value 'stem/convolution'"):
        ValueObserver(MOBILE, ["stem/convolution"])
    with pytest.raises(ModelError, match="weights are not computed"):
        ValueObserver(MOBILE, ["stem/conv/weight"])


def test_inputs_are_told_without_compiling() -> None:
    (info,) = model_inputs(MOBILE)
    assert (info.name, info.dtype, info.shape) == ("image", "float32", ("N", 1, 32, 32))
    (info,) = model_inputs(MOBILE, {"image": (4, 1, 32, 32)})
    assert info.shape == (4, 1, 32, 32)


def test_weights_beside_the_file_come_back(tmp_path: Path) -> None:
    model, _ = read_whole(MOBILE)
    before = model.SerializeToString()
    data = write_whole(model, tmp_path / "m.onnx", beside=True)
    assert data == tmp_path / "m.onnx.data"
    assert model.SerializeToString() == before
    again, external = read_whole(tmp_path / "m.onnx")
    assert external
    assert [t.name for t in again.graph.initializer] == [t.name for t in model.graph.initializer]
    for mine, theirs in zip(again.graph.initializer, model.graph.initializer, strict=True):
        assert np.array_equal(onnx.numpy_helper.to_array(mine), onnx.numpy_helper.to_array(theirs))
    onnx.checker.check_model(str(tmp_path / "m.onnx"))


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    model, _ = read_whole(MOBILE)
    with pytest.raises(ModelError, match="cannot write"):
        write_whole(model, tmp_path / "absent" / "m.onnx")
