"""Metrics: a file's function, or the accuracy on labels; every mistake is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet.compiler.calibration.data import calibration_data
from motet.evaluation import metric_of
from motet.runtime.errors import InputError
from motet.runtime.program import TensorInfo


def _run(inputs: Any) -> dict[str, Any]:
    return {"logits": np.eye(3, dtype="f4")[inputs["x"][:, 0].astype(int)]}


def _file(folder: Path, text: str) -> Path:
    path = folder / "metric.py"
    path.write_text(text)
    return path


def test_a_file_measures(tmp_path: Path) -> None:
    path = _file(tmp_path, "def metric(run):\n    return run({'x': X})['logits'].sum()\n"
                 "import numpy as np\nX = np.zeros((2, 1))\n")  # fmt: skip
    assert metric_of(path)(_run) == 2.0


def test_accuracy_counts_labels() -> None:
    samples = {"x": np.array([[0.0], [1.0], [2.0], [2.0]], "f4"), "labels": np.array([0, 1, 2, 0])}
    data = calibration_data(samples, (TensorInfo("x", "float32", ("N", 1)),), "m", batch=3)
    assert metric_of("accuracy", data)(_run) == 75.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = (", r"metric\.py: .*SyntaxError"),
        ("import nothing_of_this_name", r"line 1: ModuleNotFoundError"),
        ("metric = 3", "has no function metric"),
        ("def metric(run):\n    return run['x']", r"line 2: TypeError"),
        ("def metric(run):\n    return 'good'", "gave 'good', where a number"),
        ("def metric(run):\n    return float('nan')", "gave nan, where a finite number"),
        ("raise SystemExit(3)", "line 1: SystemExit: 3"),
    ],
)
def test_a_mistake_is_one_message(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        metric_of(_file(tmp_path, text))(_run)
    assert "\n" not in str(caught.value)


def test_what_is_no_file_is_told() -> None:
    with pytest.raises(InputError, match="give a Python file"):
        metric_of("absent.py")
    with pytest.raises(InputError, match="needs calibration data with an array 'labels'"):
        metric_of("accuracy")
