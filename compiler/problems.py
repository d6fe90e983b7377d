"""The schedule problems of a bundle: what its host kernels may be tuned for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from motet.compiler.compile import CompileOptions, code_of, transformed
from motet.compiler.spec import BundleSpec
from motet.runtime.program import Kernel, Program
from motet.targets.host.machine import Machine, machine_for
from motet.targets.host.meta_schedule.tuning import HostUnit
from motet.targets.host.space import Family, Point, Problem, first_point, selecting
from motet.targets.host.tuning import Operator


@dataclass
class _Recorder:
    """Notes which problems a kernel asks a choice for; takes the hand-written ones."""

    by_symbol: dict[str, list[Problem]] = field(default_factory=dict)
    _asked: list[Problem] = field(default_factory=list)

    def choose(
        self, family: Family, problem: Problem, points: Sequence[Point], machine: Machine
    ) -> Point:
        self._asked.append(problem)
        return first_point(family, problem, points, machine)

    def kernel(self, symbol: str, _function: Any) -> None:
        """A kernel is done: what was asked since the one before is its own."""
        self.by_symbol.setdefault(symbol, self._asked)
        self._asked = []


def operators_to_tune(spec: BundleSpec, options: CompileOptions | None = None) -> list[Operator]:
    """The distinct problems of ``spec``'s host kernels; no kernel is compiled.

    Raises what ``compile_bundle`` raises before it makes code.
    """
    options = options or CompileOptions()
    done = transformed(spec, options)
    recorder = _Recorder()
    with selecting(recorder.choose):
        programs, _ = code_of(spec, done, machine_for(spec.host.cpu), options, recorder.kernel)
    return _counted(programs, recorder.by_symbol)


def units_to_tune(spec: BundleSpec, options: CompileOptions | None = None) -> list[HostUnit]:
    """The distinct units of ``spec``'s host kernels; no kernel is compiled.

    Raises what ``compile_bundle`` raises before it makes code.
    """
    options = options or CompileOptions()
    done, machine = transformed(spec, options), machine_for(spec.host.cpu)
    programs, code = code_of(spec, done, machine, options, lambda _symbol, _kernel: None)
    nodes: dict[str, list[str]] = {}
    for name, program in programs.items():
        for step in program.instructions:
            if isinstance(step, Kernel):
                own = program.operators[step.operator].onnx_nodes
                nodes.setdefault(step.symbol, []).append(f"{name}/{own[0]}" if own else name)
    return [
        HostUnit(unit, constants, len(nodes[kernel.symbol]), tuple(nodes[kernel.symbol]))
        for unit, constants, kernel in code.host.units
        if kernel.symbol in nodes
    ]


def _counted(
    programs: Mapping[str, Program], by_symbol: Mapping[str, Iterable[Problem]]
) -> list[Operator]:
    uses: Counter[Problem] = Counter()
    nodes: dict[Problem, dict[str, None]] = {}
    for name, program in programs.items():
        for step in program.instructions:
            if not isinstance(step, Kernel):
                continue
            for problem in by_symbol.get(step.symbol, ()):
                uses[problem] += 1
                own = program.operators[step.operator].onnx_nodes
                nodes.setdefault(problem, {}).update(dict.fromkeys(f"{name}/{n}" for n in own[:1]))
    return [Operator(problem, count, tuple(nodes[problem])) for problem, count in uses.items()]
