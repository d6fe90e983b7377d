"""What an array would do with models: programs, their cycles and energy; no values, no host.

The timing and energy views of every array region of a model, one region after another. What
the host runs is listed and not timed: ``motet bench`` and ``motet run`` measure a bundle.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from motet.passes.options import ScheduleOptions
from motet.runtime.device import ProgramCounts, StepCounts
from motet.runtime.progress import Show, silent
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.work import ModelWork, Stage

if TYPE_CHECKING:
    from motet.targets.systolic.instructions.program import SystolicProgram
    from motet.targets.systolic.mappings.file import Constraints
    from motet.targets.systolic.mappings.mapping import Mapping as TileMapping


@dataclass(frozen=True)
class SimulatedStage:
    """A region of the array with its counts, or an operator of the host without, and its bytes."""

    op: str
    kind: str
    onnx_nodes: tuple[str, ...]
    macs: int
    counts: ProgramCounts | None = None
    bytes: int = 0


@dataclass(frozen=True)
class SimulatedModel:
    """One run of one model on a simulated array, regions one after another.

    clock_hz: of the array. placement: what was placed where, and why, in a line.
    """

    model: str
    array: str
    number_format: str
    clock_hz: float
    peak_macs_per_cycle: int
    stages: tuple[SimulatedStage, ...]
    placement: str = ""

    @property
    def regions(self) -> list[ProgramCounts]:
        """The counts of all regions, in order."""
        return [stage.counts for stage in self.stages if stage.counts is not None]

    @property
    def steps(self) -> list[StepCounts]:
        """The steps of all regions, in order; their cycles count on from region to region."""
        from motet.targets.systolic.simulation.sequence import counts_together

        regions = self.regions
        return list(counts_together(regions).steps) if regions else []

    @property
    def host(self) -> list[SimulatedStage]:
        """What the host runs."""
        return [stage for stage in self.stages if stage.counts is None]

    @property
    def cycles(self) -> int:
        """Cycles of all regions, memories included."""
        return sum(region.cycles for region in self.regions)

    @property
    def seconds(self) -> float:
        """Simulated seconds of all regions; the host's part is not in it."""
        return self.cycles / self.clock_hz

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all operators, wherever they run."""
        return sum(stage.macs for stage in self.stages)

    @property
    def array_macs(self) -> int:
        """Multiply-accumulates of the regions."""
        return sum(region.macs for region in self.regions)

    @property
    def array_share(self) -> float:
        """``array_macs / macs``, 0 to 1."""
        return self.array_macs / self.macs if self.macs else 0.0

    @property
    def utilisation(self) -> float:
        """``array_macs`` / (cycles x processing elements of all pods), 0 to 1."""
        peak = self.cycles * self.peak_macs_per_cycle
        return self.array_macs / peak if peak else 0.0

    @property
    def speed_of_light(self) -> int:
        """The larger of the regions' summed compute, scratchpad and DRAM bounds, in cycles."""
        steps = self.steps
        bounds = (
            sum(step.compute_bound for step in steps),
            sum(step.scratchpad_bound for step in steps),
            sum(step.dram_bound for step in steps),
        )
        return max(bounds)

    @property
    def dram_bytes(self) -> int:
        """Bytes between DRAM and scratchpads, both ways."""
        return sum(region.dram_read_bytes + region.dram_write_bytes for region in self.regions)

    @property
    def energy_joules(self) -> dict[str, float]:
        """Energy by component; empty where the description has no figures."""
        return _summed(region.energy_joules for region in self.regions)

    @property
    def stalls(self) -> dict[str, int]:
        """Cycles of all pods' arrays by what they did or waited for."""
        return {k: int(v) for k, v in _summed(region.stalls for region in self.regions).items()}

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data; the keys name their units."""
        return {
            "model": self.model,
            "array": self.array,
            "number_format": self.number_format,
            "clock_hz": self.clock_hz,
            "cycles": self.cycles,
            "seconds_simulated": self.seconds,
            "macs": self.macs,
            "array_macs": self.array_macs,
            "array_share": self.array_share,
            "utilisation": self.utilisation,
            "speed_of_light_cycles": self.speed_of_light,
            "dram_bytes": self.dram_bytes,
            "energy_joules": self.energy_joules,
            "stall_cycles": self.stalls,
            "layers": [step_row(self.model, step) for step in self.steps],
            "host_operators": [
                {"op": s.op, "kind": s.kind, "onnx_nodes": list(s.onnx_nodes), "macs": s.macs}
                for s in self.host
            ],
            "placement": self.placement,
        }


def step_row(model: str, step: StepCounts) -> dict[str, Any]:
    """One layer as a flat record; the keys name their units."""
    facts = asdict(step)
    return {
        "model": model,
        "layer": facts.pop("name"),
        **{_UNITS.get(key, key): value for key, value in facts.items()},
        "speed_of_light_cycles": step.speed_of_light,
    }


_UNITS = {
    "compute_bound": "compute_bound_cycles",
    "scratchpad_bound": "scratchpad_bound_cycles",
    "dram_bound": "dram_bound_cycles",
}


def _summed(parts: Iterable[Mapping[str, float]]) -> dict[str, float]:
    total: Counter[str] = Counter()
    for part in parts:
        for key, value in part.items():
            total[key] += value  # type: ignore[assignment]
    return dict(total)


@dataclass
class ArraySimulator:
    """Compiles and times workloads on one array; equal workloads once.

    Attributes
    ----------
    number_format: "fp32", or what the models would be quantised to; "int8" and "int4" are
        what-ifs for float models (``workload.what_if``).
    schedule: how operators that do not depend on each other share the pods, as a bundle's programs.
    pods: the most that a model's programs use, by model.
    constraints: what a mapping file pins, by model. programs: by region's operator name; mappings:
        by model and layer; both are filled as models are simulated.
    """

    description: ArrayDescription
    number_format: str = "fp32"
    constraints: Mapping[str, Constraints] = field(default_factory=dict)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    programs: dict[str, SystolicProgram] = field(default_factory=dict)
    mappings: dict[str, dict[str, TileMapping]] = field(default_factory=dict)
    pods: Mapping[str, int] = field(default_factory=dict)
    _known: dict[tuple[str, int | None, Workload], tuple[Any, ProgramCounts]] = field(
        default_factory=dict
    )

    def model(self, work: ModelWork, show: Show = silent) -> SimulatedModel:
        """Every region of a model; raises ``CompileError`` where one does not fit the array."""
        stages = []
        for stage in work.stages:
            show(f"{work.model}: {stage.op}")
            counts = self._stage(work.model, stage)
            stages.append(
                SimulatedStage(
                    stage.op, stage.kind, stage.onnx_nodes, stage.macs, counts, stage.bytes
                )
            )
        return SimulatedModel(
            work.model,
            self.description.name,
            self.number_format,
            self.description.clock_hz,
            self.description.elements,
            tuple(stages),
            work.placement,
        )

    def _stage(self, model: str, stage: Stage) -> ProgramCounts | None:
        """The counts of a stage of the array; None for an operator of the host."""
        from motet.targets.systolic.simulation.counts import program_counts

        if stage.program is not None:
            self.programs[stage.op] = stage.program
            return program_counts(stage.program, self.description)
        return None if stage.workload is None else self._region(model, stage.op, stage.workload)

    def _region(self, model: str, name: str, workload: Workload) -> ProgramCounts:
        """The counts of one workload; models without constraints share what is known."""
        constraints = self.constraints.get(model)
        pods = self.pods.get(model)
        key = (model if constraints else "", pods, workload)
        if key not in self._known:
            self._known[key] = self._compiled(workload, constraints, pods)
        compiled, counts = self._known[key]
        self.programs[name] = compiled.program
        self.mappings.setdefault(model, {}).update(compiled.mappings)
        return counts

    def _compiled(
        self, workload: Workload, constraints: Constraints | None, pods: int | None
    ) -> tuple[Any, ProgramCounts]:
        from motet.passes.scheduling.array_limited import compile_limited
        from motet.passes.scheduling.array_stages import compile_scheduled
        from motet.targets.systolic.simulation.counts import program_counts
        from motet.targets.systolic.workload.what_if import in_format

        changed, made = in_format(workload, self.number_format)
        if pods is not None and not constraints:
            limited = compile_limited(changed, self.description, made, pods)
            return limited, program_counts(limited.program, self.description)
        compiled = compile_scheduled(changed, self.description, made, constraints, self.schedule)
        return compiled, program_counts(compiled.program, self.description)


def combined(models: Sequence[SimulatedModel]) -> dict[str, float]:
    """Totals over several models, run one after another: what ``explore`` compares."""
    return {
        "cycles": sum(model.cycles for model in models),
        "seconds_simulated": sum(model.seconds for model in models),
        "energy_joules": sum(sum(model.energy_joules.values()) for model in models),
        "macs": sum(model.macs for model in models),
        "array_macs": sum(model.array_macs for model in models),
        "dram_bytes": sum(model.dram_bytes for model in models),
    }
