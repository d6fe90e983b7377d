"""One case in a worker: prepare, run, and compare as onnx's own runner does."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import onnx
from onnx.backend.test.runner import Runner

DataSet = tuple[list[Any], list[Any]]
Run = Callable[[list[Any]], Sequence[Any]]


@dataclass(frozen=True)
class Payload:
    """What a worker gets: a serialised model, data, and the case's tolerances."""

    engine: str
    model: bytes
    data_sets: list[DataSet]
    rtol: float
    atol: float


@dataclass(frozen=True)
class Outcome:
    """How a case ended.

    kind: "passed", "wrong" (another answer), "refused" (a ``motet.errors`` exception) or
        "internal" (any other exception). reason: one line. fixed: inputs that were
        specialised to their values; constant: whether no input was left for the run.
    """

    kind: str
    reason: str = ""
    seconds: float = 0.0
    fixed: tuple[str, ...] = ()
    constant: bool = False


def quiet() -> None:
    """Send what native code prints to nowhere: results travel another way."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def examine(payload: Payload) -> Outcome:
    """Run one case on the engine that ``payload`` names."""
    started = time.perf_counter()
    kind, reason, fixed, constant = _ended(payload)
    return Outcome(kind, reason, time.perf_counter() - started, fixed, constant)


def _ended(payload: Payload) -> tuple[str, str, tuple[str, ...], bool]:
    from motet.errors import MotetError

    fixed: tuple[str, ...] = ()
    constant = False
    try:
        model = onnx.load_model_from_string(payload.model)
        if payload.engine == "onnxruntime":
            _compare(payload, _onnxruntime(model))
        else:
            from motet.backend import prepare

            rep = prepare(model)

            def run(inputs: list[Any]) -> Sequence[Any]:
                nonlocal fixed, constant
                outputs = rep.run(inputs)
                fixed, constant = rep.fixed, bool(rep.inputs) and set(rep.inputs) == set(rep.fixed)
                return outputs

            _compare(payload, run)
    except AssertionError as error:
        return "wrong", _line(error), fixed, constant
    except MotetError as error:
        return "refused", f"{type(error).__name__}: {_line(error)}", fixed, constant
    except Exception as error:  # whatever a defect raises
        return "internal", f"{type(error).__name__}: {_line(error)}", fixed, constant
    return "passed", "", fixed, constant


def _compare(payload: Payload, run: Run) -> None:
    similar: Any = Runner.assert_similar_outputs  # its decorators hide its type
    for inputs, expected in payload.data_sets:
        outputs = list(run(inputs))
        if len(outputs) != len(expected):
            raise AssertionError(f"{len(outputs)} outputs, not {len(expected)}")
        for want, got in zip(expected, outputs, strict=True):
            # onnx's runner takes an item of a list for a list itself; a scalar is none.
            listed = isinstance(want, (list, tuple))
            pair = (want, got) if listed else ([want], [got])
            similar(*pair, payload.rtol, payload.atol)


def _line(error: BaseException) -> str:
    return " ".join(str(error).split())[:400]


def _onnxruntime(model: onnx.ModelProto) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    names = [info.name for info in session.get_inputs()]

    def run(inputs: list[Any]) -> Sequence[Any]:
        feeds = {name: x for name, x in zip(names, inputs, strict=False) if x is not None}
        outputs: Sequence[Any] = session.run(None, feeds)
        return outputs

    return run
