"""Which activations of a whole model to give up, within a budget.

Every stretch of its chains has a front of choices (``best_spans.choices``): what it costs, and the
importance of the activations that it gives up. Fronts of several stretches join into one of their
sums. Of that one, with at most K activations removed the fastest is taken; within a latency the
one that gives up the least importance.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from motet.passes.best_spans import Choice, choices
from motet.passes.merging.pricing import Stretch, Table
from motet.passes.options import MergeDepthModel
from motet.runtime.errors import CompileError


@dataclass(frozen=True)
class _Joint:
    """A choice for each of several stretches."""

    latency: float
    lost: float
    picks: tuple[Choice, ...]


def best_within(
    priced: Sequence[tuple[Stretch, Table]],
    asked: MergeDepthModel,
    importance: Mapping[str, float],
    total: Callable[[], float],
) -> tuple[Choice, ...]:
    """A choice for each stretch.

    total: seconds of the model as it is. Raises ``CompileError`` where no choice reaches
    the latency asked for.
    """
    limit = asked.latency_budget_ms
    by_count = limit is None
    joint: tuple[_Joint, ...] = (_Joint(0.0, 0.0, ()),)
    for stretch, table in priced:
        weights = _importance(stretch, {} if by_count else importance)
        joint = _both(joint, choices(table.latency, weights))
    if limit is None:
        within = (one for one in joint if one.lost <= (asked.remove_activations or 0))
        return min(within, key=lambda one: (one.latency, one.lost)).picks
    return _fitting(joint, priced, limit / 1e3, asked.remove_activations, total()).picks


def _fitting(
    joint: Sequence[_Joint],
    priced: Sequence[tuple[Stretch, Table]],
    limit: float,
    most: int | None,
    total: float,
) -> _Joint:
    """The least importance lost whose model takes at most ``limit`` seconds."""
    now = sum(table.now for _, table in priced)
    allowed = [one for one in joint if most is None or len(removed(one, priced)) <= most]
    within = [one for one in allowed if total - now + one.latency <= limit]
    if not within:
        least = min((total - now + one.latency for one in allowed), default=inf)
        raise CompileError(
            f"passes.merge_depth.latency_budget_ms: no merges bring the estimated"
            f" {total * 1e3:.4g} ms to {limit * 1e3:.6g}; the least is {least * 1e3:.4g} ms"
        )
    return min(within, key=lambda one: (one.lost, one.latency))


def removed(joint: _Joint, priced: Sequence[tuple[Stretch, Table]]) -> list[int]:
    """The links that lose their activations."""
    return [
        link
        for pick, (stretch, _) in zip(joint.picks, priced, strict=True)
        for link in stretch.links
        if stretch.chain.links[link] and link + 1 not in pick.kept
    ]


def _importance(stretch: Stretch, given: Mapping[str, float]) -> dict[int, float]:
    """By the convolution behind: that of all activations in front of it; 1 for each link."""
    links = stretch.chain.links
    found: dict[int, float] = {}
    for link in stretch.links:
        if links[link]:
            known = [given[name] for step in links[link] for name in step.names if name in given]
            found[link + 1] = max(sum(known), 0.0) if known else 1.0
    return found


def _both(joint: Iterable[_Joint], front: Sequence[Choice]) -> tuple[_Joint, ...]:
    """The front of all sums."""
    found = [
        _Joint(one.latency + choice.latency, one.lost + choice.lost, (*one.picks, choice))
        for one in joint
        for choice in front
    ]
    least, kept = inf, list[_Joint]()
    for one in sorted(found, key=lambda one: (one.latency, one.lost)):
        if one.lost < least:
            least = one.lost
            kept.append(one)
    return tuple(kept)
