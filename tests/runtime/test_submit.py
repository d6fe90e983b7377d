"""``Session.submit`` on hand-written programs: values, defaults of the bundle, wrong use."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from vm_programs import (
    affine_program,
    batch_program,
    bundle_of,
    choice_program,
    positive_program,
)

from motet.runtime.errors import InputError, SpecError, SubmitError
from motet.runtime.manifest import ModelEntry, Source
from motet.runtime.queueing import Miss
from motet.runtime.session import Session

BIAS = np.arange(8, dtype=np.float32)
X = np.arange(8, dtype=np.float32).reshape(2, 4)
LONG = 30.0
PROGRAMS = {
    "affine": affine_program(),
    "batch": batch_program(),
    "choice": choice_program(),
    "positive": positive_program(),
}


def loaded(kernels: bytes, *names: str, policy: str = "priority", **keys: Any) -> Session:
    entries = tuple(ModelEntry(n, Source("", ""), **keys) for n in names or PROGRAMS)
    programs = {name: PROGRAMS[name] for name in names or PROGRAMS}
    return Session(bundle_of(programs, kernels, [BIAS], models=entries), policy=policy)


@pytest.mark.parametrize("policy", ["fcfs", "priority", "edf"])
def test_values_are_those_of_run(kernel_library: bytes, policy: str) -> None:
    """Straight lines, branches and shapes that data gives, many in flight and broken off."""
    random = np.random.default_rng(0)
    waiting: list[tuple[str, dict[str, Any], Future[Any]]] = []
    with loaded(kernel_library, policy=policy) as session:
        session.configure(workers=3)
        for number in range(200):
            name = list(PROGRAMS)[number % 4]
            rows = 1 + number % 3
            shape = {"affine": (2, 4), "batch": (rows, 4), "choice": (4,), "positive": (9,)}[name]
            inputs = {"x": random.standard_normal(shape).astype(np.float32)}
            future = session.submit(name, inputs, deadline=LONG - number, priority=number % 3)
            waiting.append((name, inputs, future))
        for name, inputs, future in waiting:
            expected = session.run(name, inputs)
            found = future.result(LONG)
            assert found.keys() == expected.keys()
            for key, array in expected.items():
                np.testing.assert_array_equal(found[key], array)
    assert [found.finished for found in session.statistics().values()] == [50] * 4


def test_inputs_may_be_used_again_at_once(kernel_library: bytes) -> None:
    x = np.ones((1, 4), np.float32)
    with loaded(kernel_library, "batch") as session:
        futures = []
        for number in range(50):
            x[:] = number
            futures.append(session.submit(None, {"x": x}))
        found = [future.result(LONG)["y"][0, 0] for future in futures]
    assert found == [4 * number for number in range(50)]


def test_wrong_inputs_are_refused_at_once(kernel_library: bytes) -> None:
    with loaded(kernel_library) as session:
        with pytest.raises(InputError, match="input 'x' missing"):
            session.submit("affine", {})
        with pytest.raises(InputError, match="the bundle has no model 'gone'"):
            session.submit("gone", {"x": X})
        with pytest.raises(InputError, match="name one of the bundle's models"):
            session.submit(None, {"x": X})
        with pytest.raises(InputError, match="deadline is nan: give seconds from now"):
            session.submit("affine", {"x": X}, deadline=float("nan"))
        with pytest.raises(InputError, match="timeout is 0: give seconds from now, above 0"):
            session.submit("affine", {"x": X}, timeout=0)
        for key, value in (("deadline", "a"), ("timeout", "a"), ("priority", "x")):
            with pytest.raises(InputError, match=f"{key} is '{value}': give "):
                session.submit("affine", {"x": X}, **{key: value})
        for priority in (1001, -1001, 0.5):
            with pytest.raises(InputError, match="give an integer from -1000 to 1000"):
                session.submit("affine", {"x": X}, priority=priority)
        assert session.statistics()["affine"].released == 0
        wrong = session.submit("affine", {"x": X[0]})
        with pytest.raises(InputError, match="model 'affine': "):
            wrong.result(LONG)
        assert session.statistics()["affine"].failed == 1
        np.testing.assert_array_equal(
            session.submit("affine", {"x": X}).result(LONG)["y"], 2 * (X + BIAS.reshape(2, 4))
        )


def test_the_bundle_gives_deadline_and_priority(kernel_library: bytes) -> None:
    told: list[Miss] = []
    done = threading.Event()

    def tell(miss: Miss) -> None:
        told.append(miss)
        done.set()

    tight = loaded(kernel_library, "batch", deadline_ms=1e-6, rate_hz=1.0)
    tight.configure(on_miss=tell)
    with tight:
        tight.submit(None, {"x": X}).result(LONG)
        assert done.wait(LONG)
        tight.submit(None, {"x": X}, deadline=LONG).result(LONG)
    assert tight.statistics()["batch"].missed == 1
    assert [miss.outcome for miss in told] == ["finished"]
    for keys, missed in (({"rate_hz": 1e9}, 1), ({"rate_hz": 0.01}, 0), ({}, 0)):
        with loaded(kernel_library, "batch", **keys) as session:
            session.submit(None, {"x": X}).result(LONG)
        assert session.statistics()["batch"].missed == missed


def test_settings(kernel_library: bytes) -> None:
    with pytest.raises(SpecError, match="no policy 'rr'"):
        loaded(kernel_library, policy="rr")
    session = loaded(kernel_library, "batch", policy="edf")
    assert session.queueing.policy == "edf"
    session.configure(queue_size=3, when_full="raise")
    assert (session.queueing.policy, session.queueing.queue_size) == ("edf", 3)
    for settings, message in (
        ({"size": 3}, "no setting 'size': they are policy, workers, queue_size"),
        ({"workers": 0}, "workers is 0: it is a whole number from 1 on"),
        ({"queue_size": 1.5}, "queue_size is 1.5"),
        ({"when_full": "drop"}, "when_full is 'drop': it is 'wait' or 'raise'"),
        ({"on_miss": 3}, "on_miss is 3: it is called with a Miss"),
    ):
        with pytest.raises(InputError, match=message):
            session.configure(**settings)
    with session:
        session.submit(None, {"x": X})
        with pytest.raises(InputError, match="runs were submitted already"):
            session.configure(policy="fcfs")


def test_a_closed_session_still_runs(kernel_library: bytes) -> None:
    session = loaded(kernel_library, "batch")
    session.close()
    with pytest.raises(SubmitError, match="the session is closed"):
        session.submit(None, {"x": X})
    np.testing.assert_array_equal(session.run(None, {"x": X})["y"], 4 * X)


def test_an_error_cancels_what_was_submitted(kernel_library: bytes) -> None:
    futures = []

    def leave_by_error() -> None:
        with loaded(kernel_library, "batch") as session:
            futures.extend(session.submit(None, {"x": X}) for _ in range(20))
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        leave_by_error()
    assert all(future.done() for future in futures)


def test_a_session_that_nobody_holds_does_its_work_and_goes(kernel_library: bytes) -> None:
    before = _threads()
    session = loaded(kernel_library, "batch")
    session.configure(workers=2)
    futures = [session.submit(None, {"x": X}, timeout=1000) for _ in range(20)]
    gone = weakref.ref(session)
    del session
    gc.collect()
    assert gone() is None
    for future in futures:
        np.testing.assert_array_equal(future.result(LONG)["y"], 4 * X)
    end = time.monotonic() + LONG
    while _threads() - before:
        assert time.monotonic() < end
        time.sleep(0.001)


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith("motet-")}


AT_EXIT = """
import sys
import numpy as np
from motet.runtime.bundle import open_bundle
from motet.runtime.session import Session

