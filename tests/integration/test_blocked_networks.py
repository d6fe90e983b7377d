"""Random networks of convolutions: with and without blocked layouts, equal to onnxruntime."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from random_networks import RandomNetwork

import motet


def _check(network: RandomNetwork, folder: Path, settings: list[str], *batches: int) -> None:
    model = network.model(10)
    onnx.checker.check_model(model)
    path = folder / "net.onnx"
    onnx.save(model, path)
    options = onnxruntime.SessionOptions()
    # Its optimiser merges paddings into poolings that then refuse them.
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    reference = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    program = motet.load(motet.compile(path, settings=settings))
    for batch in batches or (None,):
        feeds = network.feeds(len(network.nodes), batch)
        expected = reference.run(None, feeds)
        for (name, value), want in zip(program.run("net", feeds).items(), expected, strict=True):
            np.testing.assert_allclose(
                value, want, rtol=1e-4, atol=2e-5 * max(1, np.abs(want).max()), err_msg=name
            )


@pytest.mark.parametrize("seed", range(8))
def test_a_random_network(seed: int, tmp_path: Path) -> None:
    _check(RandomNetwork(seed), tmp_path, [])


@pytest.mark.parametrize("seed", range(8, 12))
def test_without_blocked_layouts(seed: int, tmp_path: Path) -> None:
    _check(RandomNetwork(seed), tmp_path, ["passes.layout.enabled=false"])


@pytest.mark.parametrize("seed", range(12, 16))
def test_in_blocks_of_four(seed: int, tmp_path: Path) -> None:
    _check(RandomNetwork(seed), tmp_path, ["host.cpu=x86-64-v2"])


@pytest.mark.parametrize("seed", range(16, 20))
def test_any_batch(seed: int, tmp_path: Path) -> None:
    _check(RandomNetwork(seed, symbolic=True), tmp_path, [], 1, 3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20, 220))
def test_many_random_networks(seed: int, tmp_path: Path) -> None:
    settings = ["host.cpu=x86-64-v2"] if seed % 4 == 0 else []
    if seed % 4 == 1:
        _check(RandomNetwork(seed, symbolic=True), tmp_path, settings, 1, 3)
    else:
        _check(RandomNetwork(seed), tmp_path, settings)
