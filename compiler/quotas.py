"""Quotas of models: what of them is known when compiling, and the bundle's form of the rest."""

from __future__ import annotations

from collections.abc import Mapping

from motet.compiler.spec import BundleSpec, QuotaSpec
from motet.compiler.spec_keys import DEFAULT_SOURCE, Keys
from motet.runtime.manifest import Quota
from motet.runtime.program import Program
from motet.targets.systolic.architecture import ArrayDescription

MIB = 2**20


def quota_of(asked: QuotaSpec) -> Quota:
    """As a bundle holds it, in bytes."""
    arena = None if asked.arena_mib is None else int(asked.arena_mib * MIB)
    return Quota(arena, asked.threads, asked.pods, asked.time_share)


def check_pods(spec: BundleSpec, array: ArrayDescription | None) -> None:
    """Raise ``SpecError`` where a model may have pods that there are not."""
    for model in spec.models:
        pods = model.quota.pods
        if pods is None:
            continue
        place = Keys(DEFAULT_SOURCE).child("models").child(model.name).child("quota").child("pods")
        if array is None:
            raise place.error("the target is the host, which has no pods: leave it out")
        if pods > array.pod_count:
            raise place.error(
                f"{pods} pods, and the array {array.name!r} has {array.pod_count}: give at most "
                "so many, or leave it out"
            )
        if spec.passes.schedule.file:
            raise place.error("the stages of passes.schedule.file say their pods: leave one out")


def check_arenas(spec: BundleSpec, programs: Mapping[str, Program]) -> None:
    """Raise ``SpecError`` for a model whose arena is known, and more than it may have."""
    for model in spec.models:
        most, size = model.quota.arena_mib, programs[model.name].arena_bytes
        if most is not None and size is not None and size > most * MIB:
            place = Keys(DEFAULT_SOURCE).child("models").child(model.name).child("quota")
            raise place.child("arena_mib").error(
                f"{most:g} MiB, and a run needs an arena of {size / MIB:.4g} MiB: give it that, or "
                "a smaller model or input"
            )
