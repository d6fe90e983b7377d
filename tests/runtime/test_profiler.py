"""Profiles of runs: which calls there are, what they move, and that times are theirs."""

from __future__ import annotations

import numpy as np
import pytest
from vm_programs import Draft, bundle_of, choice_program

from motet.runtime.errors import InputError
from motet.runtime.profiler import profile
from motet.runtime.program import Program
from motet.runtime.session import ModelSession, Session

BIAS = np.arange(8, dtype=np.float32)


def model_of(kernel_library: bytes, program: Program | None = None) -> ModelSession:
    draft = Draft()
    x = draft.input("x", ("N", 4))
    summed = draft.kernel("sum_rows", x, draft.stored((4,)), macs=1000)
    chain = program or draft.finish(y=summed)
    return Session(bundle_of({"m": chain}, kernel_library, [BIAS]))["m"]


def test_a_call_is_told_with_its_tensors(kernel_library: bytes) -> None:
    found = profile(model_of(kernel_library), {"x": np.ones((3, 4), np.float32)}, iterations=5)
    (call,) = found.calls
    assert (found.model, found.runs) == ("m", 5)
    assert (call.op, call.symbol, call.onnx_nodes) == ("m/0", "sum_rows", ("node0",))
    assert call.shapes == ((3, 4), (4,))
    assert (call.macs, call.bytes) == (1000, 4 * (12 + 4))
    assert call.share == 1
    assert 0 < call.minimum_seconds <= call.median_seconds
    assert call.gflops == pytest.approx(2e-6 / call.median_seconds)
    assert call.gigabytes_per_second == pytest.approx(64e-9 / call.median_seconds)
    assert found.calls_seconds == call.median_seconds


def test_only_calls_that_ran_are_told(kernel_library: bytes) -> None:
    model = model_of(kernel_library, choice_program())
    for value, expected in ((1, ["m/0", "m/1"]), (-1, ["m/0", "m/2", "m/3"])):
        found = profile(model, {"x": np.full(4, value, np.float32)}, iterations=2)
        assert [call.op for call in found.calls] == expected
        assert sum(call.share for call in found.calls) == pytest.approx(1)


def test_the_duration_ends_it_after_one_turn_at_least(kernel_library: bytes) -> None:
    assert profile(model_of(kernel_library), duration=1e-9).runs == 1


def test_wrong_inputs_are_told(kernel_library: bytes) -> None:
    with pytest.raises(InputError, match="no input 'z'"):
        profile(model_of(kernel_library), {"z": BIAS})
