"""Trained networks: every merge that is exact, whatever it costs, changes no output.

The models lie in the folder that MOTET_MODELS names.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from merge_chains import free_merging, imported, merged

from motet.compiler.decided_onnx import apply_merges
from motet.passes.graph import bindings_of
from motet.passes.op_kinds import op_name

FOLDER = os.environ.get("MOTET_MODELS")

pytestmark = pytest.mark.skipif(
    not FOLDER, reason="MOTET_MODELS is unset: no folder with trained models to try"
)

LEAST = {"minifas": 0, "yolox_nano": 0, "ultraface_rfb320": 3, "yunet_n_320": 20}
"""Merges that each has to offer at least: chains of convolutions without an activation."""


def path_of(name: str) -> Path:
    path = Path(str(FOLDER), f"{name}.onnx")
    if not path.exists():
        pytest.skip(f"{path.name} is not in the folder that MOTET_MODELS names")
    return path


def outputs(model: onnx.ModelProto) -> list[Any]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    rng = np.random.default_rng(0)
    given = {
        port.name: rng.normal(size=[d if isinstance(d, int) else 1 for d in port.shape]).astype(
            np.float32
        )
        for port in session.get_inputs()
    }
    return list(session.run(None, given))


@pytest.mark.parametrize("name", sorted(LEAST))
def test_exact_merges_change_no_output(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    free_merging(monkeypatch)
    path = path_of(name)
    before = imported(path)
    after, record = merged(before)
    merges = record.decided.decisions.merges
    assert len(merges) >= LEAST[name]
    assert all(merge.is_exact for merge in merges)
    convolutions = [
        sum(op_name(b.value) == "relax.nn.conv2d" for b in bindings_of(mod["main"]))
        for mod in (before, after)
    ]
    lost = sum(len(m.convolutions) - 1 for m in merges if m.border != "strip")
    if all(merge.border != "strip" for merge in merges):
        assert convolutions[0] - convolutions[1] == lost
    model = onnx.load(path)
    written = apply_merges(model, record.decided, name)
    for got, want in zip(outputs(written), outputs(model), strict=True):
        # Scores are sigmoids of what may be far below zero: they count as the 1 that they reach.
        scale = max(float(np.abs(want).max(initial=0.0)), 1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-5 * scale)


@pytest.mark.parametrize("name", ["minifas", "yolox_nano", "yunet_n_320"])
def test_everything_that_stays_apart_has_a_reason(name: str) -> None:
    _, record = merged(imported(path_of(name)), None)
    decided = record.decided.decisions
    assert decided.kept
    assert all(kept.reason and kept.nodes for kept in decided.kept)