session = Session(open_bundle(sys.argv[1]))
future = session.submit(None, {"x": np.ones((1, 4), np.float32)})
future.add_done_callback(lambda f: print(f.result()["y"].tolist(), flush=True))
"""


def test_the_interpreter_ends_when_all_is_done(kernel_library: bytes, tmp_path: Path) -> None:
    path = bundle_of({"batch": PROGRAMS["batch"]}, kernel_library).save(tmp_path / "b.motet")
    done = subprocess.run(
        [sys.executable, "-c", AT_EXIT, str(path)],
        capture_output=True, text=True, timeout=2 * LONG, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout, done.stderr) == (0, "[[4.0, 4.0, 4.0, 4.0]]\n", "")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_submits_to_workers_of_its_own(kernel_library: bytes) -> None:
    with loaded(kernel_library, "batch") as session:
        session.submit(None, {"x": X}).result(LONG)
        child = os.fork()
        if child == 0:
            right = np.array_equal(session.submit(None, {"x": X}).result(LONG)["y"], 4 * X)
            os._exit(0 if right else 1)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0


def test_inputs_that_are_not_copied_are_read_when_the_run_begins(kernel_library: bytes) -> None:
    with loaded(kernel_library, "affine") as session:
        right = session.run(None, {"x": X})["y"]
        x = X.copy()
        np.testing.assert_array_equal(session.submit(None, {"x": x}).result(LONG)["y"], right)
        futures = [session.submit(None, {"x": x}, copy=False) for _ in range(20)]
        for future in futures:
            np.testing.assert_array_equal(future.result(LONG)["y"], right)
        np.testing.assert_array_equal(x, X)
