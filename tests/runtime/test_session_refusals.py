"""What a session refuses at once: wrong inputs of rounds and timetables, wrong settings."""

from __future__ import annotations

import logging
import threading
from collections.abc import Generator
from concurrent.futures import Future
from typing import Any

import numpy as np
import pytest
from vm_programs import affine_program, batch_program, bundle_of

from motet.runtime.boundaries import Boundary
from motet.runtime.dispatcher import Dispatcher
from motet.runtime.errors import InputError
from motet.runtime.manifest import ModelEntry, Source
from motet.runtime.queueing import Queueing
from motet.runtime.session import Session

BIAS = np.arange(8, dtype=np.float32)
PROGRAMS = {"affine": affine_program(), "batch": batch_program()}
X = np.ones((2, 4), np.float32)
WRONG: list[tuple[Any, str]] = [
    (5, "inputs is a int: give model -> input -> array"),
    ({"gone": {}}, "the bundle has no model 'gone'; its models are affine, batch"),
    ({"affine": 5}, "model 'affine': its inputs are a int: give input -> array"),
    ({"affine": {"x": X, "y": X}, "batch": {}}, "model 'affine': no input 'y'"),
    ({"affine": {"x": X}, "batch": {"x": X}}, "input 'x' is wired to 'affine.y': leave it out"),
    ({}, "model 'affine': input 'x' missing"),
]


@pytest.fixture
def session(kernel_library: bytes) -> Session:
    source = Source("", "")
    output = PROGRAMS["affine"].outputs[0].name
    entries = (
        ModelEntry("affine", source), ModelEntry("batch", source, wires={"x": f"affine.{output}"})
    )  # fmt: skip
    programs = {entry.name: PROGRAMS[entry.name] for entry in entries}
    return Session(bundle_of(programs, kernel_library, [BIAS], models=entries))


@pytest.mark.parametrize("method", ["play", "run_all"])
@pytest.mark.parametrize(("inputs", "message"), WRONG)
def test_wrong_inputs_of_all_models(
    session: Session, method: str, inputs: Any, message: str
) -> None:
    with pytest.raises(InputError) as caught:
        getattr(session, method)(inputs)
    assert message in str(caught.value)


@pytest.mark.parametrize("value", ["yes", 1, None])
def test_drop_late_is_true_or_false(session: Session, value: Any) -> None:
    with pytest.raises(InputError, match=r"drop_late is .*: it is True or False"):
        session.configure(drop_late=value)


def test_a_callback_that_raises_is_logged_without_the_result(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """In the worker's thread, as the run ends after the callback was added."""
    gate = threading.Event()

    def steps(_boundary: Boundary) -> Generator[int, None, Any]:
        yield 0
        assert gate.wait(30)
        yield 1
        return {"y": "the whole tensor"}

    def raises(_future: Future[Any]) -> None:
        raise ZeroDivisionError("mine")

    with caplog.at_level(logging.ERROR):
        dispatcher = Dispatcher("a", Queueing(), 1)
        future = dispatcher.submit("a", steps)
        future.add_done_callback(raises)
        gate.set()
        assert future.result(30) == {"y": "the whole tensor"}
        dispatcher.close()
    assert "ZeroDivisionError: mine" in caplog.text
    assert "StopIteration" not in caplog.text
    assert "the whole tensor" not in caplog.text
