"""How good a model is: a metric of the user's, or the accuracy on labelled samples.

A metric is a Python file with a function ``metric``; larger is better:

    import numpy as np

    data = np.load("digits.npz")

    def metric(run):
        logits = run({"image": data["image"]})["logits"]
        return 100 * (logits.argmax(1) == data["labels"]).mean()

``run`` takes inputs by name (or the array alone where there is one input) and gives outputs by
name. The file is run from its own folder's path: ``Path(__file__).parent`` finds what lies
beside it. ``accuracy`` stands for the percentage of labelled calibration samples (an array
``labels`` beside the inputs) whose first output is largest at the label.
"""

from __future__ import annotations

import math
import runpy
import traceback
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from motet.runtime.device import Array
from motet.runtime.errors import InputError, MotetError
from motet.runtime.model import ModelSession

if TYPE_CHECKING:
    from motet.compiler.calibration.data import CalibrationData

Run = Callable[[Any], dict[str, Any]]
Metric = Callable[[Run], float]
"""A number that says how good a model is; larger is better."""

ACCURACY = "accuracy"


def runner(model: ModelSession) -> Run:
    """What a metric is given: runs ``model``."""
    return runner_of([info.name for info in model.get_inputs()], model.run_named)


def runner_of(names: Sequence[str], run_named: Run) -> Run:
    """The same of anything with inputs ``names`` that runs a dict of them."""

    def run(inputs: Any) -> dict[str, Any]:
        if not isinstance(inputs, Mapping):
            if len(names) != 1:
                raise InputError(f"metric: give run() a dict of {', '.join(names)}")
            inputs = {names[0]: inputs}
        return run_named(inputs)

    return run


def metric_of(wanted: str | PathLike[str] | Metric, data: CalibrationData | None = None) -> Metric:
    """The metric that is asked for: a file, a function, or ``accuracy`` of labelled ``data``.

    Raises ``InputError`` where the file has no function ``metric`` or fails, where there are
    no labels; the metric itself raises ``InputError`` where it fails or gives no number.
    """
    if callable(wanted):
        return _checked(wanted, getattr(wanted, "__name__", "metric"))
    if str(wanted) == ACCURACY:
        return _checked(_accuracy(data), ACCURACY)
    return _checked(_from_file(Path(wanted)), str(wanted))


def _from_file(path: Path) -> Metric:
    if not path.is_file() or path.suffix != ".py":
        raise InputError(
            f"--evaluate {path}: give a Python file with a function metric(run), or {ACCURACY}"
        )
    try:
        found = runpy.run_path(str(path), run_name="metric").get("metric")
    except MotetError:
        raise
    except (Exception, SystemExit) as error:
        raise InputError(f"{path}: {_told(error, path)}") from error
    if not callable(found):
        raise InputError(f"{path}: it has no function metric(run)")
    checked: Metric = found
    return checked


def _checked(metric: Metric, name: str) -> Metric:
    def measure(run: Run) -> float:
        try:
            found = metric(run)
        except MotetError:
            raise
        except Exception as error:
            raise InputError(f"metric {name}: {_told(error, Path(name))}") from error
        try:
            value = float(found)
        except (TypeError, ValueError):
            raise InputError(f"metric {name} gave {found!r}, where a number is wanted") from None
        if not math.isfinite(value):
            raise InputError(f"metric {name} gave {value}, where a finite number is wanted")
        return value

    return measure


def _told(error: BaseException, path: Path) -> str:
    """What went wrong, with the line of the user's file that was last entered."""
    frames = traceback.extract_tb(error.__traceback__)
    lines = [frame.lineno for frame in frames if Path(frame.filename).name == path.name]
    where = f"line {lines[-1]}: " if lines else ""
    return f"{where}{type(error).__name__}: {error}".splitlines()[0]


def _accuracy(data: CalibrationData | None) -> Metric:
    if data is None or not data.has_labels:
        raise InputError(
            f"{ACCURACY} needs calibration data with an array 'labels' beside the inputs; or give "
            "a file with metric(run)"
        )

    def accuracy(run: Run) -> float:
        right = total = 0
        for inputs, labels in data.labelled():
            if labels is None:
                raise InputError(f"{ACCURACY}: the calibration data has no array 'labels'")
            first = next(iter(run(inputs).values()))
            found = largest(np.asarray(first), labels)
            right += int(found.sum())
            total += found.size
        return 100.0 * right / total

    return accuracy


def largest(outputs: Array, labels: Array) -> Array:
    """Whether each row of ``outputs`` [samples, classes] is largest at its label [samples]."""
    flat = outputs.reshape(-1, outputs.shape[-1]) if outputs.ndim > 1 else outputs[None]
    if labels.size != len(flat):
        raise InputError(
            f"{ACCURACY}: {labels.size} labels for outputs of shape {outputs.shape}; the classes "
            "are the last axis"
        )
    return np.asarray(flat.argmax(-1) == labels.reshape(-1))
