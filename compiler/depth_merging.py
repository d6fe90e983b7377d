"""Depth merging of one model on its own: candidates, decisions and estimated times.

The model is imported as for a bundle, ``merge_depth`` runs on it with different options, and
nothing is compiled. ``decided_onnx`` then makes the ONNX file of a decision, and ``recovery``
fits its kernels.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from msgspec.structs import replace
from tvm import IRModule

import motet.passes.error_classes  # noqa: F401 - what the pass raises keeps its class
from motet.compiler.frontend.load import merge as joined
from motet.compiler.importing import imported
from motet.compiler.spec import BundleSpec
from motet.passes.canonicalize import canonicalize
from motet.passes.decisions import Decided, Decision, Decisions, Kept, Merge, Removed
from motet.passes.graph import definitions
from motet.passes.merge_depth import MergeRecord, merge_depth
from motet.passes.merging.cost import SpanCosts
from motet.passes.options import MergeDepthOptions
from motet.passes.unit_cost import ArrayTarget, HostTarget, Target
from motet.runtime.device import Array
from motet.runtime.errors import CompileError, SpecError
from motet.runtime.progress import silent
from motet.targets.host.machine import machine_for
from motet.targets.systolic.architecture_file import load_architecture

Activations = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Candidate:
    """A block that merges once its activations are gone, or why it does not.

    number: as options count blocks. activations: nodes of each, in order. merge: what comes
    of it, priced on the target; None where ``reason`` says why not.
    """

    number: int
    activations: Activations
    merge: Merge | None
    reason: str

    @property
    def name(self) -> str:
        """Of its last node."""
        return self.merge.output if self.merge is not None else self.activations[-1][-1]

    @property
    def is_faster(self) -> bool:
        """Whether the merge is estimated to take less time."""
        made = self.merge
        if made is None or made.seconds_before is None or made.seconds_after is None:
            return made is not None
        return made.seconds_after < made.seconds_before


@dataclass(frozen=True)
class DepthMerger:
    """One model, imported, on its target.

    path: of the ONNX file. target: what spans are priced on.
    """

    path: Path
    name: str
    module: IRModule
    target: Target
    options: MergeDepthOptions = field(default_factory=MergeDepthOptions)

    def decided(
        self,
        options: MergeDepthOptions,
        affines: Mapping[str, Array] | None = None,
        importance: Mapping[str, float] | None = None,
    ) -> Decided:
        """What the pass decides; ``affines`` are told in it. Arguments as ``merge_depth``'s."""
        record = MergeRecord()
        stand_ins = dict(affines or {})
        merge_depth(
            options, self.target, record, affines=stand_ins, importance=dict(importance or {})
        )(self.module)
        return _with_affines(record.decided, stand_ins)

    def candidates(self) -> list[Candidate]:
        """Every block, merged on its own if its activations go, in graph order."""
        plain = self.decided(replace(self.options, **_NOTHING_REMOVED))
        blocks: dict[int, list[tuple[str, ...]]] = {}
        for kept in plain.decisions.kept:
            if kept.block >= 0 and kept.removable:
                blocks.setdefault(kept.block, []).extend(kept.removable)
        wanted = replace(
            self.options, **{**_NOTHING_REMOVED, "remove_blocks": tuple(blocks), "exact": False}
        )
        tried = self.decided(wanted)
        return [
            _candidate(number, tuple(dict.fromkeys(found)), tried.decisions.decisions)
            for number, found in sorted(blocks.items())
        ]

    def seconds(self, decided: Decided | None = None) -> float:
        """Estimated time of the whole model on the target, with the merges of ``decided``."""
        module = self.module
        if decided is not None:
            module = merge_depth(self.options, self.target, given=decided)(module)
        function = module[self.name]
        return SpanCosts(self.target, definitions(function)).of_function(function)

    def within(
        self,
        limit: float,
        options: MergeDepthOptions,
        affines: Mapping[str, Array],
        importance: Mapping[str, float],
    ) -> Decided:
        """Merges that bring the model to ``limit`` seconds at the least importance.

        The pass prices spans apart, of which the whole may save more than their sum: merges that
        the whole then does not need are left out again, the most important first.

        Raises ``CompileError`` where no merges reach it.
        """
        asked = replace(options, latency_budget_ms=limit * 1e3, remove_activations=None)
        try:
            decided = self.decided(asked, affines, importance)
        except CompileError:
            most = replace(asked, latency_budget_ms=None, remove_activations=_ALL)
            decided = self.decided(most, affines, importance)
            if self.seconds(decided) > limit:
                raise
        removing = [merge for merge in decided.decisions.merges if merge.removed]
        for merge in sorted(removing, key=lambda m: -_importance(m, importance)):
            fewer = without(decided, [merge.output])
            if self.seconds(fewer) <= limit:
                decided = fewer
        return decided


