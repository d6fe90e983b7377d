from __future__ import annotations

from math import inf

import peer_blocks as peers
import pytest
import random_graphs as rg
from hypothesis import given, settings
from hypothesis import strategies as st

from motet.passes.scheduling.blocks import cut_blocks
from motet.passes.scheduling.endings import UNPRUNED, Pruning
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.inter_operator import check_fits, greedy, schedule, sequential
from motet.passes.scheduling.search import STEPS, Search, cut_short
from motet.passes.scheduling.stage_costs import Groups, Keys, OperatorKey
from motet.runtime.errors import SpecError
from motet.runtime.schedule import Schedule, Stage, decode, encode


def _least(graph: OperatorGraph, cost: rg.RandomCost, keys: Keys | None, bounds: Pruning) -> float:
    return rg.Exhaustive(graph, cost, keys, bounds).least(frozenset(graph.names))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_no_schedule_is_cheaper(data: st.DataObject) -> None:
    graph = data.draw(rg.graphs(most=6))
    keys = data.draw(st.none() | rg.keys_for(graph))
    cost = data.draw(rg.costs(keys))
    pruning = data.draw(st.just(UNPRUNED) | rg.prunings)

    found = schedule(graph, cost, keys, Search(pruning))

    check_fits(found, graph)
    blocks = cut_blocks(graph)
    least = [_least(block, cost, keys, pruning) for block in blocks]
    simple = [_rules(block, cost, keys) for block in blocks]  # they know no bounds
    per_block = sum(map(min, least, simple))
    assert found.seconds == pytest.approx(min(per_block, greedy(graph, cost, keys).seconds))


def _rules(graph: OperatorGraph, cost: rg.RandomCost, keys: Keys | None) -> float:
    return min(rule(graph, cost, keys).seconds for rule in (sequential, greedy))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_never_worse_than_sequential_or_greedy(data: st.DataObject) -> None:
    graph = data.draw(rg.graphs(most=7))
    keys = data.draw(st.none() | rg.keys_for(graph))
    cost = data.draw(rg.costs(keys))
    search = data.draw(
        st.builds(Search, rg.prunings, st.sampled_from([None, 0.0]), st.sampled_from([1, 8, 999]))
    )
    found = schedule(graph, cost, keys, search)
    check_fits(found, graph)
    assert found.seconds <= sequential(graph, cost, keys).seconds * (1 + 1e-12)
    assert found.seconds <= greedy(graph, cost, keys).seconds * (1 + 1e-12)
    assert decode(encode(found)) == found


class Pods:
    """Work side by side on four pods; counts how often it is asked."""

    def __init__(self, work: dict[str, float]) -> None:
        self.work = work
        self.asked = 0

    def concurrent(self, groups: Groups) -> float:
        self.asked += 1
        work = [sum(self.work[name] for name in group) for group in groups]
        return max(max(work), sum(work) / 4) + 0.1

    def merged(self, operators: tuple[str, ...]) -> float | None:
        return None


def _network(*blocks: peers.Edges) -> tuple[OperatorGraph, Keys]:
    """Blocks one behind the other, each reading the join of the one before."""
    reads: peers.Edges = {}
    keys = {}
    join = ""
    for index, block in enumerate(blocks):
        for name, before in block.items():
            inner = [f"{index}.{one}" for one in before.split()]
            reads[f"{index}.{name}"] = " ".join(inner) or join
            keys[f"{index}.{name}"] = OperatorKey(name)
        join = f"{index}.join"
    return peers.graph_of(reads), keys


def test_equal_blocks_are_asked_for_once() -> None:
    once, keys_once = _network(peers.INCEPTION_E, peers.FIRE_BYPASS)
    often, keys_often = _network(*[peers.INCEPTION_E] * 5, peers.FIRE_BYPASS)
    alone, repeated = Pods(dict.fromkeys(once.names, 1.0)), Pods(dict.fromkeys(often.names, 1.0))
    first = schedule(once, alone, keys_once)
    second = schedule(often, repeated, keys_often)
    # The network's own greedy stages are asked for again where blocks differ.
    assert repeated.asked == alone.asked
    assert [block.seconds for block in second.blocks[:5]] == [first.blocks[0].seconds] * 5


class FlooredPods(Pods):
    def floor(self, operator: str) -> float:
        return self.work[operator] / 4


def test_floors_spare_asking_and_change_nothing() -> None:
    graph = peers.graph_of(peers.NASNET_REDUCTION)
    work = {name: 1.0 + index % 5 for index, name in enumerate(graph.names)}
    plain, floored = Pods(work), FlooredPods(work)
    assert schedule(graph, plain).seconds == schedule(graph, floored).seconds
    assert floored.asked < 0.8 * plain.asked


class Convolutions(Pods):
    """Reading an input costs 1, every convolution 1; merged, it is read once."""

    def concurrent(self, groups: Groups) -> float:
        return 2.0 * sum(map(len, groups))

    def merged(self, operators: tuple[str, ...]) -> float | None:
        assert not any(name.startswith("join") for name in operators)
        return 1.0 + len(operators)


