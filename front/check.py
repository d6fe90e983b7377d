"""Compares a bundle with onnxruntime on the ONNX files it was compiled from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from motet import wide_boundary
from motet.runtime.device import Array
from motet.runtime.element_types import numpy_dtype
from motet.runtime.errors import EnvironmentLackError, InputError, ModelError
from motet.runtime.session import ModelSession
from motet.runtime.shapes import render_shape


@dataclass(frozen=True)
class Tolerance:
    """An element may differ by ``atol + rtol * |reference| + of_largest * max |reference|``."""

    atol: float = 0.0
    rtol: float = 0.0
    of_largest: float = 0.0


EXACT = Tolerance()
DEFAULT_TOLERANCES = {
    "float64": Tolerance(1e-4, 1e-3),
    "float32": Tolerance(1e-4, 1e-3),
    # Where terms of a sum cancel, a half's error is relative to the terms, not to the sum.
    "float16": Tolerance(1e-4, 0.0, 1e-2),
    "bfloat16": Tolerance(1e-4, 0.0, 4e-2),
    # A value next to a boundary may be rounded to either side: one step.
    "float8_e4m3fn": Tolerance(0.0, 1 / 8),
    "float8_e4m3fnuz": Tolerance(0.0, 1 / 8),
    "float8_e5m2": Tolerance(0.0, 1 / 4),
    "float8_e5m2fnuz": Tolerance(0.0, 1 / 4),
    "float4_e2m1fn": Tolerance(0.5, 1 / 2),
}
"""By the output's dtype; integers and booleans must be equal."""

TOLERANCE_EXCEEDS = "tolerance exceeds the output"
"""Note of an output whose every element is below ``atol``: all zeros would pass too."""

ONE_STEP = (
    "one step of 8 bits: a sum of integers and the same sum in float are rounded to either side"
)
"""Note of integers that are nowhere further apart: quantised networks differ so between
engines, and between levels of optimisation of one."""


def tolerance_for(dtype: str, atol: float | None = None, rtol: float | None = None) -> Tolerance:
    """The dtype's default, or just ``atol`` and ``rtol`` where one is given (booleans: equal)."""
    if dtype == "bool":
        return EXACT
    if atol is None and rtol is None:
        return DEFAULT_TOLERANCES.get(dtype, EXACT)
    return Tolerance(atol or 0.0, rtol or 0.0)


@dataclass(frozen=True)
class Difference:
    """One output against the reference.

    absolute: largest |value - reference|; relative: that over the reference's largest
    magnitude; worst: largest |value - reference| over what the tolerance allows there,
    at most 1 where the output is within tolerance; note: what else is to be said.
    """

    model: str
    output: str
    dtype: str
    absolute: float
    relative: float
    worst: float
    note: str = ""

    @property
    def passed(self) -> bool:
        """Whether every element is within tolerance."""
        return self.worst <= 1.0


def compare(
    model: str, output: str, value: Array, reference: Array, tolerance: Tolerance
) -> Difference:
    """``value`` against ``reference``; equal infinities and NaN in both are no difference."""
    dtype = reference.dtype.name
    if value.shape != reference.shape or value.dtype != reference.dtype:
        note = (
            f"{value.dtype} {render_shape(value.shape)}, "
            f"the reference has {dtype} {render_shape(reference.shape)}"
        )
        return Difference(model, output, dtype, np.inf, np.inf, np.inf, note)
    if value.size == 0:
        return Difference(model, output, dtype, 0.0, 0.0, 0.0)
    error, scale = _error_and_scale(value, reference)
    largest = float(scale.max())
    absolute = float(error.max())
    allowed = tolerance.atol + tolerance.rtol * scale + tolerance.of_largest * largest
    worst = np.divide(error, allowed, out=np.where(error > 0, np.inf, 0.0), where=allowed > 0)
    relative = absolute / largest if largest else absolute
    note = TOLERANCE_EXCEEDS if 0 < largest < tolerance.atol else ""
    if dtype in ("int8", "uint8") and absolute == 1:
        note = ONE_STEP
    return Difference(model, output, dtype, absolute, relative, float(worst.max()), note)


def _error_and_scale(value: Array, reference: Array) -> tuple[Array, Array]:
    """Per element |value - reference| and |reference| as float64, infinite ones counting 0."""
    same = value == reference
    have, want = value.astype(np.float64), reference.astype(np.float64)
    same |= np.isnan(have) & np.isnan(want)
    with np.errstate(invalid="ignore"):
        error = np.abs(have - want)
    # Large 64-bit integers may differ and still be the same float64.
    error = np.where(same, 0.0, np.maximum(error, np.finfo(np.float64).tiny))
    error = np.where(np.isfinite(error), error, np.inf)
    return error, np.where(np.isfinite(want), np.abs(want), 0.0)


