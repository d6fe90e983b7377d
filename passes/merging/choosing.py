"""Which spans of a function merge: those that are asked for, and those that are faster.

1. Asked: between convolutions whose activations the options name, all becomes one convolution;
   where that is refused, the best spans of it by cost, and what is left keeps its activations.
2. Within a budget: spans of all chains, activations included (``budgets``).
3. Unasked: spans without an activation, by ``best_spans`` over their estimated costs.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from motet.passes.best_spans import best_spans
from motet.passes.decisions import Border, Merge
from motet.passes.merging.algebra import Refusal
from motet.passes.merging.blocks import Blocks
from motet.passes.merging.budgets import best_within
from motet.passes.merging.chains import Chain
from motet.passes.merging.cost import SpanCosts
from motet.passes.merging.flow import Step
from motet.passes.merging.pricing import (
    GAIN,
    Stretch,
    Table,
    absorbs,
    slower,
    table_of,
    variants,
)
from motet.passes.merging.spans import Affines, Merged, Span
from motet.passes.options import MergeDepthModel
from motet.runtime.errors import SpecError


@dataclass(frozen=True)
class Wish:
    """What is asked of the merges of a model.

    affines: what stands in place of activations that are removed, by node. importance: of
    activations, by node; 1 where one is missing. given: merges that were decided before; they
    are made as they are, and nothing else is.
    """

    asked: MergeDepthModel = field(default_factory=MergeDepthModel)
    exact: bool = True
    move_padding: bool = False
    affines: Affines = field(default_factory=dict)
    importance: Mapping[str, float] = field(default_factory=dict)
    given: tuple[Merge, ...] | None = None


@dataclass(frozen=True)
class Chosen:
    """A span that merges; before, after: estimated seconds, None where there is no target."""

    span: Span
    merged: Merged
    border: Border
    before: float | None = None
    after: float | None = None


@dataclass
class Plan:
    """The merges of a function, and why other convolutions stay apart.

    reasons: by chain and link, where more is known than that an activation stands there.
    """

    chosen: list[Chosen] = field(default_factory=list)
    reasons: dict[tuple[Chain, int], str] = field(default_factory=dict)


class Chooser:
    """Chooses for one function. costs: None where only what is asked for may merge."""

    def __init__(self, blocks: Blocks, wish: Wish, costs: SpanCosts | None) -> None:
        self.blocks, self.wish, self.costs = blocks, wish, costs
        self.plan = Plan()

    def chosen(self, total: Callable[[], float]) -> Plan:
        """The plan; ``total`` estimates the whole function, asked only for a budget of time."""
        if self.wish.given is not None:
            for merge in self.wish.given:
                self._merge_given(merge)
            return self.plan
        self.plan.reasons.update(self.blocks.half_asked(self.wish.asked))
        for stretch in list(self._asked()):
            self._merge_asked(stretch)
        asked = self.wish.asked
        if asked.remove_activations is not None or asked.latency_budget_ms is not None:
            self._within_budget(total)
        elif self.wish.exact and self.costs is not None:
            for stretch in list(self._free(lambda activations: not activations)):
                if stretch.links or absorbs(stretch.whole):
                    table = table_of(stretch, self.costs, self._refused)
                    self._take_best(table)
        return self.plan

    def _merge_given(self, merge: Merge) -> None:
        span = self._span_of(merge)
        if merge.border == "padding_moved":
            made = self._move(span)
            merged: Merged | Refusal = Refusal("its padding cannot be moved")
        else:
            merged = span.merge(self.wish.affines)
            made = isinstance(merged, Merged)
        if isinstance(merged, Merged):
            self._take(span, merged)
        elif not made:
            raise SpecError(
                f"decisions: the convolutions up to {merge.output!r} do not merge as decided:"
                f" {merged.reason}; decide anew with motet merge"
            )

    def _span_of(self, merge: Merge) -> Span:
        """The span of the convolutions that a decision names."""
        for chain in self.blocks.chains:
            names = [layer.name for layer in chain.layers]
            if not merge.convolutions or merge.convolutions[0] not in names:
                continue
            first = names.index(merge.convolutions[0])
            last = first + len(merge.convolutions) - 1
            if tuple(names[first : last + 1]) == merge.convolutions:
                return Span(chain, first, last, merge.shortcut)
        raise SpecError(
            f"decisions: model {merge.model!r} has no convolutions"
            f" {', '.join(map(repr, merge.convolutions))} in a row; decide anew with motet merge"
        )

    def _asked(self) -> Iterator[Stretch]:
        """Rule 1: the longest runs of links that the options name."""
        for chain in self.blocks.chains:
            links = sorted(self.blocks.asked_links(chain, self.wish.asked))
            for at, link in enumerate(links):
                if at and links[at - 1] == link - 1:
                    continue
                last = link
                while last + 1 in links:
                    last += 1
                yield Stretch(chain, link, last + 1)

    def _free(self, may_merge: Callable[[tuple[Step, ...]], bool]) -> Iterator[Stretch]:
        """The longest stretches of links that ``may_merge`` takes, outside what is merged."""
        for chain in self.blocks.chains:
            free = [n for n in range(len(chain.layers)) if not self._is_taken(chain, n)]
            start = 0
            for at in range(1, len(free) + 1):
                joined = at < len(free) and free[at] == free[at - 1] + 1
                if not joined or not may_merge(chain.links[free[at - 1]]):
                    yield Stretch(chain, free[start], free[at - 1])
                    start = at

    def _is_taken(self, chain: Chain, layer: int) -> bool:
        spans = (one.span for one in self.plan.chosen)
        return any(s.chain is chain and s.first <= layer <= s.last for s in spans)

    def _merge_asked(self, stretch: Stretch) -> None:
        reason = ""
        for span in variants(stretch.whole):
            merged = span.merge(self.wish.affines)
            if isinstance(merged, Refusal):
                reason = merged.reason
                if merged.border and self.wish.move_padding and self._move(span):
                    return
            elif merged.has_strip and self.wish.move_padding and self._move(span):
                return
            elif not merged.has_strip or self._is_faster(span, merged):
                self._take(span, merged)
                return
            else:
                reason = self.plan.reasons.get((span.chain, span.first), "")
                reason = f"its border would be computed apart; {reason}"
        self._best_of(stretch, reason)

    def _move(self, span: Span) -> bool:
        made = span.moved(self.wish.affines)
        if isinstance(made, Refusal):
            return False
        self._take(span, Merged(made, (0,) * len(made.padding), ()), "padding_moved")
        return True

    def _best_of(self, stretch: Stretch, reason: str) -> None:
        """The best spans of what does not merge as a whole."""
        if self.costs is not None and len(stretch.links) > 1:
            self._take_best(table_of(stretch, self.costs, self._refused))
        for link in stretch.links:
            self.plan.reasons[stretch.chain, link] = reason

    def _take_best(self, table: Table) -> None:
        if table.is_priced:
            self._take_spans(best_spans(table.latency)[1], table)

    def _take_spans(self, breaks: Iterable[int], table: Table) -> None:
        points = list(breaks)
        for ends in itertools.pairwise(points):
            span = table.spans.get(ends)
            if span is None:
                continue
            merged = span.merge(self.wish.affines)
            if isinstance(merged, Refusal):
                self._refused(span, merged.reason)
            elif self._is_faster(span, merged):
                self._take(span, merged)

    def _is_faster(self, span: Span, merged: Merged) -> bool:
        """Whether the span as a whole is: its layers may share kernels with each other."""
        if self.costs is None:
            return True
        now, then = self.costs.as_it_is(span), self.costs.merged(span, merged)
        if then < GAIN * now:
            return True
        self.plan.reasons[span.chain, span.first] = slower(then, now)
        return False

    def _take(self, span: Span, merged: Merged, border: Border | None = None) -> None:
        before = after = None
        if self.costs is not None:
            before, after = self.costs.as_it_is(span), self.costs.merged(span, merged)
        made = border or ("strip" if merged.has_strip else None)
        made = made or ("bias_map" if merged.conv.has_map else "exact")
        self.plan.chosen.append(Chosen(span, merged, made, before, after))

    def _refused(self, span: Span, reason: str) -> None:
        """Keep the reason of a link: of the smallest span that holds it."""
        if span.last == span.first + 1:
            self.plan.reasons.setdefault((span.chain, span.first), reason)

    def _within_budget(self, total: Callable[[], float]) -> None:
        """Rule 2."""
        if self.costs is None:
            return
        stretches = list(self._free(lambda _activations: True))
        tables = [table_of(stretch, self.costs, self._refused) for stretch in stretches]
        priced = [pair for pair in zip(stretches, tables, strict=True) if pair[1].is_priced]
        saved = sum((one.before or 0.0) - (one.after or 0.0) for one in self.plan.chosen)
        picks = best_within(priced, self.wish.asked, self.wish.importance, lambda: total() - saved)
        for (_, table), pick in zip(priced, picks, strict=True):
            self._take_spans(pick.breaks, table)
