"""The main job on the example models: compile, run on host and array, compare.

Every figure is measured when the demo runs: accuracy on held-out images, agreement
with onnxruntime, latency on this CPU, cycles on the simulated array.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from motet import api
from motet.check import reference_session
from motet.runtime.device import Array
from motet.runtime.errors import SpecError
from motet.runtime.progress import Show
from motet.runtime.report import RunReport
from motet.runtime.session import ModelSession, Session

ARRAY = "gemmini-16x16"
TIMED_RUNS = 200


@dataclass(frozen=True)
class Images:
    """Held-out digits: float32 ``pixels`` [count, 1, 32, 32] in 0 to 1, ``labels`` [count]."""

    pixels: Array
    labels: Array


@dataclass(frozen=True)
class ModelResult:
    """One model in the demo. Accuracies are fractions; latencies are medians, in seconds."""

    model: str
    images: int
    accuracy_onnxruntime: float
    accuracy_host: float
    accuracy_array: float
    host_error: float
    array_error: float
    latency_host: float
    latency_onnxruntime: float
    report: RunReport


@dataclass(frozen=True)
class DemoResult:
    """Both bundles and what came out of them."""

    bundles: Mapping[str, Path]
    compile_seconds: Mapping[str, float]
    models: tuple[ModelResult, ...]


def load_images(examples: Path, count: int | None) -> Images:
    """The held-out images that ship with the examples; the first ``count`` of them."""
    path = examples / "data" / "digits_heldout.npz"
    if not path.is_file():
        raise SpecError(f"{path} is not there: run the demo in a clone, or say --examples FOLDER")
    with np.load(path) as archive:
        pixels = archive["images"][:count, None].astype(np.float32) / np.float32(255)
        return Images(pixels, archive["labels"][:count])


def run_demo(examples: Path, out: Path, count: int | None, show: Show) -> DemoResult:
    """Compile ``examples/digits.toml`` for the host and for the array, and try both."""
    images = load_images(examples, count)
    out.mkdir(parents=True, exist_ok=True)
    sessions: dict[str, Session] = {}
    paths: dict[str, Path] = {}
    times: dict[str, float] = {}
    for target in ("host", ARRAY):
        started = time.perf_counter()
        bundle = api.compile(
            examples / "digits.toml",
            target=target,
            settings=[] if target == "host" else _one_image(sessions["host"]),
            options=_options(show),
        )
        times[target] = time.perf_counter() - started
        paths[target] = bundle.save(out / f"digits-{target}.motet")
        sessions[target] = api.load(paths[target])
    results = []
    for name, host in sessions["host"].items():
        show(f"run {name}")
        source = sessions["host"].bundle.source_path(name)
        results.append(_try_model(host, sessions[ARRAY][name], images, source, show))
    return DemoResult(paths, times, tuple(results))


def _options(show: Show) -> Any:
    return api.compiler().CompileOptions(progress=show)


def _one_image(models: Iterable[str]) -> list[str]:
    """Array programs have static shapes: one image at a time."""
    return [f"models.{name}.shapes.image=[1, 1, 32, 32]" for name in models]


def _try_model(
    host: ModelSession, array: ModelSession, images: Images, source: Path, show: Show
) -> ModelResult:
    reference = reference_session(source, host.entry.source.sha256, host.name)
    expected = reference.run(None, {"image": images.pixels})[0]
    on_host = host.run(None, {"image": images.pixels})[0]
    on_array = np.empty_like(expected)
    for index in range(len(images.pixels)):
        show(f"{host.name} on the array: image {index + 1} of {len(images.pixels)}")
        on_array[index] = array.run(None, {"image": images.pixels[index : index + 1]})[0][0]
    one = {"image": images.pixels[:1]}
    ours, theirs = _latencies(lambda: host.run(None, one), lambda: reference.run(None, one))
    return ModelResult(
        model=host.name,
        images=len(images.pixels),
        accuracy_onnxruntime=_accuracy(expected, images.labels),
        accuracy_host=_accuracy(on_host, images.labels),
        accuracy_array=_accuracy(on_array, images.labels),
        host_error=float(np.abs(on_host - expected).max()),
        array_error=float(np.abs(on_array - expected).max()),
        latency_host=ours,
        latency_onnxruntime=theirs,
        report=array.simulate(one),
    )


def _accuracy(logits: Array, labels: Array) -> float:
    return float((logits.argmax(axis=1) == labels).mean())


def _latencies(first: Callable[[], Any], second: Callable[[], Any]) -> tuple[float, float]:
    """Medians of both, measured in blocks that take turns, so that drift hits both."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(4):
        for function, kept in zip((first, second), times, strict=True):
            time.sleep(0.02)
            for run in range(TIMED_RUNS // 4 + 5):
                started = time.perf_counter()
                function()
                if run >= 5:
                    kept.append(time.perf_counter() - started)
    return median(times[0]), median(times[1])
