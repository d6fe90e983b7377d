"""Whether a bundle's array programs keep to their pods: those of slots, and those of quotas.

A model's own programs use the first pods, up to its quota. A program that the bundle has for a
slot of its timetable uses the pods that it was made for, and no more of them than the quota of any
model that it is of. And whatever a slot runs, which is the model's own program where there is none
for its pods, uses no pods but the slot's, so that slots side by side share none.
"""

from __future__ import annotations

from functools import lru_cache

from motet.runtime.bundle import Bundle
from motet.runtime.errors import ProgramError
from motet.runtime.pod_programs import array_calls, slot_programs
from motet.runtime.verify_timetable import verify_timetable
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.encoding import decode
from motet.targets.systolic.instructions.pods_used import used_range


def check_pods_of_bundle(bundle: Bundle, description: ArrayDescription) -> None:
    """Raise ``ProgramError`` where programs use other pods than they may, ``BundleError`` where the
    timetable gives pods that it has not.
    """
    _Check(bundle, description).check()


class _Check:
    def __init__(self, bundle: Bundle, description: ArrayDescription) -> None:
        self.bundle, self.manifest = bundle, bundle.manifest
        self.pods = description.pod_count
        quotas = {entry.name: entry.quota.pods for entry in bundle.manifest.models}
        self.quotas = {name: pods for name, pods in quotas.items() if pods is not None}
        self.used = lru_cache(None)(lambda name: used_range(decode(bundle.array_programs[name])))

    def check(self) -> None:
        for model, quota in self.quotas.items():
            calls = array_calls(self.bundle.programs[model])
            for name in sorted({call.program for call in calls}):
                self._check_quota(name, model, quota, self.used(name).stop)
        for one in self.manifest.pod_programs:
            own = range(one.first_pod, one.first_pod + one.share)
            self._check_range(one.program, own)
            for model in sorted({model for model, _ in one.calls} & self.quotas.keys()):
                self._check_quota(
                    one.program, model, self.quotas[model], len(self.used(one.program))
                )
        self._check_slots()

    def _check_slots(self) -> None:
        table = self.manifest.timetable
        if table is None:
            return
        verify_timetable(table, self.manifest.pod_programs, self.bundle.programs)
        if table.pods != self.pods:
            raise ProgramError(
                f"the bundle's timetable is for {table.pods} pods, and its array has {self.pods}: "
                "compile it with another"
            )
        made, programs = self.manifest.pod_programs, self.bundle.programs
        for slot, _, name in slot_programs(table, made, programs):
            self._check_range(name, range(slot.first_pod, slot.first_pod + slot.pods))

    def _check_range(self, name: str, pods: range) -> None:
        used = self.used(name)
        if used and (used.start < pods.start or used.stop > pods.stop):
            raise ProgramError(
                f"array program {name!r} uses pods {used.start} to {used.stop - 1}, and the "
                f"bundle's timetable gives it {pods.start} to {pods.stop - 1}: compile the bundle "
                "again"
            )

    def _check_quota(self, name: str, model: str, quota: int, count: int) -> None:
        used = self.used(name)
        if count > quota:
            raise ProgramError(
                f"model {model!r}: an array program of its uses pods {used.start} to "
                f"{used.stop - 1}, its quota is {quota}: compile the bundle again"
            )
