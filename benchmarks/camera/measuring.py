"""The whole measurement: the best way of each engine, then the best ways against each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from motet.benchmarks.camera.contenders import GROUPS, MOTET, SERIAL
from motet.benchmarks.camera.models import Camera
from motet.benchmarks.camera.processes import Contender, ContenderError, Outcome, Served
from motet.benchmarks.camera.results import At, Finalist, Result, Variant
from motet.benchmarks.camera.search import Search, trial_of
from motet.runtime.progress import Show

CHOICE_SECONDS, CHOICE_TRIES, CHOICE_PRECISION = 1.0, 3, 1.15
BATCH_SECONDS = 0.4
"""A batch holds the frames of so long, at factor 1."""
BATCHES = 7


@dataclass(frozen=True)
class Plan:
    """How long and how finely is searched."""

    seconds: float
    tries: int
    precision: float


def measure(camera: Camera, contenders: Sequence[Contender], plan: Plan, show: Show) -> Result:
    """Every contender by itself for a while, then the best of each group in turns."""
    variants, chosen = list[Variant](), dict[str, tuple[Contender, float]]()
    for contender in contenders:
        show(f"{contender.group}: {contender.way}, {contender.threads} threads")
        variant = _tried(contender, camera)
        variants.append(variant)
        if variant.factor > chosen.get(contender.group, (contender, -1.0))[1]:
            chosen[contender.group] = contender, variant.factor
    with ExitStack() as stack:
        serving = {
            group: stack.enter_context(Served(chosen[group][0], camera))
            for group in GROUPS
            if group in chosen
        }
        starts = {group: chosen[group][1] for group in serving}
        finalists = _finals(serving, starts, camera, plan, show)
        serving[SERIAL.group] = stack.enter_context(Served(SERIAL, camera))
        show("batches")
        batches = _batches(serving, camera)
    return Result(dict(camera.source), dict(camera.rates_hz), plan.seconds, variants, finalists,
                  batches)  # fmt: skip


def _tried(contender: Contender, camera: Camera) -> Variant:
    """A short search."""
    search = Search(CHOICE_SECONDS, CHOICE_TRIES, CHOICE_PRECISION)
    try:
        with Served(contender, camera) as served:
            while search.factor is not None:
                search.step(served, camera.rates_hz)
            return Variant(contender.group, served.settings, search.carried)
    except ContenderError as error:
        return Variant(contender.group, str(error), -1.0)


def _finals(
    serving: Mapping[str, Served],
    starts: Mapping[str, float],
    camera: Camera,
    plan: Plan,
    show: Show,
) -> list[Finalist]:
    """Searches in turns, a trial each, then trials at factor 1 and at what each carries."""
    searches = {
        group: Search(plan.seconds, plan.tries, plan.precision, max(starts[group], 0.1))
        for group in serving
    }
    while any(search.factor is not None for search in searches.values()):
        for group, search in searches.items():
            if search.factor is not None:
                show(f"{group}: factor {search.factor:.2f}")
                search.step(serving[group], camera.rates_hz)
    at_one = {group: served.trial(1.0, plan.seconds, 10**9) for group, served in serving.items()}
    at_best = {
        group: serving[group].trial(max(search.carried, 0.1), plan.seconds, 10**9)
        for group, search in searches.items()
    }
    names = list(camera.rates_hz)
    return [
        Finalist(
            group, serving[group].settings, search.carried, search.trials,
            _at(1.0, at_one[group], names, plan.seconds),
            _at(search.carried, at_best[group], names, plan.seconds),
        )
        for group, search in searches.items()
    ]  # fmt: skip


def _at(factor: float, found: Outcome, names: Sequence[str], seconds: float) -> At:
    p99 = {
        name: float(np.quantile(model, 0.99)) if model else None
        for name, model in zip(names, found.latencies, strict=True)
    }
    return At(trial_of(factor, found), p99, found.cpu_seconds / seconds, found.resident_bytes)


def _batches(serving: Mapping[str, Served], camera: Camera) -> dict[str, float]:
    """Median seconds of a batch, in turns."""
    frames = [round(rate * BATCH_SECONDS) for rate in camera.rates_hz.values()]
    found: dict[str, list[float]] = {group: [] for group in serving}
    for _ in range(BATCHES):
        for group, served in serving.items():
            found[group].append(served.batch(frames))
    return {group: float(np.median(seconds)) for group, seconds in found.items()}


def ratio(result: Result) -> float | None:
    """Motet's factor over that of the best peer; None without either."""
    peers = [one.factor for one in result.finalists if one.group != MOTET]
    ours = [one.factor for one in result.finalists if one.group == MOTET]
    return ours[0] / max(peers) if ours and peers and max(peers) > 0 else None