def test_convolutions_that_read_one_value_are_merged() -> None:
    graph = peers.graph_of({"a": "", "b": "", "c": "", "other": "", "join": "a b c other"})
    keys = {name: OperatorKey(name, "image" if name in "abc" else None) for name in graph.names}
    found = schedule(graph, Convolutions({}), keys)
    (merged,) = [stage for stage in found.stages if stage.kind == "merged"]
    assert merged == Stage(groups=(("a",), ("b",), ("c",)), seconds=4.0, kind="merged")
    assert found.seconds == 8.0
    check_fits(found, graph)


def test_a_budget_ends_the_search_with_the_best_so_far() -> None:
    """One that has no time left does no worse than greedy, and says what happened."""
    graph = peers.graph_of(peers.randwire("ws-32-4"))
    cost = Pods({name: 1.0 + index % 5 for index, name in enumerate(graph.names)})
    found = schedule(graph, cost, search=Search(budget_seconds=0.3))
    assert [block.found_by for block in found.blocks] == ["budget"]
    assert found.seconds < greedy(graph, cost).seconds
    check_fits(found, graph)


def test_enough_time_gives_the_optimum() -> None:
    graph = peers.graph_of(peers.INCEPTION_E)
    cost = Pods({name: 1.0 + index % 3 for index, name in enumerate(graph.names)})
    hurried = schedule(graph, cost, search=Search(budget_seconds=300))
    assert hurried == schedule(graph, cost)
    assert hurried.blocks[0].found_by == "optimal"


def test_progress_reaches_the_total_and_never_goes_back() -> None:
    graph, keys = _network(peers.INCEPTION_E, peers.INCEPTION_A, peers.INCEPTION_A)
    seen: list[tuple[int, int]] = []
    cost = Pods(dict.fromkeys(graph.names, 1.0))
    schedule(graph, cost, keys, progress=lambda done, total: seen.append((done, total)))
    assert seen[-1] == (20, 20)
    assert seen == sorted(seen)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ([["a"]], "operator 'b' is in no stage"),
        ([["a", "b", "c"]], "'c' is no operator"),
        ([["b", "a"]], "operator 'b' reads 'a'"),
        ([["b"], ["a"]], "operator 'b' reads 'a'"),
    ],
)
def test_a_schedule_that_does_not_fit(groups: list[list[str]], message: str) -> None:
    stages = (Stage(groups=tuple(map(tuple, groups)), seconds=1.0),)
    one = Schedule(seconds=1.0, stages=stages, blocks=())
    with pytest.raises(SpecError, match=message):
        check_fits(one, peers.graph_of({"a": "", "b": "a"}))


def test_a_cost_below_zero_is_refused() -> None:
    graph = peers.graph_of({"a": ""})
    with pytest.raises(ValueError, match="at least 0"):
        schedule(graph, Pods({"a": -5.0}))


def _wide(branches: int) -> OperatorGraph:
    """As many branches of two operators, no two operators alike."""
    reads: peers.Edges = {f"a{n}": "" for n in range(branches)}
    reads |= {f"b{n}": f"a{n}" for n in range(branches)}
    return peers.graph_of({**reads, "join": " ".join(f"b{n}" for n in range(branches))})


class SixGroups(Pods):
    """No stage of more."""

    def concurrent(self, groups: Groups) -> float:
        return super().concurrent(groups) if len(groups) <= 6 else inf


def test_steps_bound_the_search_of_a_wide_block() -> None:
    graph = _wide(24)
    cost = SixGroups({name: 1.0 + index % 5 for index, name in enumerate(graph.names)})
    found = schedule(graph, cost, search=Search(steps=300_000))
    assert cut_short(found) == "block 0 (49 operators)"
    check_fits(found, graph)
    assert greedy(graph, cost).seconds == inf
    # No schedule takes less than the work on four pods, and the join runs alone on one.
    least = (sum(cost.work.values()) - cost.work["join"]) / 4 + cost.work["join"]
    assert found.seconds < 1.25 * least
    assert schedule(graph, cost, search=Search(steps=300_000)) == found


@pytest.mark.parametrize("steps", [0, 1, 1000])
def test_few_steps_give_simple_stages(steps: int) -> None:
    graph = _wide(6)
    cost = Pods(dict.fromkeys(graph.names, 1.0))
    found = schedule(graph, cost, search=Search(Pruning(None, None), steps=steps))
    check_fits(found, graph)
    assert found.seconds <= greedy(graph, cost).seconds


def test_what_is_known_of_its_networks_is_far_from_the_default() -> None:
    """RandWire's largest stage alone takes less than a fourth of the steps."""
    graph = peers.graph_of(peers.randwire("ws-32-4"))
    cost = FlooredPods({name: 1.0 + index % 5 for index, name in enumerate(graph.names)})
    found = schedule(graph, cost, search=Search(steps=STEPS // 4))
    assert not cut_short(found)