def source_bytes(path: Path, digest: str, model: str) -> bytes:
    """The ONNX file's content; checks that it is the file compiled."""
    if not path.is_file():
        raise ModelError(
            f"model {model!r}: there is no file {path.resolve()} (a bundle names its models' files "
            f"relative to the bundle's folder); say where it is with --onnx {model}=PATH"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise ModelError(f"model {model!r}: cannot read {path}: {error.strerror}") from error
    if sha256(content).hexdigest() != digest:
        raise ModelError(
            f"model {model!r}: {path} is not the file that was compiled (its SHA-256 differs): "
            f"compile it again, or say where the right one is with --onnx {model}=PATH"
        )
    return content


def onnx_paths(texts: Sequence[str], models: Sequence[str]) -> dict[str, Path]:
    """Model -> path as ``--onnx`` says; ``InputError`` for a model that there is not."""
    paths = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator and len(models) == 1:
            name, path = models[0], text
        if name not in models:
            raise InputError(f"--onnx {text}: write MODEL=PATH with one of {', '.join(models)}")
        paths[name] = Path(path)
    return paths


def onnxruntime_session(source: str | bytes, model: str, optimised: bool = True) -> Any:
    """An onnxruntime session of a file's path, or of a model's bytes."""
    try:
        import onnxruntime
    except ImportError as error:
        raise EnvironmentLackError(
            "motet check compares with onnxruntime: pip install 'motet[check]'"
        ) from error
    try:
        widened = wide_boundary.widened(source)
        return _session(onnxruntime, widened, optimised, precise=True)
    except Exception:  # with the option, 1.31 makes int8 activations a pair it has no kernel for
        try:
            widened = wide_boundary.widened(source)
            # Its fused kernels would saturate: node by node it computes what the file says.
            return _session(onnxruntime, widened, optimised=False, precise=False)
        except Exception as error:
            inner = "the model with its inner values as outputs"
            what = source if isinstance(source, str) else inner
            raise ModelError(f"model {model!r}: onnxruntime cannot load {what}: {error}") from error


def _session(onnxruntime: Any, source: str | bytes, optimised: bool, precise: bool) -> Any:
    """``precise``: without it, CPUs that lack VNNI saturate pairs of uint8 * int8 products at
    16 bits.
    """
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3 if not precise else 4
    options.add_session_config_entry("session.x64quantprecision", str(int(precise)))
    if not optimised:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


def reference_session(path: Path, digest: str, model: str) -> Any:
    """An onnxruntime session of the ONNX file; checks that it is the file compiled."""
    source_bytes(path, digest, model)
    return onnxruntime_session(str(path), model)


def fixed_inputs(session: ModelSession) -> dict[str, Array]:
    """What the ONNX model takes beside the bundle's inputs: those that were fixed."""
    return {
        name: np.frombuffer(fixed.data, numpy_dtype(fixed.dtype)).reshape(fixed.shape)
        for name, fixed in session.entry.fixed.items()
    }


def reference_run(reference: Any, names: list[str], inputs: Mapping[str, Array], model: str) -> Any:
    """What onnxruntime computes for ``names``; raises ``InputError`` where it cannot."""
    try:
        return wide_boundary.run(reference, names, inputs)
    except Exception as error:  # onnxruntime's own kinds have no common base
        raise InputError(f"model {model!r}: onnxruntime cannot run it: {error}") from error


def differences(
    session: ModelSession,
    reference: Any,
    inputs: Mapping[str, Array],
    atol: float | None = None,
    rtol: float | None = None,
) -> list[Difference]:
    """Run both on ``inputs`` and compare every output; tolerances as in ``tolerance_for``.

    Raises ``InputError`` where the inputs do not fit, or onnxruntime cannot take them.
    """
    return [
        compare(session.name, name, value, want, tolerance_for(want.dtype.name, atol, rtol))
        for name, (value, want) in outputs_of(session, reference, inputs).items()
    ]


def outputs_of(
    session: ModelSession, reference: Any, inputs: Mapping[str, Array]
) -> dict[str, tuple[Array, Array]]:
    """Every output as both compute it: the session's, and the reference's.

    Raises ``InputError`` where the inputs do not fit, or onnxruntime cannot take them.
    """
    ours = session.outputs.tensors(session.run_named(inputs))
    names = session.outputs.names
    given = session.inputs.grouped(inputs)
    results = reference_run(reference, names, {**given, **fixed_inputs(session)}, session.name)
    theirs = session.outputs.tensors(dict(zip(names, results, strict=True)))
    wanted = map(np.asarray, theirs.values())
    return {name: (ours[name], want) for name, want in zip(ours, wanted, strict=True)}
