"""Which frames there are, when each is asked for, and which frames it waits for.

A frame of a model that follows others belongs to the newest frame that each of them has by
then: frame j at rate r follows frame floor(j R / r) of a model at rate R. It is asked for as
long after that one as their nominal times are apart, and is ready when that one has ended.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from motet.targets.sharing.arrivals import CHANCE, Arrivals, generator
from motet.targets.sharing.loads import Load


@dataclass(eq=False)
class Frame:
    """One run of one model; a ``policies.Job``. Moments are ticks.

    number: in the order of releases; index: of the model's frames. ready: when what it waits for
    had ended. others_before: what the array had served to other models when it began to wait.
    """

    model: str
    number: int
    index: int
    release: int
    deadline: int | None
    priority: int
    stage: int = 0
    begun: bool = False
    over: bool = False
    missing: int = 0
    ready: int = 0
    others_before: int = 0


@dataclass(frozen=True, eq=False)
class Plan:
    """The frames of one model.

    releases: int64 [frames], ticks; asked: bool [frames], whether the chance asks for it;
    sources: for each model in ``after``, int64 [frames]: the frame of it that goes before.
    """

    load: Load
    releases: NDArray[np.int64]
    asked: NDArray[np.bool_]
    sources: dict[str, NDArray[np.int64]]


def plans(
    loads: list[Load], arrivals: Arrivals, clock_hz: Fraction, end: int, seed: int
) -> dict[str, Plan]:
    """The plan of every model that has a rate or a trace; ``loads`` as ``ordered`` gives them."""
    found: dict[str, Plan] = {}
    for load in loads:
        if load.after and all(name in found for name in load.after):
            releases, sources = _following(load, found, clock_hz, end)
        elif not load.after and (load.rate_hz is not None or arrivals.kind == "trace"):
            releases, sources = arrivals.ticks(load, clock_hz, end, seed), {}
        else:
            continue
        chances = generator(seed, load.name, CHANCE).random(len(releases))
        found[load.name] = Plan(load, releases, chances < load.probability, sources)
    return found


def _following(
    load: Load, found: dict[str, Plan], clock_hz: Fraction, end: int
) -> tuple[NDArray[np.int64], dict[str, NDArray[np.int64]]]:
    """Releases of a model that follows others, and the frames that it follows."""
    before = {name: found[name] for name in load.after}
    ratios = {name: _ratio(load, plan.load) for name, plan in before.items()}
    frames = min(math.ceil(len(before[name].releases) / ratio) for name, ratio in ratios.items())
    numbers = np.arange(frames, dtype=object)
    releases = np.zeros(frames, np.int64)
    sources = {}
    for name, ratio in ratios.items():
        source = (numbers * ratio.numerator // ratio.denominator).astype(np.int64)
        later = _later(load, ratio, clock_hz, frames)
        releases = np.maximum(releases, before[name].releases[source] + later)
        sources[name] = source
    releases = np.maximum.accumulate(releases)  # jitter may bring later frames first
    kept = int(np.count_nonzero(releases < end))
    return releases[:kept], {name: source[:kept] for name, source in sources.items()}


def _ratio(load: Load, source: Load) -> Fraction:
    """Frames of ``source`` for each of ``load``; without rates (a trace) one."""
    if load.rate_hz is None or source.rate_hz is None:
        return Fraction(1)
    return source.rate_hz / load.rate_hz


def _later(load: Load, ratio: Fraction, clock_hz: Fraction, frames: int) -> NDArray[np.int64]:
    """Ticks from the source's nominal release to that of each frame, int64 [frames].

    They repeat after as many frames as the ratio's denominator.
    """
    if load.rate_hz is None:
        return np.zeros(frames, np.int64)
    period = clock_hz / load.rate_hz / ratio
    cycle = [math.ceil((n * ratio % 1) * period) for n in range(min(ratio.denominator, frames))]
    return np.resize(np.array(cycle, np.int64), frames) if frames else np.zeros(0, np.int64)
