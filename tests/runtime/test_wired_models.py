from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from vm_programs import Draft, batch_program, bundle_of

from motet.runtime import wires
from motet.runtime.errors import InputError
from motet.runtime.model import ModelSession
from motet.runtime.program import Program
from motet.runtime.session import Session
from motet.runtime.wires import WiredModels


def sum_program() -> Program:
    """``y = left + right`` over [N]."""
    draft = Draft()
    left, right = draft.input("left", ("N",)), draft.input("right", ("N",))
    return draft.finish(y=draft.kernel("add", left, right, draft.stored(("N",))))


def double_program() -> Program:
    """``y = 2 * x`` over [N], and ``same``, which is x."""
    draft = Draft()
    x = draft.input("x", ("N",))
    return draft.finish(y=draft.kernel("double", x, draft.stored(("N",))), same=x)


@pytest.fixture(scope="module")
def session(kernel_library: bytes) -> Session:
    programs = {"eyes": double_program(), "mind": double_program(), "hands": sum_program(),
                "alone": batch_program()}  # fmt: skip
    lines = {"mind": {"x": "eyes.y"}, "hands": {"left": "mind.y", "right": "eyes.same"}}
    return Session(bundle_of(programs, kernel_library, wires=lines))


def inputs_of(x: Any) -> dict[str, dict[str, Any]]:
    return {"eyes": {"x": x}, "alone": {"x": np.ones((2, 4), np.float32)}}


def ramp(count: int, start: int = 1) -> np.ndarray[Any, Any]:
    return np.arange(start, start + count, dtype=np.float32)


@pytest.mark.parametrize("count", [1, 5, 0])
def test_a_round_runs_along_the_wires(session: Session, count: int) -> None:
    x = ramp(count)
    results = session.run_all(inputs_of(x))
    assert list(results) == ["eyes", "mind", "hands", "alone"]
    np.testing.assert_array_equal(results["eyes"]["y"], 2 * x)
    np.testing.assert_array_equal(results["mind"]["y"], 4 * x)
    np.testing.assert_array_equal(results["hands"]["y"], 5 * x)
    assert results["alone"]["size"].tolist() == [2, 4]


def test_wired_inputs_are_the_upstream_outputs_memory(session: Session) -> None:
    given = {"eyes": {0: ramp(6)}, "alone": {0: np.ones((2, 4), np.float32)}, "mind": {}}
    chain = WiredModels(session).bind(given | {"hands": {}})
    eyes, mind, hands = chain["eyes"], chain["mind"], chain["hands"]
    for upstream, downstream in (
        (eyes.outputs[0], mind.inputs[0]), (mind.outputs[0], hands.inputs[0]),
        (eyes.outputs[1], hands.inputs[1]),
    ):  # fmt: skip
        assert np.shares_memory(upstream, downstream)
        assert upstream.ctypes.data == downstream.ctypes.data


def test_results_are_the_callers_own(session: Session) -> None:
    first = session.run_all(inputs_of(ramp(3)))
    session.run_all(inputs_of(ramp(3, 50)))
    np.testing.assert_array_equal(first["hands"]["y"], 5 * ramp(3))


def test_chains_are_kept_per_shape_and_bounded(
    kernel_library: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = {"a": double_program(), "b": double_program()}
    session = Session(bundle_of(programs, kernel_library, wires={"b": {"x": "a.y"}}))
    bind, binds = ModelSession.bind, list[str]()

    def counted(model: ModelSession, *arguments: Any) -> Any:
        binds.append(model.name)
        return bind(model, *arguments)

    monkeypatch.setattr(ModelSession, "bind", counted)
    for count in (1, 2, 1, 2):
        session.run_all({"a": {"x": ramp(count)}})
    assert binds == ["a", "b", "a", "b"]
    for count in range(3, 4 + wires.MAX_IDLE_CHAINS):
        session.run_all({"a": {"x": ramp(count)}})
    binds.clear()
    session.run_all({"a": {"x": ramp(1)}})
    assert binds == ["a", "b"]


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"none": {}}, "no model 'none'"),
        ({}, "model 'eyes': input 'x' missing"),
        (inputs_of(np.zeros((2, 2), np.float32)), "model 'eyes': input 'x' has shape 2 x 2"),
        (inputs_of(np.zeros(2)), "model 'eyes': input 'x' has dtype float64"),
        (inputs_of(ramp(1)) | {"mind": {"x": ramp(1)}}, "'x' is wired to 'eyes.y': leave it out"),
        (inputs_of(ramp(1)) | {"mind": {"z": ramp(1)}}, "model 'mind': no input 'z'"),
    ],
)
def test_wrong_inputs_are_named(session: Session, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        session.run_all(inputs)


def test_a_wired_shape_that_does_not_fit(kernel_library: bytes) -> None:
    programs = {"a": double_program(), "b": batch_program()}
    session = Session(bundle_of(programs, kernel_library, wires={"b": {"x": "a.y"}}))
    with pytest.raises(InputError, match=r"model 'b': input 'x' has shape 8; .* N x 4"):
        session.run_all({"a": {"x": ramp(8)}})


def test_a_wired_model_runs_alone_too(session: Session) -> None:
    np.testing.assert_array_equal(session.run("mind", {"x": ramp(3)})["y"], 2 * ramp(3))


def test_rounds_in_eight_threads(session: Session) -> None:
    def call(number: int) -> bool:
        x = ramp(number % 3 + 1, number)
        return np.array_equal(session.run_all(inputs_of(x))["hands"]["y"], 5 * x)

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(400)))
