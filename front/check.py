"""Compares a bundle with onnxruntime on the ONNX files it was compiled from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from motet.runtime.device import Array
from motet.runtime.errors import EnvironmentLackError, ModelError
from motet.runtime.session import ModelSession

ATOL, RTOL = 1e-4, 1e-3
"""Default tolerances: an element may differ by ``atol + rtol * |reference|``."""


@dataclass(frozen=True)
class Difference:
    """One output against the reference.

    absolute: largest |value - reference|; relative: that over the reference's largest
    magnitude; worst: largest |value - reference| / (atol + rtol |reference|), at most
    1 where the output is within tolerance.
    """

    model: str
    output: str
    absolute: float
    relative: float
    worst: float

    @property
    def passed(self) -> bool:
        """Whether every element is within tolerance."""
        return self.worst <= 1.0


def compare(
    model: str, output: str, value: Array, reference: Array, atol: float, rtol: float
) -> Difference:
    """``value`` against ``reference``; equal infinities and NaN in both are no difference."""
    if value.shape != reference.shape or value.dtype != reference.dtype:
        raise ModelError(
            f"model {model!r}, output {output!r}: {value.dtype} {value.shape}, "
            f"the reference has {reference.dtype} {reference.shape}"
        )
    if value.size == 0:
        return Difference(model, output, 0.0, 0.0, 0.0)
    have, want = value.astype(np.float64), reference.astype(np.float64)
    same = (have == want) | (np.isnan(have) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(have - want))
        scale = np.where(np.isfinite(want), np.abs(want), 0.0)
    error = np.where(np.isfinite(error), error, np.inf)
    absolute, largest = float(error.max()), float(scale.max())
    worst = float((error / (atol + rtol * scale)).max()) if atol + rtol > 0 else np.inf
    return Difference(model, output, absolute, absolute / largest if largest else absolute, worst)


def reference_session(path: Path, digest: str, model: str) -> Any:
    """An onnxruntime session of the ONNX file; checks that it is the file compiled."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentLackError(
            "motet check compares with onnxruntime: pip install 'motet[check]'"
        ) from error
    if not path.is_file():
        raise ModelError(
            f"model {model!r}: {path} is gone; say where it is with --onnx {model}=PATH"
        )
    if sha256(path.read_bytes()).hexdigest() != digest:
        raise ModelError(
            f"model {model!r}: {path} is not the file that was compiled (SHA-256 differs)"
        )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelError(f"model {model!r}: onnxruntime cannot load {path}: {error}") from error


def differences(
    session: ModelSession,
    reference: Any,
    inputs: Mapping[str, Array],
    atol: float = ATOL,
    rtol: float = RTOL,
) -> list[Difference]:
    """Run both on ``inputs`` and compare every output."""
    ours = session.run_named(inputs)
    names = [info.name for info in session.program.outputs]
    theirs = reference.run(names, dict(inputs))
    return [
        compare(session.name, name, ours[name], np.asarray(want), atol, rtol)
        for name, want in zip(names, theirs, strict=True)
    ]
