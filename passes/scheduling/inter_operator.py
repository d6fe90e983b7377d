"""Inter-operator scheduling of a network: blocks, each by the dynamic programme of IOS.

The network is cut into blocks, equal blocks are solved once, and their stages follow each
other. The schedule that one operator after another makes (sequential), and the one
that always runs all that is ready (greedy), are candidates for every block, and greedy
also for the network as a whole: by its own cost the result is never worse than either.
"""

from __future__ import annotations

from collections.abc import Callable

from motet.passes.scheduling import programme
from motet.passes.scheduling.blocks import cut_blocks
from motet.passes.scheduling.endings import UNPRUNED, Pruning
from motet.passes.scheduling.equal_blocks import Labels, NamedBlock
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.programme import Found, Stages
from motet.passes.scheduling.search import Progress, Search, by_rule, solve
from motet.passes.scheduling.stage_costs import CostMemory, Keys, StageCost, StagePrices
from motet.runtime.errors import SpecError
from motet.runtime.schedule import Block, FoundBy, Schedule, Stage, total_seconds


def schedule(
    network: OperatorGraph,
    stage_cost: StageCost,
    keys: Keys | None = None,
    search: Search | None = None,
    progress: Progress = lambda done, total: None,
) -> Schedule:
    """The best schedule of ``network`` for ``stage_cost``: optimal per block and pruning.

    keys: what costs depend on, for every operator; None: no two are alike, none is merged.
    """
    search = search or Search()
    labels, memory = Labels(network, keys), CostMemory(stage_cost)
    blocks = [labels.block(part) for part in cut_blocks(network, search.state_limit)]
    solved = solve({block.form: block for block in blocks}.values(), memory, search, progress)
    best = _joined([(b, solved[b.form]) for b in blocks], memory, search.pruning)
    simple = _whole(labels.block(network), memory, programme.greedy, "greedy", search.pruning)
    return simple if simple.seconds < best.seconds else best


def sequential(network: OperatorGraph, stage_cost: StageCost, keys: Keys | None = None) -> Schedule:
    """One operator after another."""
    block = Labels(network, keys).block(network)
    return _whole(block, CostMemory(stage_cost), programme.sequential, "sequential")


def greedy(network: OperatorGraph, stage_cost: StageCost, keys: Keys | None = None) -> Schedule:
    """In every stage all operators that are ready."""
    block = Labels(network, keys).block(network)
    return _whole(block, CostMemory(stage_cost), programme.greedy, "greedy")


def check_fits(schedule: Schedule, network: OperatorGraph, where: str = "schedule") -> None:
    """Raise SpecError, naming the operator, unless ``schedule`` can run ``network``.

    Every operator runs once, after all whose results it reads: in a later stage, or later
    in the same group.
    """
    order = {
        name: (index, group, place)
        for index, stage in enumerate(schedule.stages)
        for group, names in enumerate(stage.groups)
        for place, name in enumerate(names)
    }
    for name in network.names:
        if name not in order:
            raise SpecError(f"{where}: operator {name!r} is in no stage: schedule the model again")
    for name in order.keys() - set(network.names):
        raise SpecError(f"{where}: {name!r} is no operator of the model: schedule it again")
    for before, after in network.edges:
        early, late = order[before], order[after]
        if not (early[0] < late[0] or (early[:2] == late[:2] and early[2] < late[2])):
            raise SpecError(
                f"{where}: operator {after!r} reads {before!r}, which ends later: "
                "move it to a later stage or behind it in its group"
            )


def _whole(
    block: NamedBlock,
    memory: CostMemory,
    rule: Callable[[OperatorGraph], Stages],
    by: FoundBy,
    pruning: Pruning = UNPRUNED,
) -> Schedule:
    return _joined([(block, by_rule(block, memory, rule, by))], memory, pruning)


def _joined(
    blocks: list[tuple[NamedBlock, Found]], memory: CostMemory, pruning: Pruning
) -> Schedule:
    """The blocks' stages one after another, with names."""
    stages: list[Stage] = []
    reports: list[Block] = []
    for block, found in blocks:
        prices = StagePrices(block.graph, block.labels, memory)
        stages += (_stage(prices, mask, len(reports)) for mask in found.stages)
        reports.append(Block(operators=len(block.graph), seconds=found.seconds, found_by=found.by))
    return Schedule(
        seconds=total_seconds(tuple(stages)),
        stages=tuple(stages),
        blocks=tuple(reports),
        r=pruning.r,
        s=pruning.s,
    )


def _stage(prices: StagePrices, mask: int, block: int) -> Stage:
    seconds, kind = prices.price(mask)
    return Stage(groups=prices.groups_of(mask), seconds=seconds, kind=kind, block=block)
