"""Which convolutions of one value a compilation merges: what stages propose, and what proves it.

For arrays. Before placement the units of every model are scheduled with merges as stages of their
own (IOS, Ding et al., MLSys 2021): the merged stages are a proposal. A second one merges all
kernels of equal size. With each the rest of the passes runs, the array's programs are made and
simulated, and the proposal that takes the fewest cycles is followed, or none. Programs that were so
made are kept for the compilation.

The host merges nothing by itself: its kernels are near their peak as they are, and what several
read comes from a cache (docs/HOST_THREADS.md has the figures).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm import IRModule, relax, transform
from tvm.ir import GlobalVar

from motet.compiler.kernels import Rehearsed, array_code, region_binding, without_names
from motet.compiler.pipeline import Step
from motet.passes.dead_code import dead_code
from motet.passes.graph import bindings_of
from motet.passes.join_gelu import join_gelu
from motet.passes.join_silu import join_silu
from motet.passes.merge_parallel import merge_parallel, named
from motet.passes.names import ARRAY, OP, TARGET
from motet.passes.op_kinds import op_name
from motet.passes.options import ScheduleOptions
from motet.passes.parallel_convolutions import families
from motet.passes.scheduling import inter_operator
from motet.passes.scheduling.search import asked_for
from motet.passes.unit_cost import Target
from motet.passes.units import units_of
from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture import ArrayDescription

Groups = tuple[frozenset[str], ...]
"""ONNX nodes of convolutions (and what follows them) that become one, of each."""

Cycles = Callable[[IRModule], int]
"""Simulated cycles of all that a module of one model gives the array to do."""

joined = transform.Sequential([join_silu, join_gelu, dead_code])
"""What is done before: activations that are written out become one call, as fusion has them."""


def proposed(
    function: relax.Function, model: str, target: Target, options: ScheduleOptions
) -> Groups:
    """The merged stages of the best schedule by the estimates; none where sizes are open."""
    # Prices of an array need numba, which a compiler for the host does without.
    from motet.passes.stage_cost import keys_of, stage_costs

    units = units_of(function, model)
    keys = keys_of(units, merge=True)
    if not any(key.merge for key in keys.values()):
        return ()
    costs = stage_costs(units, target, merge=True)
    try:
        found = inter_operator.schedule(units.graph, costs, keys, asked_for(options))
    except CompileError:
        return ()
    by_name = units.by_name
    return tuple(
        frozenset(node for group in stage.groups for name in group
                  for node in by_name[name].onnx_nodes)
        for stage in found.stages
        if stage.kind == "merged"
    )  # fmt: skip


def of_equal_kernels(function: relax.Function) -> Groups:
    """All that read the same value with kernels of the same size."""
    found: list[frozenset[str]] = []
    for family in families(function):
        by_size: dict[tuple[int, ...], list[str]] = {}
        counts: dict[tuple[int, ...], int] = {}
        for one in family:
            size = tuple(axis.kernel for axis in one.axes)
            by_size.setdefault(size, []).extend(one.names)
            counts[size] = counts.get(size, 0) + 1
        found += [frozenset(by_size[size]) for size, count in counts.items() if count > 1]
    return tuple(found)


@dataclass
class Outcome:
    """What came of it, a line per model."""

    lines: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """For the bundle's record."""
        return "; ".join(self.lines)


def parallel_merging(
    target: Target, options: ScheduleOptions, outcome: Outcome, cycles: Cycles
) -> transform.Pass:
    """The pass. cycles: of a module of one model."""

    @transform.module_pass(opt_level=0, name="merge_parallel")
    def apply(mod: IRModule, _context: transform.PassContext) -> IRModule:
        mod = joined(mod)
        for variable in mod.get_global_vars():
            function = mod[variable]
            if isinstance(function, relax.Function) and OP not in (function.attrs or {}):
                mod = _of_model(mod, variable, target, options, outcome, cycles)
        return mod

    return apply


def _of_model(
    mod: IRModule,
    variable: GlobalVar,
    target: Target,
    options: ScheduleOptions,
    outcome: Outcome,
    cycles: Cycles,
) -> IRModule:
    """``mod`` with the convolutions of one model merged, where that pays."""
    name = str(variable.name_hint)
    alone = IRModule({name: mod[variable]})
    tried = [proposed(mod[variable], name, target, options), of_equal_kernels(mod[variable])]
    made = [(groups, merge_parallel(named(groups))(alone)) for groups in dict.fromkeys(tried)
            if groups]  # fmt: skip
    if not made:
        return mod
    times = [cycles(alone), *(cycles(module) for _, module in made)]
    groups, best = [((), alone), *made][times.index(min(times))]
    outcome.lines.append(f"{name}: {_counted(alone, best, groups)}; simulated cycles {min(times)}, "
                         f"{times[0]} without")  # fmt: skip
    result = mod.clone()
    result[variable] = best[name]
    return result


def _counted(before: IRModule, after: IRModule, groups: Groups) -> str:
    """How many convolutions became how many."""
    merged = sum(len(group) > 0 for group in groups)
    return f"{_convolutions(before) - _convolutions(after) + merged} convolutions become {merged}"


def cycles_of(
    steps: Sequence[Step],
    array: ArrayDescription,
    number_format: str,
    options: ScheduleOptions,
    rehearsed: Rehearsed,
    mod: IRModule,
) -> int:
    """Simulated cycles of the array's programs of ``mod``, behind the passes ``steps``.

    The programs are kept in ``rehearsed``.
    """
    for step in steps:
        mod = step.apply(mod)
    total = 0
    for function in _array_functions(mod):
        workload = region_binding(mod, function).workload
        key = without_names(workload)
        if key not in rehearsed:
            rehearsed[key] = array_code(workload, array, number_format, options)
        total += rehearsed[key].cycles()
    return total


def _array_functions(mod: IRModule) -> list[relax.Function]:
    """What the entry functions of ``mod`` call on the array, as often as they do."""
    called = [
        mod[binding.value.op]
        for _, function in mod.functions_items()
        if isinstance(function, relax.Function) and OP not in (function.attrs or {})
        for binding in bindings_of(function)
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)
    ]
    return [function for function in called if function.attrs[TARGET] == ARRAY]


def _convolutions(mod: IRModule) -> int:
    return sum(
        op_name(binding.value).startswith("relax.nn.conv")
        for _, function in mod.functions_items()
        for binding in bindings_of(function)
    )
