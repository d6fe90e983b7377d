"""``motet.merge``: depth merging of one ONNX model, on its own, without a bundle.

1. Candidates: blocks of convolutions that merge once the activations between them are gone,
   each priced on the target (``compiler.depth_merging``).
2. With calibration data, what taking out each costs the output (``calibration.importance``).
3. Which go: those that were named; at most K, of least importance; or as little importance as
   a latency allows, by the dynamic programme of two levels (``passes.best_spans``).
4. Their places are taken by the best affine maps, and the merged kernels are fitted to what the
   network computed (``compiler.recovery``).
5. With a metric and a largest drop: the most that keep to it, of least importance first.
6. The decisions are made in the ONNX file itself (``compiler.decided_onnx``).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet import api
from motet.evaluation import Metric
from motet.merge_flow import MergeFlow, MergeRequest, Recover
from motet.merge_result import Merged
from motet.runtime.errors import SpecError
from motet.runtime.progress import Show, silent

if TYPE_CHECKING:
    from motet.compiler.spec import BundleSpec


def merge(
    model: api.PathLike,
    *,
    output: api.PathLike | None = None,
    target: api.PathLike | None = None,
    shapes: api.Shapes | None = None,
    settings: Sequence[str] = (),
    remove: Sequence[str] = (),
    remove_activations: int | None = None,
    latency_budget_ms: float | None = None,
    calibrate: Any = None,
    samples: int | None = None,
    recover: Recover = "auto",
    evaluate: str | os.PathLike[str] | Metric | None = None,
    max_drop: float | None = None,
    decisions: api.PathLike | None = None,
    threads: int | None = None,
    progress: Show = silent,
) -> Merged:
    """Merge convolutions of an ONNX model that follow each other.

    Parameters
    ----------
    model: path of an ``.onnx`` file.
    output: where to write the merged model; its decisions are written beside it, as ``.json``
        and ``.npz``. Nothing is written where None.
    target: as ``motet.compile``'s: what merges are priced on.
    shapes, settings: as ``motet.compile``'s; the keys of ``passes.merge_depth`` hold here too.
    remove: ONNX node names of activations to take out.
    remove_activations: how many to take out at most: with ``calibrate`` the blocks of least
        importance that get faster, else those that save the most estimated time.
    latency_budget_ms: take out as little importance as brings the estimated time to this.
    calibrate: samples of the inputs (``compiler.calibration.data`` says in which forms).
    samples: how many of them to use; all where None.
    recover: what stands in for activations that go, fitted on ``calibrate``: "none" nothing,
        "affine" the best scale and shift per channel, "bias" and the merged layer's bias
        corrected, "refit" and its kernel refitted; "auto": "refit" with ``calibrate``.
    evaluate: a metric (``motet.evaluation``): a Python file with ``metric(run)``, a function,
        or "accuracy" of the labels in ``calibrate``; larger is better.
    max_drop: how much the metric may fall; merges of most importance are left out until it
        holds, and, where nothing says which activations go, as many go as it allows.
    decisions: a file of decisions to apply as it is; a merge whose ``weight`` is "" is made anew.
    threads: of runs on calibration data and of the metric.

    Raises ``SpecError``, ``ModelError``, ``InputError``, and ``CompileError`` where nothing merges,
    with the reason of each candidate.
    """
    request = MergeRequest(
        tuple(remove), remove_activations, latency_budget_ms, recover, max_drop,
        None, samples, threads,
    )  # fmt: skip
    api.compiler()
    path = Path(model)
    _check(request, path, calibrate, evaluate, decisions)
    spec = _specification(path, target, shapes, settings)
    flow = MergeFlow(path, spec, request, calibrate, evaluate, progress)
    merged = flow.pinned(Path(decisions)) if decisions is not None else flow.run()
    if output is not None:
        merged.save(output)
    return merged


def _specification(
    path: Path, target: api.PathLike | None, shapes: api.Shapes | None, settings: Sequence[str]
) -> BundleSpec:
    """Of the one model; the pass must be on."""
    spec = api.specification([path], target, shapes or {}, settings)
    if not spec.passes.merge_depth.enabled:
        raise SpecError(
            "merge: passes.merge_depth.enabled is false, and merging is that pass: leave it out"
        )
    return spec


def _check(
    request: MergeRequest, path: Path, calibrate: Any, evaluate: Any, decisions: Any
) -> None:
    """Refuse what contradicts itself before anything takes time."""
    if path.suffix != ".onnx":
        raise SpecError(f"{path}: give an .onnx model")
    if request.remove_activations is not None and request.latency_budget_ms is not None:
        raise SpecError("merge: give a number of activations or a latency, not both")
    if request.recover not in ("auto", "none", "affine", "bias", "refit"):
        raise SpecError(f"merge: recover {request.recover!r}: auto, none, affine, bias or refit")
    if request.recover not in ("auto", "none") and calibrate is None:
        raise SpecError(f"merge: recovery by {request.recover!r} needs calibration data")
    if request.max_drop is not None and evaluate is None:
        raise SpecError("merge: a largest drop needs a metric (evaluate)")
    if decisions is not None and (request.asks_removal or request.max_drop is not None):
        raise SpecError("merge: decisions are applied as they are: they say what is removed")
