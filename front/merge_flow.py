"""The steps of ``motet.merge``: decide, recover, apply, measure (``merging`` says how)."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from motet import api
from motet.evaluation import Metric, metric_of, runner
from motet.merge_result import Merged
from motet.runtime.progress import Show

if TYPE_CHECKING:
    import onnx

    from motet.compiler.calibration.data import CalibrationData
    from motet.compiler.calibration.importance import Affines, Importance
    from motet.compiler.depth_merging import Candidate, DepthMerger
    from motet.compiler.recovery import Recovered
    from motet.compiler.spec import BundleSpec
    from motet.passes.decisions import Decided, Merge

    Result = tuple[onnx.ModelProto, Decided, list[Recovered]]
    """A merged model, its decisions with the fitted weights, and the fits."""

Recover = Literal["auto", "none", "affine", "bias", "refit"]


@dataclass(frozen=True)
class MergeRequest:
    """What ``merge`` is asked; its parameters have the meanings."""

    remove: tuple[str, ...] = ()
    remove_activations: int | None = None
    latency_budget_ms: float | None = None
    recover: Recover = "auto"
    max_drop: float | None = None
    batch: int | None = None
    samples: int | None = None
    threads: int | None = None

    @property
    def asks_removal(self) -> bool:
        """Whether it says which activations go."""
        budgets = (self.remove_activations, self.latency_budget_ms)
        return bool(self.remove) or any(budget is not None for budget in budgets)


@dataclass
class MergeFlow:
    """One merge, step by step."""

    path: Path
    spec: BundleSpec
    request: MergeRequest
    calibrate: Any
    evaluate: Any
    show: Show
    _checked: onnx.ModelProto | None = None
    _notes: list[str] = field(default_factory=list)

    def run(self) -> Merged:
        """Decide, recover, apply and measure."""
        from motet.compiler.decided_onnx import applicable
        from motet.compiler.depth_merging import depth_merger

        self.show(f"model {self.path.name}")
        data = self._data()
        metric = metric_of(self.evaluate, data) if self.evaluate is not None else None
        merger = depth_merger(self.spec)
        candidates = merger.candidates()
        found, affines = self._importance(candidates, data)
        decided = applicable(
            self._whole(), self._decided(merger, candidates, found, affines), self.path.name
        )
        result, before, after = self._result(decided, data), None, None
        if metric is not None:
            before, after = self._measured(None, metric), self._measured(result[0], metric)
            if self.request.max_drop is not None and before - after > self.request.max_drop:
                order = self._by_importance(decided, found)
                least = before - self.request.max_drop
                result, after = self._within(decided, data, metric, least, order)
        model, decided, fits = result
        self._notes += [f"fit of {fit.output!r}: {fit.note}" for fit in fits if fit.note]
        return Merged(
            path=self.path,
            target=self.spec.target,
            model=model,
            decided=decided,
            candidates=tuple(candidates),
            importance=tuple(found),
            recovered=tuple(fits),
            seconds_before=merger.seconds(),
            seconds_after=merger.seconds(decided),
            metric_before=before,
            metric_after=after,
            notes=tuple(self._notes),
        )

    def pinned(self, decisions: Path) -> Merged:
        """Apply the decisions of a file."""
        from motet.compiler.depth_merging import completed, depth_merger
        from motet.passes.decisions import read_decisions, require_kind

        self.show(f"decisions {decisions}")
        given = require_kind(read_decisions(decisions), "merge", decisions)
        data = self._data()
        metric = metric_of(self.evaluate, data) if self.evaluate is not None else None
        merger = depth_merger(self.spec)
        decided = completed(merger, given)
        model = self._applied(decided)
        return Merged(
            path=self.path,
            target=self.spec.target,
            model=model,
            decided=decided,
            seconds_before=merger.seconds(),
            seconds_after=merger.seconds(decided),
            metric_before=None if metric is None else self._measured(None, metric),
            metric_after=None if metric is None else self._measured(model, metric),
            notes=tuple(self._notes),
        )

    def _data(self) -> CalibrationData | None:
        from motet.compiler.calibration.data import BATCH, calibration_data
        from motet.compiler.calibration.values import model_inputs

        if self.calibrate is None:
            return None
        inputs = model_inputs(self.path, self._shapes)
        batch = self.request.batch or BATCH
        return calibration_data(self.calibrate, inputs, self.path.name, batch, self.request.samples)

    @property
    def _shapes(self) -> Mapping[str, Any]:
        return self.spec.models[0].shapes

    def _model(self) -> onnx.ModelProto:
        """The model as the compiler sees it; read once."""
        from motet.compiler.calibration.values import checked_model

        if self._checked is None:
            self._checked = checked_model(self.path, self._shapes)
        return self._checked

    def _whole(self) -> onnx.ModelProto:
        from motet.compiler.onnx_files import read_whole

        return read_whole(self.path)[0]

    def _importance(
        self, candidates: Sequence[Candidate], data: CalibrationData | None
    ) -> tuple[list[Importance], Affines]:
        """Of every candidate, and of each activation; none without calibration data."""
        from motet.compiler.calibration.importance import importance

        named = [(name,) for name in self.request.remove]
        if data is None or not (candidates or named):
            return [], {}
        trials: dict[str, Sequence[Sequence[str]]] = {}
        for one in candidates:
            trials[f"block {one.number}"] = one.activations
            trials |= {nodes[-1]: (nodes,) for nodes in one.activations}
        return importance(
            self._model(), trials, data, self.path.name, self.show, self.request.threads
        )

    def _decided(
        self,
        merger: DepthMerger,
        candidates: Sequence[Candidate],
        found: Sequence[Importance],
        affines: Affines,
    ) -> Decided:
        from msgspec.structs import replace

        request, options = self.request, merger.options
        maps = affines if self._recovers else {}
        costs = {one.nodes[0][-1]: self._value(one) for one in found if len(one.nodes) == 1}
        if request.remove:
            options = replace(options, remove=(*options.remove, *request.remove))
        if request.latency_budget_ms is not None:
            return merger.within(request.latency_budget_ms / 1e3, options, maps, costs)
        if request.remove_activations is not None and not found:
            options = replace(options, remove_activations=request.remove_activations)
        elif request.remove_activations is not None or self._goes_as_far_as_it_can:
            blocks = self._least(candidates, found, request.remove_activations)
            options = replace(options, remove_blocks=(*options.remove_blocks, *blocks))
        return merger.decided(options, maps, costs)

    @property
    def _recovers(self) -> bool:
        return self.request.recover not in ("none",) and self.calibrate is not None

    @property
    def _goes_as_far_as_it_can(self) -> bool:
        return self.request.max_drop is not None and not self.request.asks_removal

    def _value(self, one: Importance) -> float:
        return one.affine if self._recovers else one.identity

    def _least(
        self, candidates: Sequence[Candidate], found: Sequence[Importance], most: int | None
    ) -> list[int]:
        """Blocks that get faster, of least importance first, with at most ``most`` activations."""
        values = {one.name: self._value(one) for one in found}
        left, taken = most, list[int]()
        useful = [one for one in candidates if one.merge is not None and one.is_faster]
        for one in sorted(useful, key=lambda c: values.get(f"block {c.number}", 0.0)):
            if left is not None and len(one.activations) > left:
                continue
            left = None if left is None else left - len(one.activations)
            taken.append(one.number)
        return taken

    def _result(self, decided: Decided, data: CalibrationData | None) -> Result:
        """The merged model, its decisions with the fitted weights, and the fits."""
        from motet.compiler.recovery import recovered

        fits: list[Recovered] = []
        how = "refit" if self.request.recover == "auto" else self.request.recover
        if data is not None and how in ("bias", "refit"):
            decided, fits = recovered(
                self._model(), decided, data, self.path.name, how, show=self.show,
                threads=self.request.threads,
            )  # fmt: skip
        return self._applied(decided), decided, fits

    def _applied(self, decided: Decided) -> onnx.ModelProto:
        """The file with the merges made, for the sizes that they hold for."""
        from motet.compiler.decided_onnx import apply_merges
        from motet.compiler.decided_sizes import depends_on_sizes, fix_sizes

        model = apply_merges(self._whole(), decided, self.path.name)
        if depends_on_sizes(decided):
            fix_sizes(model, self._shapes)
        return model

    def _within(
        self,
        decided: Decided,
        data: CalibrationData | None,
        metric: Metric,
        least: float,
        order: Sequence[str],
    ) -> tuple[Result, float]:
        """The most merges, the first of ``order`` first, whose metric is at least ``least``.

        All of them are too many. By halving: more merges are taken to give no better metric.
        """
        from motet.compiler.depth_merging import without

        def attempt(count: int) -> tuple[Result, float]:
            result = self._result(without(decided, order[count:]), data)
            return result, self._measured(result[0], metric)

        good, bad, best = 0, len(order), None
        while bad - good > 1:
            tried = attempt((good + bad) // 2)
            if tried[1] >= least:
                good, best = (good + bad) // 2, tried
            else:
                bad = (good + bad) // 2
        self._notes.append(
            f"{len(order) - good} of {len(order)} merges that remove activations were left out: "
            f"with them the metric falls by more than {self.request.max_drop:g}"
        )
        return best or attempt(0)

    def _by_importance(self, decided: Decided, found: Sequence[Importance]) -> list[str]:
        """Outputs of the merges that remove activations, least important first."""
        single = {one.nodes[0]: self._value(one) for one in found if len(one.nodes) == 1}
        whole = {one.nodes: self._value(one) for one in found}

        def value(merge: Merge) -> float:
            nodes = tuple(removed.nodes for removed in merge.removed)
            return whole.get(nodes, sum(single.get(one, 1.0) for one in nodes))

        approximate = [m for m in decided.decisions.merges if m.removed]
        return [m.output for m in sorted(approximate, key=value)]

    def _measured(self, model: onnx.ModelProto | None, metric: Metric) -> float:
        """The metric of ``model``, of the file itself where None."""
        self.show("metric")
        with tempfile.TemporaryDirectory(prefix="motet-") as folder:
            path = self._written(model, folder)
            bundle = api.compile(path, shapes=self._shapes)
        (session,) = api.load(bundle, threads=self.request.threads).values()
        return metric(runner(session))

    def _written(self, model: onnx.ModelProto | None, folder: str) -> Path:
        from motet.compiler.onnx_files import write_whole

        if model is None:
            return self.path
        path = Path(folder) / self.path.name
        write_whole(model, path)
        return path
