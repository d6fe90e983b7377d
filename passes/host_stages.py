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
4. Kept, the calls are reordered, and units that run side by side are marked with their stage and
   group (``motet.stage``). Lowering makes forks of them. Exact: the same kernels run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tvm import IRModule, relax, tirx, transform
from tvm.ir import GlobalVar

from motet.passes.contiguous import run_offsets
from motet.passes.graph import bindings_of, block_like, bytes_of, variables_in
from motet.passes.macs import macs_of
from motet.passes.names import HOST, OP, STAGE, TARGET
from motet.passes.options import ScheduleOptions
from motet.passes.scheduling.endings import Pruning
from motet.passes.scheduling.graph import OperatorGraph
from motet.passes.scheduling.inter_operator import greedy, schedule, sequential
from motet.passes.scheduling.search import Search
from motet.passes.scheduling.stage_costs import Groups, OperatorKey
from motet.passes.typing import with_type
from motet.runtime.schedule import Schedule
from motet.targets.host.machine import Machine
from motet.targets.host.unit_time import FORK_SECONDS, Work, estimate

LEAST_GAIN = 1.05
_LEAST_UNITS = 3


@dataclass(frozen=True)
class HostCosts:
    """A ``StageCost`` of host kernels.

    alone: seconds on one thread by unit; together: with all ``threads``. whole: units that
    cannot run beside others.
    """

    alone: Mapping[str, float]
    together: Mapping[str, float]
    whole: frozenset[str]
    threads: int

    def concurrent(self, groups: Groups) -> float:
        """One group: its kernels in order, each on all threads. Several: as they are dealt."""
        if len(groups) == 1:
            return sum(self.together[name] for name in groups[0])
        if any(name in self.whole for group in groups for name in group):
            return float("inf")
        loads = [0.0] * self.threads
        for seconds in sorted((sum(map(self.alone.__getitem__, g)) for g in groups), reverse=True):
            loads[loads.index(min(loads))] += seconds
        return max(loads) + FORK_SECONDS

    def merged(self, operators: tuple[str, ...]) -> float | None:
        """Kernels are not merged here."""
        return None

    def keys(self) -> dict[str, OperatorKey]:
        """What costs depend on."""
        return {
            name: OperatorKey((self.alone[name], self.together[name], name in self.whole))
            for name in self.alone
        }


@dataclass
class Outcome:
    """What the pass did, over all models: seconds are estimates, of blocks with static shapes."""

    stages: int = 0
    forks: int = 0
    widest: int = 0
    before: float = 0.0
    after: float = 0.0

    def add(self, found: Schedule | None, before: float) -> None:
        """A block, and its schedule where that is worth it."""
        self.before += before
        self.after += before if found is None else found.seconds
        for stage in found.stages if found else ():
            self.stages += 1
            self.forks += len(stage.groups) > 1
            self.widest = max(self.widest, len(stage.groups))

    @property
    def summary(self) -> str:
        """One line."""
        if not self.before:
            return ""
        if not self.forks:
            return f"no forks: kernels side by side gain less than {LEAST_GAIN - 1:.0%}"
        return (
            f"{self.forks} forks of up to {self.widest} groups in {self.stages} stages; estimated "
            f"{self.after * 1e6:.0f} us, one kernel after another {self.before * 1e6:.0f} us"
        )


def host_stages(
    machine: Machine, threads: int, options: ScheduleOptions, outcome: Outcome | None = None
) -> transform.Pass:
    """The pass for kernels of ``machine`` on ``threads`` threads; ``outcome`` is filled."""
    done = outcome or Outcome()

    @transform.module_pass(opt_level=0, name="host_stages")
    def apply(mod: IRModule, _context: transform.PassContext) -> IRModule:
        changed = IRModule(dict(mod.functions), attrs=mod.attrs)
        for variable in mod.get_global_vars():
            function = mod[variable]
            if isinstance(function, relax.Function) and OP not in (function.attrs or {}):
                changed[variable] = _Stager(changed, machine, threads, options, done).function(
                    function
                )
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
    ) -> None:
        self.module, self.machine, self.threads, self.options = module, machine, threads, options
        self.outcome = outcome
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
        if not plain or len(calls) < _LEAST_UNITS:
            return block
        names = [str(self.module[binding.value.op].attrs[OP]) for binding in calls]
        graph = OperatorGraph.from_edges(names, self.edges(block, names))
        costs = self.costs(dict(zip(names, calls, strict=True)))
        if costs is None or len(costs.alone) - len(costs.whole) < 2:
            return block
        found, before = self.worthwhile(graph, costs), sum(costs.together.values())
        self.outcome.add(found, before)
        if found is None:
            return block
        self.mark(found, dict(zip(names, calls, strict=True)))
        order = [name for stage in found.stages for group in stage.groups for name in group]
        return block_like(block, _reordered(block, dict(zip(names, calls, strict=True)), order))

    def worthwhile(self, graph: OperatorGraph, costs: HostCosts) -> Schedule | None:
        """Stages that gain ``LEAST_GAIN``; none are looked for where none can."""
        before = sum(costs.together.values())
        if _limit(costs) * LEAST_GAIN > before:
            return None
        found = self.scheduled(graph, costs)
        return found if found.seconds * LEAST_GAIN <= before else None

    def scheduled(self, graph: OperatorGraph, costs: HostCosts) -> Schedule:
        """By the algorithm that was asked for."""
        options = self.options
        if options.algorithm == "sequential":
            return sequential(graph, costs, costs.keys())
        if options.algorithm == "greedy":
            return greedy(graph, costs, costs.keys())
        return schedule(graph, costs, costs.keys(), Search(Pruning(options.r, options.s)))

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

    def costs(self, calls: Mapping[str, relax.Binding]) -> HostCosts | None:
        """None where a shape is not static."""
        alone, together, whole = dict[str, float](), dict[str, float](), set[str]()
        for name, binding in calls.items():
            unit = self.module[binding.value.op]
            work = _work(unit)
            if work is None:
                return None
            if unit.attrs[TARGET] != HOST or _is_placed(unit):
                whole.add(name)
            alone[name] = estimate(work, self.machine, 1).seconds
            together[name] = estimate(work, self.machine, self.threads).seconds
        return HostCosts(alone, together, frozenset(whole), self.threads)

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


def _limit(costs: HostCosts) -> float:
    """No schedule takes less: all work dealt evenly, and every kernel as fast as it can be."""
    movable = [name for name in costs.alone if name not in costs.whole]
    fixed = sum(costs.together[name] for name in costs.whole)
    return fixed + sum(
        min(costs.alone[name] / costs.threads, costs.together[name]) for name in movable
    )


def _work(unit: relax.Function) -> Work | None:
    """Multiply-accumulates and bytes of a call; None where a shape is not static."""
    total = 0
    for binding in bindings_of(unit):
        macs = macs_of(binding.value) if isinstance(binding.value, relax.Call) else 0
        if not isinstance(macs, (int, tirx.IntImm)):
            return None
        total += int(macs)
    sizes = [bytes_of(parameter.ty) for parameter in unit.params] + [bytes_of(unit.ret_ty)]
    known = [size for size in sizes if size is not None]
    return Work(total, sum(known)) if len(known) == len(sizes) else None


def _is_placed(unit: relax.Function) -> bool:
    """Whether the unit may be no kernel at all (``contiguous``)."""
    values = [binding.value for binding in bindings_of(unit)]
    return len(values) == 1 and run_offsets(values[0]) is not None


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
