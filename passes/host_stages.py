"""Puts the host's small kernels side by side: stages of groups, by the programme of IOS.

A kernel of a few microseconds runs on one thread, as waking another costs as much. Where
several such kernels do not depend on each other, groups of them can run at the same time,
each on a thread. Large kernels use all threads by themselves, and gain nothing.

1. Candidates are the calls of host units in a block of bindings without matches or branches,
   with static shapes. What joins or cuts by place, and regions of the array, run by themselves.
2. ``scheduling.schedule`` finds stages; a stage of groups costs as long as the longest of the
   threads, to which the groups are dealt longest first, and a fork.
3. The stages are kept where the whole block gains ``LEAST_GAIN`` by the costs; else the block
   stays as it is. So the host is not slower for it.
   Stages that a user pins (``scheduling.pins``) are kept whatever they cost.
4. Kept, the calls are reordered, and units that run side by side are marked with their stage and
   group (``motet.stage``). Lowering makes forks of them. Exact: the same kernels run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

from tvm import IRModule, relax, transform
from tvm.ir import GlobalVar

from motet.passes.graph import block_like, variables_in
from motet.passes.host_stage_costs import HostCosts, host_costs, runs_alone
from motet.passes.names import ONNX_NODES, OP, STAGE
from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.inter_operator import greedy, schedule, sequential
from motet.passes.scheduling.pins import Pins
from motet.passes.scheduling.placed_stages import placed_stages
from motet.passes.scheduling.search import asked_for, cut_short, more_time
from motet.passes.typing import with_type
from motet.runtime.progress import Show, silent
from motet.runtime.schedule import Schedule, Stage, total_seconds
from motet.targets.host.machine import Machine

LEAST_GAIN = 1.05
_LEAST_UNITS = 3


@dataclass
class Outcome:
    """What the pass did, over all models: seconds are estimates, of blocks with static shapes.

    warn: told of what was cut short.
    """

    warn: Show = silent
    blocks: int = 0
    stages: int = 0
    forks: int = 0
    widest: int = 0
    before: float = 0.0
    after: float = 0.0

    def add(self, found: Schedule | None, costs: HostCosts | None) -> None:
        """A block, its schedule where that is kept, and its costs where sizes are known."""
        before = costs.sequential if costs is not None else 0.0
        self.blocks += 1
        self.before += before
        self.after += before if found is None else found.seconds
        for stage in found.stages if found else ():
            self.stages += 1
            self.forks += len(stage.groups) > 1
            self.widest = max(self.widest, len(stage.groups))

    @property
    def summary(self) -> str:
        """One line."""
        if not self.blocks:
            return ""
        if not self.forks:
            return f"no forks, which would gain less than {LEAST_GAIN - 1:.0%}"
        return (
            f"{self.forks} forks of up to {self.widest} groups in {self.stages} stages; estimated "
            f"{self.after * 1e6:.0f} us, one kernel after another {self.before * 1e6:.0f} us"
        )


def host_stages(
    machine: Machine,
    threads: int,
    options: ScheduleOptions,
    outcome: Outcome | None = None,
    pins: Mapping[str, Pins] = MappingProxyType({}),
) -> transform.Pass:
    """The pass for kernels of ``machine`` on ``threads`` threads; ``outcome`` is filled.

    pins: stages by entry function, taken as they are; others then only where options enable them.
    """
    done = outcome or Outcome()

    @transform.module_pass(opt_level=0, name="host_stages")
    def apply(mod: IRModule, _context: transform.PassContext) -> IRModule:
        changed = IRModule(dict(mod.functions), attrs=mod.attrs)
        for variable in mod.get_global_vars():
            function = mod[variable]
            if isinstance(function, relax.Function) and OP not in (function.attrs or {}):
                pinned = pins.get(str(variable.name_hint))
                if pins and pinned is None and not options.enabled:
                    continue
                stager = _Stager(changed, machine, threads, options, done, pinned)
                changed[variable] = stager.function(function)
        return changed

    return apply


class _Stager:
    """Reorders the blocks of one entry function; marks units in ``module``."""

    def __init__(
        self,
        module: IRModule,
        machine: Machine,
        threads: int,
        options: ScheduleOptions,
        outcome: Outcome,
        pins: Pins | None,
    ) -> None:
        self.module, self.machine, self.threads, self.options = module, machine, threads, options
        self.outcome, self.pins = outcome, pins
        self.stages = 0

    def function(self, function: relax.Function) -> relax.Function:
        if not isinstance(function.body, relax.SeqExpr):
            return function
        blocks = [self.block(block) for block in function.body.blocks]
        body = with_type(relax.SeqExpr(blocks, function.body.body), function.body.ty)
        return relax.Function(
            function.params, body, function.ret_ty, function.is_pure, function.attrs, function.span
        )

    def block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        """The block with its stages in order; itself where that gains nothing."""
        calls = [binding for binding in block.bindings if self.unit(binding) is not None]
        plain = all(
            isinstance(b, relax.VarBinding) and not isinstance(b.value, relax.If)
            for b in block.bindings
        )
        if not plain or len(calls) < (1 if self.pins else _LEAST_UNITS):
            return block
        names = [str(self.module[binding.value.op].attrs[OP]) for binding in calls]
        by_name = dict(zip(names, calls, strict=True))
        units = {name: self.module[binding.value.op] for name, binding in by_name.items()}
        edges, costs = self.edges(block, names), host_costs(units, self.machine, self.threads)
        if all(map(runs_alone, units.values())):
            return block
        if self.pins:
            found: Schedule | None = _pinned(self.pins, units, edges, costs)
        elif costs is None or len(costs.alone) - len(costs.whole) < 2:
            return block
        else:
            found = self.worthwhile(OperatorGraph.from_edges(names, edges), costs)
        self.outcome.add(found, costs)
        if found is None:
            return block
        self.mark(found, by_name)
        order = [name for stage in found.stages for group in stage.groups for name in group]
        return block_like(block, _reordered(block, by_name, order))

    def worthwhile(self, graph: OperatorGraph, costs: HostCosts) -> Schedule | None:
        """Stages that gain ``LEAST_GAIN``; none are looked for where none can."""
        if costs.limit * LEAST_GAIN > costs.sequential:
            return None
        found = self.scheduled(graph, costs)
        return found if found.seconds * LEAST_GAIN <= costs.sequential else None

    def scheduled(self, graph: OperatorGraph, costs: HostCosts) -> Schedule:
        """By the algorithm that was asked for."""
        options = self.options
        if options.algorithm == "sequential":
            return sequential(graph, costs, costs.keys())
        if options.algorithm == "greedy":
            return greedy(graph, costs, costs.keys())
        found = schedule(graph, costs, costs.keys(), asked_for(options))
        if cut := cut_short(found):
            model = graph.names[0].partition("/")[0]
            self.outcome.warn(f"model {model!r}: {more_time(cut)}")
        return found

    def unit(self, binding: relax.Binding) -> relax.Function | None:
        """The unit or region that a binding calls."""
        value = binding.value
        if isinstance(value, relax.Call) and isinstance(value.op, GlobalVar):
            return self.module[value.op]
        return None

    def edges(self, block: relax.BindingBlock, names: Sequence[str]) -> list[tuple[str, str]]:
        """Which unit reads which, through views and tuples."""
        made: dict[relax.Var, frozenset[str]] = {}
        found, waiting = list[tuple[str, str]](), iter(names)
        for binding in block.bindings:
            read = frozenset[str]().union(
                *(made.get(v, frozenset()) for v in variables_in(binding.value))
            )
            if self.unit(binding) is not None:
                name = next(waiting)
                found += [(producer, name) for producer in sorted(read)]
                read = frozenset({name})
            made[binding.var] = read
        return found

    def mark(self, found: Schedule, calls: Mapping[str, relax.Binding]) -> None:
        """Write stage and group into the units that run side by side."""
        for stage in found.stages:
            self.stages += 1
            if len(stage.groups) == 1:
                continue
            for number, group in enumerate(stage.groups):
                for name in group:
                    variable = calls[name].value.op
                    marked = self.module[variable].with_attr(STAGE, f"{self.stages}/{number}")
                    self.module[variable] = marked


def _pinned(
    pins: Pins,
    units: Mapping[str, relax.Function],
    edges: Sequence[tuple[str, str]],
    costs: HostCosts | None,
) -> Schedule:
    """The stages that were asked for; what may be no kernel runs by itself."""
    names = list(units)
    number = {name: at for at, name in enumerate(names)}
    needs: list[set[int]] = [set() for _ in names]
    for before, after in edges:
        needs[number[after]].add(number[before])
    places = [pins.place_of(map(str, unit.attrs[ONNX_NODES])) for unit in units.values()]
    alone = {number[name] for name, unit in units.items() if runs_alone(unit)}
    stages = []
    for placed in placed_stages(needs, places, alone, may_wait=False):
        groups = tuple(tuple(names[at] for at in group.steps) for group in placed)
        stages.append(Stage(groups=groups, seconds=costs.concurrent(groups) if costs else 0.0))
    return Schedule(seconds=total_seconds(tuple(stages)), stages=tuple(stages), blocks=())


def _reordered(
    block: relax.BindingBlock, calls: Mapping[str, relax.Binding], order: Sequence[str]
) -> list[relax.Binding]:
    """The calls in ``order``, each after what else it reads, the rest at the end."""
    by_variable = {binding.var: binding for binding in block.bindings}
    done, result = set[relax.Var](), list[relax.Binding]()

    def emit(binding: relax.Binding) -> None:
        open_: list[tuple[relax.Binding, bool]] = [(binding, False)]
        while open_:
            one, ready = open_.pop()
            if one.var in done:
                continue
            if ready:
                done.add(one.var)
                result.append(one)
                continue
            open_.append((one, True))
            read = [by_variable[v] for v in variables_in(one.value) if v in by_variable]
            open_ += [(before, False) for before in reversed(read) if before.var not in done]

    for name in order:
        emit(calls[name])
    for binding in block.bindings:
        emit(binding)
    return result
