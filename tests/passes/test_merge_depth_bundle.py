"""Merged convolutions through the whole compiler: strips and bias maps on both targets."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from merge_chains import Graph, by_onnxruntime, free_merging, input_for

import motet


@pytest.mark.parametrize(("target", "batch"), [("host", 1), ("host", "n"), ("tiny-4x4", 1)])
def test_a_strip_and_a_bias_map(
    target: str, batch: int | str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free_merging(monkeypatch)
    graph = Graph(8)
    y = graph.conv("x", 3, 4, (3, 3), pads=[1] * 4)
    y = graph.node("Relu", [graph.conv(y, 4, 4, (3, 3), pads=[1] * 4)])
    y = graph.conv(graph.conv(y, 4, 6), 6, 4, (3, 3), pads=[1] * 4, strides=[2, 2])
    model = graph.model([batch, 3, 8, 7], graph.node("Relu", [y]))
    path = tmp_path / "net.onnx"
    onnx.save(model, path)
    bundle = motet.compile(path, target=target)
    (told,) = (done.details for done in bundle.manifest.passes if done.name == "merge_depth")
    assert "-> 5x5 (strip)" in told[0]
    assert "-> 3x3 (bias_map)" in told[2]
    x = input_for(model, n=3)
    (want,) = by_onnxruntime(model, x)
    with motet.load(bundle) as session:
        (got,) = session.run("net", {"x": x}).values()
    np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * np.abs(want).max())
