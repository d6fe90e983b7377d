"""The array programs that a timetable needs beside those for the whole array.

For every place in which the timetable has an array call of a model (its pods, or two models
together) a program is compiled for those pods, timed as the timetable counted on: with the
bandwidth that comes with them, on fewer pods where these are as fast.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from msgspec import structs

from motet.compiler.kernels import ArrayPrograms
from motet.compiler.spec import BundleSpec
from motet.runtime.bundle import Bundle
from motet.runtime.errors import BundleError, CompileError, SpecError
from motet.runtime.pod_programs import (
    Calls,
    Place,
    PodProgram,
    array_calls,
    array_slots,
    place_of,
    verify_pod_programs,
)
from motet.runtime.program import Program
from motet.runtime.timetable import Timetable, of_rates
from motet.runtime.verify_timetable import verify_timetable
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.workload.graph import Workload

Show = Callable[[str], None]

REMEDY = "make it anew with 'motet timetable -o' from what is compiled"


@dataclass(frozen=True)
class NamedTimetable:
    """A timetable, and what messages call it."""

    table: Timetable
    where: str

    def check(self, spec: BundleSpec) -> None:
        """Raise ``SpecError`` where it is another machine's, or of other models or rates."""
        rates = {model.name: model.rate_hz for model in spec.models}
        machine = "host" if spec.target == "host" else load_architecture(spec.target).name
        of_rates(self.table, rates, machine, self.where)


@dataclass(frozen=True)
class Region:
    """What an array call does, and its program for the whole array."""

    workload: Workload
    name: str
    data: bytes


@dataclass
class PodPrograms:
    """Makes the programs of a timetable; ``data`` has their bytes by name.

    where: what messages call the timetable. show: told before a program is made. quotas: of pods,
    of the models that have one.
    """

    description: ArrayDescription
    number_format: str
    where: str
    show: Show
    quotas: Mapping[str, int] = field(default_factory=dict)
    data: dict[str, bytes] = field(default_factory=dict)

    def made(self, timetable: Timetable, regions: Mapping[str, list[Region]]) -> list[PodProgram]:
        """Programs by place; none where the program for the whole array is what the slots need.

        Raises ``SpecError`` for a timetable of another format or other stages, or whose slots are
        too short.
        """
        if timetable.number_format != self.number_format:
            raise SpecError(
                f"{self.where}: its times are in {timetable.number_format}, and the programs are in"
                f" {self.number_format}: make it anew with --format {self.number_format}"
            )
        found = []
        for place, ticks in _places(timetable).items():
            for model, number in place[0]:
                if number >= len(regions[model]):
                    raise SpecError(
                        f"{self.where}: model {model!r} has {len(regions[model])} stages on the "
                        f"array, and a frame of the timetable has {number + 1}: {REMEDY}"
                    )
            parts = [regions[model][number] for model, number in place[0]]
            made = self._joint(place, parts, ticks) if len(parts) > 1 else None
            made = made or self._alone(place, parts[0], ticks)
            found += [made] if made.program not in {part.name for part in parts} else []
        return found

    def _joint(self, place: Place, parts: list[Region], ticks: tuple[int, ...]) -> PodProgram:
        """Two regions as one program."""
        from motet.passes.scheduling.shared_programs import joint_program
        from motet.targets.systolic.instructions.encoding import encode

        calls, first, pods = place
        if held := [model for model, _ in calls if model in self.quotas]:
            raise SpecError(
                f"{self.where}: {_text(calls)} have all pods as one program, and model "
                f"{held[0]!r} has quota.pods = {self.quotas[held[0]]}: {REMEDY}"
            )
        self.show(f"{_text(calls)} as one program")
        one, other = (part.workload for part in parts)
        try:
            made = joint_program(one, other, self.description, self.number_format)
        except CompileError as error:
            raise SpecError(f"{self.where}: {_text(calls)}: {error}") from error
        if any(a > b for a, b in zip(made.ends, ticks, strict=True)):
            raise self._too_short(place, max(made.ends), max(ticks))
        name = self._kept(encode(made.program), f"joint_{first}_{pods}")
        return PodProgram(calls, first, pods, pods, name, made.timing.cycles, made.ends)

    def _alone(self, place: Place, region: Region, ticks: tuple[int, ...]) -> PodProgram:
        """A region on the pods of its place, or on fewer of them."""
        calls, first, pods = place
        least = None
        for share, data, cycles in self._candidates(region, first, pods, calls):
            least = cycles if least is None else min(least, cycles)
            if cycles <= ticks[0]:
                is_whole = data is region.data
                name = region.name if is_whole else self._kept(data, f"pods_{first}_{share}")
                return PodProgram(calls, first, pods, share, name, cycles, (cycles,))
        raise self._too_short(place, least, ticks[0])

    def _candidates(
        self, region: Region, first: int, pods: int, calls: Calls
    ) -> Iterator[tuple[int, bytes, int]]:
        """Programs for the pods, then for fewer of them: pods, bytes and cycles."""
        from motet.passes.scheduling.pod_times import shares_to_time
        from motet.passes.scheduling.shared_programs import pod_program
        from motet.targets.systolic.instructions.encoding import decode, encode
        from motet.targets.systolic.simulation.timing import simulate
        from motet.targets.systolic.slices import sliced

        whole = self.description.pod_count
        if pods == whole:
            yield pods, region.data, simulate(decode(region.data), self.description).cycles
        most = min(pods, self.quotas.get(calls[0][0], pods))
        for share in sorted({*shares_to_time(self.description), most}, reverse=True):
            if share > most or share == whole:
                continue
            self.show(f"{_text(calls)} on pods {first} to {first + share - 1}")
            try:
                program = pod_program(
                    region.workload, self.description, self.number_format,
                    range(first, first + share),
                )  # fmt: skip
            except CompileError:
                continue  # it does not fit so few
            yield share, encode(program), simulate(program, sliced(self.description, share)).cycles

    def _kept(self, data: bytes, kind: str) -> str:
        """The name of a program; its pods are in it, as its bandwidth hangs on them."""
        name = f"{kind}_{hashlib.sha256(data).hexdigest()[:16]}"
        self.data[name] = data
        return name

    def _too_short(self, place: Place, cycles: int | None, ticks: int) -> SpecError:
        calls, first, pods = place
        takes = "does not fit them" if cycles is None else f"takes {cycles} cycles"
        return SpecError(
            f"{self.where}: {_text(calls)} on pods {first} to {first + pods - 1} has {ticks} cycles"
            f" in the timetable, and its program {takes}: {REMEDY}"
        )


