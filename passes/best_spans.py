"""Which spans of layers to merge: the dynamic programme over a table of latencies.

A table gives the latency T(s, e) of layers s to e as one; a span that it lacks is infeasible.

    T_opt(s, e) = min(T(s, e), min over s < j < e of T_opt(s, j) + T(j, e))

``best_spans`` answers for all layers, ``all_spans`` for every span. With the activations between
layers in view there are two levels (Kim et al., ICML 2023, section 4): the layers between two kept
activations take T_opt, and which activations are kept is chosen so that their importance is as
large as it can be within a budget of latency (``best_activations``). ``choices`` has all that no
other beats in both: whoever bounds the importance instead takes the fastest that keeps to it.
Both are exact: of what leads to a layer only what is beaten is dropped, nothing is rounded.

Sums are made from left to right, as the recurrence writes them. Of equal latencies the span as
a whole wins, then the earliest last break.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf

from motet.runtime.errors import CompileError

Latency = Mapping[tuple[int, int], float]
"""(start, end), start < end, to the latency of the layers start to end as one."""
Breaks = tuple[int, ...]
"""Where spans begin, and the end of the last: (0, 1, 3) are the spans 0 to 1 and 1 to 3."""


@dataclass(frozen=True)
class Best:
    """The least latency of a span, and its breaks."""

    latency: float
    breaks: Breaks


def best_spans(latency: Latency) -> tuple[float, Breaks]:
    """The least latency of all layers, and the breaks that reach it.

    All layers are those from the smallest start to the largest end in the table. Raises
    ``CompileError`` where no feasible spans lead from one to the other, or the table is empty.
    """
    if not latency:
        raise CompileError("the table of latencies is empty; give it a span for each layer")
    start, end = min(s for s, _ in latency), max(e for _, e in latency)
    best = _from(start, _by_end(latency)).get(end)
    if best is None:
        raise CompileError(
            f"no spans of the table lead from {start} to {end}; give it a span for each layer"
        )
    return best.latency, best.breaks


def all_spans(latency: Latency) -> dict[tuple[int, int], Best]:
    """T_opt of every span that feasible spans lead through, by (start, end)."""
    ends = _by_end(latency)
    starts = sorted({start for start, _ in latency})
    return {(start, end): best for start in starts for end, best in _from(start, ends).items()}


def _by_end(latency: Latency) -> dict[int, list[tuple[int, float]]]:
    """For each end, in order, the starts of feasible spans and their latencies."""
    ends: dict[int, list[tuple[int, float]]] = {}
    for (start, end), cost in sorted(latency.items()):
        if start >= end:
            raise CompileError(f"the span ({start}, {end}) ends before it starts")
        if cost < inf:
            ends.setdefault(end, []).append((start, cost))
    return dict(sorted(ends.items()))


def _from(start: int, ends: Mapping[int, Sequence[tuple[int, float]]]) -> dict[int, Best]:
    """T_opt(start, e) for every e that can be reached."""
    best: dict[int, Best] = {}
    for end, spans in ends.items():
        for middle, cost in spans:
            found = _joined(start, middle, end, cost, best)
            if found is not None and (end not in best or found.latency < best[end].latency):
                best[end] = found
    return best


def _joined(
    start: int, middle: int, end: int, cost: float, best: Mapping[int, Best]
) -> Best | None:
    """The span from ``middle`` to ``end`` behind the best way to ``middle``."""
    if middle == start:
        return Best(cost, (start, end))
    before = best.get(middle)
    if before is None:
        return None
    return Best(before.latency + cost, (*before.breaks, end))


@dataclass(frozen=True)
class Choice:
    """A way through all layers: which activations are kept, and the spans that are merged.

    lost: importance of the activations removed. kept: layers in front of which an activation
    stays. breaks: of all spans.
    """

    latency: float
    lost: float
    kept: tuple[int, ...]
    breaks: Breaks


def choices(latency: Latency, importance: Mapping[int, float]) -> tuple[Choice, ...]:
    """Every choice that no other beats in both latency and importance, fastest first.

    Parameters
    ----------
    latency:
        T of every feasible span; a span may be merged only where no kept activation is inside.
    importance:
        Of the activation between layer j - 1 and j, by j; a break without one has nothing to
        remove. Not negative.

    Raises ``CompileError`` as ``best_spans`` does.
    """
    if not latency:
        raise CompileError("the table of latencies is empty; give it a span for each layer")
    start, end = min(s for s, _ in latency), max(e for _, e in latency)
    spans = all_spans(latency)
    fronts: dict[int, tuple[Choice, ...]] = {start: (Choice(0.0, 0.0, (), (start,)),)}
    stops = [*sorted(j for j in importance if start < j < end), end]
    for stop in stops:
        found = [
            _behind(choice, spans[before, stop], _between(importance, before, stop), stop != end)
            for before, front in fronts.items()
            if (before, stop) in spans
            for choice in front
        ]
        fronts[stop] = front_of(found)
    if not fronts[end]:
        raise CompileError(
            f"no spans of the table lead from {start} to {end}; give it a span for each layer"
        )
    return fronts[end]


def _between(importance: Mapping[int, float], start: int, end: int) -> float:
    return sum(value for j, value in sorted(importance.items()) if start < j < end)


def _behind(choice: Choice, best: Best, lost: float, stays: bool) -> Choice:
    kept = (*choice.kept, best.breaks[-1]) if stays else choice.kept
    breaks = (*choice.breaks, *best.breaks[1:])
    return Choice(choice.latency + best.latency, choice.lost + lost, kept, breaks)


def front_of(found: Iterable[Choice]) -> tuple[Choice, ...]:
    """Those that no other beats, fastest first."""
    return tuple(_undominated(sorted(found, key=lambda c: (c.latency, c.lost, c.breaks))))


def _undominated(found: Iterable[Choice]) -> Iterator[Choice]:
    least = inf
    for choice in found:
        if choice.lost < least:
            least = choice.lost
            yield choice


def best_activations(
    latency: Latency, importance: Mapping[int, float], budget: float
) -> Choice | None:
    """The most important activations that can be kept within ``budget``; None where none fits.

    latency, importance: as ``choices`` has them; budget in the table's unit.
    """
    fitting = [choice for choice in choices(latency, importance) if choice.latency <= budget]
    return min(fitting, key=lambda choice: (choice.lost, choice.latency), default=None)
