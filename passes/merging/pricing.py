"""The table of latencies over part of a chain: what every span of it costs at best.

A convolution's own cost is what it adds to all that is before it, so that kernels which
several share, and activations between them, count once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from math import inf, prod

from motet.passes.merging.algebra import Refusal
from motet.passes.merging.chains import Chain
from motet.passes.merging.cost import SpanCosts
from motet.passes.merging.spans import Merged, Span

GROWTH = 32
"""A span that multiplies more than so many times what its layers do is not priced."""
GAIN = 0.98
"""What merging must bring an estimate to, as a share of what it was, to be worth it."""

Refused = Callable[[Span, str], None]
"""Told why a span does not merge."""


@dataclass(frozen=True)
class Stretch:
    """Convolutions ``first`` to ``last`` of a chain between which everything may merge."""

    chain: Chain
    first: int
    last: int

    @property
    def links(self) -> range:
        """What stands between them."""
        return range(self.first, self.last)

    @property
    def whole(self) -> Span:
        """All of it."""
        return Span(self.chain, self.first, self.last)


@dataclass
class Table:
    """latency: seconds of each span (first, last + 1), as one where ``spans`` has it.

    now: seconds of all its layers as they are.
    """

    latency: dict[tuple[int, int], float] = field(default_factory=dict)
    spans: dict[tuple[int, int], Span] = field(default_factory=dict)
    now: float = 0.0

    @property
    def is_priced(self) -> bool:
        """Whether the target can run every layer."""
        return all(seconds < inf for seconds in self.latency.values())


def table_of(stretch: Stretch, costs: SpanCosts, refused: Refused) -> Table:
    """Prices of all spans of ``stretch``."""
    table, before = Table(), 0.0
    for end in range(stretch.first, stretch.last + 1):
        total = costs.as_it_is(Span(stretch.chain, stretch.first, end))
        table.latency[end, end + 1] = max(total - before, 0.0) if total < inf else inf
        before = total
    table.now = before
    layers = [table.latency[n, n + 1] for n in range(stretch.first, stretch.last + 1)]
    for first in range(stretch.first, stretch.last + 1):
        for last in range(first, stretch.last + 1):
            now = sum(layers[first - stretch.first : last + 1 - stretch.first])
            _price(Span(stretch.chain, first, last), now, table, costs, refused)
    return table


def _price(span: Span, now: float, table: Table, costs: SpanCosts, refused: Refused) -> None:
    """Put ``span`` in the table where one convolution is faster; ``now``: its layers' seconds."""
    if span.first == span.last and not absorbs(span):
        return
    for one in variants(span):
        merged = one.merge(values=False)
        if isinstance(merged, Refusal):
            refused(span, merged.reason)
            continue
        if _macs(one, merged) > GROWTH * macs_now(one):
            refused(span, "one convolution would multiply far more")
            return
        seconds = costs.merged(one, merged)
        if seconds >= GAIN * now:
            refused(span, slower(seconds, now))
            return
        table.latency[span.first, span.last + 1] = seconds
        table.spans[span.first, span.last + 1] = one
        return


def variants(span: Span) -> tuple[Span, ...]:
    """``span`` with the shortcut around it, where there is one, and without."""
    if span.shortcut is None:
        return (span,)
    return span, Span(span.chain, span.first, span.last, whole=False)


def absorbs(span: Span) -> bool:
    """Whether a single convolution takes in what folding batch-norms leaves beside it."""
    views = any(not step.convs for step in span.tail)
    return any(step.convs for step in span.head) or (views and len(span.tail) > 1)


def slower(merged: float, now: float) -> str:
    """The reason, in words."""
    return f"estimated {merged * 1e6:.1f} us as one convolution, {now * 1e6:.1f} us as they are"


def _macs(span: Span, merged: Merged) -> float:
    sizes = [64 if size is None else int(size) for size in span.spatial]
    return float(prod(merged.conv.sizes(sizes)) * merged.conv.weight.size)


def macs_now(span: Span) -> float:
    """Multiply-accumulates of the convolutions of ``span`` for one sample."""
    sizes, total = [64 if size is None else int(size) for size in span.spatial], 0.0
    for piece in span.pieces():
        for conv in piece:
            sizes = list(conv.sizes(sizes))
            is_layer = any(conv.weight is layer.conv.weight for layer in span.layers)
            total += prod(sizes) * conv.weight.size if is_layer else 0
    return total