def _places(timetable: Timetable) -> dict[Place, tuple[int, ...]]:
    """The places of a timetable, and the fewest ticks that each call has there."""
    found: dict[Place, tuple[int, ...]] = {}
    for slot, calls in array_slots(timetable):
        place, ticks = place_of(slot, calls), tuple(stage.done_ticks for stage in slot.stages)
        known = found.get(place, ticks)
        found[place] = tuple(min(pair) for pair in zip(known, ticks, strict=True))
    return dict(sorted(found.items()))


def _text(calls: Calls) -> str:
    """``model 'a' array stage 0``, or two of them."""
    return " and ".join(f"model {model!r} array stage {number}" for model, number in calls)


def regions_of(
    programs: Mapping[str, Program], workloads: Mapping[str, Workload], data: Mapping[str, bytes]
) -> dict[str, list[Region]]:
    """The array calls of every model, in order. workloads, data: by programs' names."""
    return {
        model: [
            Region(workloads[call.program], call.program, data[call.program])
            for call in array_calls(program)
        ]
        for model, program in programs.items()
    }


def with_timetable(
    bundle: Bundle, timetable: NamedTimetable, array: ArrayPrograms | None, show: Show
) -> Bundle:
    """``bundle`` with the timetable, and the array programs that its slots need.

    array: what made the bundle's; None for the host.
    """
    manifest = structs.replace(bundle.manifest, timetable=timetable.table)
    if array is None:
        return replace(bundle, manifest=manifest)
    maker = PodPrograms(array.description, array.number_format, timetable.where, show, array.pods)
    regions = regions_of(bundle.programs, array.workloads, array.programs)
    made = tuple(maker.made(timetable.table, regions))
    programs = {**bundle.array_programs, **maker.data}
    verify_pod_programs(made, bundle.programs, programs)
    try:
        verify_timetable(timetable.table, made, bundle.programs)
    except BundleError as error:
        raise SpecError(f"{timetable.where}: {error}") from error
    manifest = structs.replace(manifest, pod_programs=made)
    return replace(bundle, manifest=manifest, array_programs=programs)