_ALL = 2**31 - 1
_NOTHING_REMOVED = {
    "remove_blocks": (),
    "remove": (),
    "remove_activations": None,
    "latency_budget_ms": None,
}


def depth_merger(spec: BundleSpec) -> DepthMerger:
    """The one model of ``spec``, imported. Raises ``SpecError``, ``ModelError``."""
    if len(spec.models) != 1:
        raise SpecError(f"merge: one model at a time; the specification has {len(spec.models)}")
    (model,) = imported(spec, silent)
    module = canonicalize(joined([model]))
    return DepthMerger(model.path, model.name, module, target_of(spec), spec.passes.merge_depth)


def target_of(spec: BundleSpec) -> Target:
    """What a specification's operators are priced on."""
    machine = machine_for(spec.host.cpu)
    host = HostTarget(machine, spec.host.threads or machine.cores)
    if spec.target == "host":
        return host
    return ArrayTarget(load_architecture(spec.target), spec.array.format, host)


def _importance(merge: Merge, importance: Mapping[str, float]) -> float:
    """Of all activations that ``merge`` removes; 1 for each that is not known."""
    return sum(importance.get(removed.nodes[-1], 1.0) for removed in merge.removed)


def _candidate(number: int, activations: Activations, tried: Iterable[Decision]) -> Candidate:
    own = [d for d in tried if isinstance(d, (Merge, Kept)) and d.block == number]
    made = [d for d in own if isinstance(d, Merge) and d.removed]
    whole = made[0] if len(made) == 1 else None
    if whole is not None and tuple(r.nodes for r in whole.removed) == activations:
        return Candidate(number, activations, whole, "")
    reasons = [d.reason for d in own if isinstance(d, Kept) and d.removable]
    told = "; ".join(dict.fromkeys(reasons)) or "only parts of it would merge"
    return Candidate(number, activations, None, told)


def _with_affines(decided: Decided, affines: Mapping[str, Array]) -> Decided:
    """The maps that stand in for removed activations, told where they are removed."""
    weights = dict(decided.weights)

    def told(removed: Removed) -> Removed:
        found = next((affines[name] for name in removed.nodes if name in affines), None)
        if found is None:
            return removed
        key = f"{removed.nodes[-1]}.affine"
        weights[key] = found.astype("float32")
        return replace(removed, affine=key)

    decisions = tuple(
        replace(d, removed=tuple(map(told, d.removed))) if isinstance(d, Merge) else d
        for d in decided.decisions.decisions
    )
    return Decided(Decisions(decisions=decisions), weights)


def completed(merger: DepthMerger, decided: Decided) -> Decided:
    """``decided`` with merges whose ``weight`` is "" computed, their other numbers too.

    Raises ``SpecError`` where no merge comes of one.
    """
    open_merges = [merge for merge in decided.decisions.merges if not merge.weight]
    if not open_merges:
        return decided
    wanted = tuple(name for m in open_merges for r in m.removed for name in r.nodes)
    options = replace(merger.options, **{**_NOTHING_REMOVED, "remove": wanted})
    made = merger.decided(options)
    found = {merge.output: merge for merge in made.decisions.merges}
    missing = next((m.output for m in open_merges if m.output not in found), None)
    if missing is not None:
        raise SpecError(
            f"decisions: no merge comes out at {missing!r} without the activations that they "
            "remove; give its weights, or leave it out"
        )
    decisions = tuple(
        found[d.output] if isinstance(d, Merge) and not d.weight else d
        for d in decided.decisions.decisions
    )
    return Decided(replace(decided.decisions, decisions=decisions),
                   {**made.weights, **decided.weights})  # fmt: skip


def without(decided: Decided, outputs: Iterable[str]) -> Decided:
    """``decided`` but for the merges at ``outputs``."""
    dropped = set(outputs)
    kept = tuple(
        d for d in decided.decisions.decisions if not (isinstance(d, Merge) and d.output in dropped)
    )
    return Decided(replace(decided.decisions, decisions=kept), decided.weights)
