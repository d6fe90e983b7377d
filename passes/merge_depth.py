"""Merges convolutions that follow each other into one dense convolution.

Found by data flow, in any graph of Relax calls (``merging.chains``): plain convolutions,
pointwise-depthwise-pointwise with and without a shortcut, of any kernel, stride, dilation,
groups and padding; batch-norms, constant scales and shifts, zero padding, transposes that undo
each other and views may stand anywhere between. The formulas are ``merging.algebra``'s.

1. Convolutions with no activation between them merge where that is estimated to be faster on
   the target: exact, up to rounding, at the border too. There the merged bias is a map where the
   second convolution pads, and where it would reach the operand the outermost results are
   computed by the layers as they were (a strip); else they stay apart.
2. With an activation between them they merge only where the options remove it: by block, by
   its ONNX node, or within a budget of activations or of time. An approximation.
3. A value that something else reads stays, and so do the convolutions around it.

Runs before ``fold_batch_norm``, which would fold parts of activations that are written out. Every
merge, and why other convolutions stay apart, is in ``MergeRecord.decided``, keyed by ONNX nodes.

Sources: Fu et al., ICML 2022 (arXiv 2206.00843), section 3; Kim et al., ICML 2023 (arXiv
2301.12187), sections 3 and 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tvm import IRModule, relax

from motet.passes.dead_code import dead_code
from motet.passes.decisions import Decided, Decisions, Kept, Merge
from motet.passes.graph import definitions
from motet.passes.merging.blocks import Blocks, missing_blocks
from motet.passes.merging.chains import chains_of
from motet.passes.merging.choosing import Chooser, Plan, Wish
from motet.passes.merging.cost import SpanCosts
from motet.passes.merging.emit import emit_activation, emit_merged
from motet.passes.merging.records import Recorded, line_of, recorded, summary_of
from motet.passes.merging.spans import Affines, Merged
from motet.passes.names import OP, with_names
from motet.passes.options import MergeDepthModel, MergeDepthOptions
from motet.passes.rewrite import Rewriter
from motet.passes.unit_cost import Target
from motet.runtime.device import Array
from motet.runtime.errors import SpecError


@dataclass
class MergeRecord:
    """What the pass did, filled as it runs.

    decisions: of all functions, in graph order. weights: of the merged convolutions, in
    float32 (or the model's type), under the keys that the decisions name. plans: by function.
    """

    decisions: list[Merge | Kept] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    plans: dict[str, Plan] = field(default_factory=dict)

    @property
    def decided(self) -> Decided:
        """As what is written beside a model."""
        return Decided(Decisions(decisions=tuple(self.decisions)), dict(self.weights))

    @property
    def summary(self) -> str:
        """In a line: how many merged, and why others did not."""
        return summary_of(self.decisions)

    @property
    def lines(self) -> tuple[str, ...]:
        """Every merge, and why convolutions that follow each other stay apart."""
        return tuple(map(line_of, self.decisions))


def merge_depth(
    options: MergeDepthOptions,
    target: Target | None = None,
    record: MergeRecord | None = None,
    *,
    affines: Affines | None = None,
    importance: Mapping[str, float] | None = None,
    given: Decided | None = None,
) -> Callable[[IRModule], IRModule]:
    """The pass: plain Python, as TVM's passes make a ``RuntimeError`` of every exception.

    Parameters
    ----------
    options:
        What may merge; ``options.models`` overrides by the name of the entry function.
    target:
        On which spans are priced; None: only what ``options`` name merges, unpriced.
    record:
        Filled with decisions, weights and reasons.
    affines:
        What stands in place of removed activations, by any of their ONNX nodes: [2, channels],
        scale and shift; identity where absent.
    importance:
        Of activations, by ONNX node, for a budget of time; 1 where absent.
    given:
        Decisions of an earlier run: their merges are made, with their weights, activations and
        what stands for removed ones, and nothing else is, whatever ``options`` say.

    Raises ``SpecError`` where ``options`` name a block, node or model that there is not, and
    ``CompileError`` for a latency that no merges reach.
    """
    kept = record if record is not None else MergeRecord()
    within = options.remove_activations is not None or options.latency_budget_ms is not None
    if within and target is None:
        raise SpecError("passes.merge_depth: a budget needs a target to estimate times on")
    return _Run(options, target, kept, affines or {}, importance or {}, given).module


@dataclass(frozen=True)
class _Run:
    options: MergeDepthOptions
    target: Target | None
    record: MergeRecord
    affines: Affines
    importance: Mapping[str, float]
    given: Decided | None

    def module(self, mod: IRModule) -> IRModule:
        """``mod`` with every entry function merged."""
        entries = {
            variable: function
            for variable, function in mod.functions_items()
            if isinstance(function, relax.Function) and OP not in (function.attrs or {})
        }
        found = {v: Blocks(chains_of(f, str(v.name_hint))) for v, f in entries.items()}
        self._check({str(v.name_hint): blocks for v, blocks in found.items()})
        result = mod.clone()
        for variable, function in entries.items():
            name = str(variable.name_hint)
            plan = self._plan(name, function, found[variable])
            made = recorded(name, found[variable], plan, self._activation(name))
            if self.given is not None:
                made.weights.update(_shared(made.weights, self.given.weights))
                made.is_own = False
            self.record.plans[name] = plan
            self.record.decisions += made.decisions
            self.record.weights.update(made.weights)
            if plan.chosen:
                result[variable] = _Merger(plan, made).function(function)
        return dead_code(result)

    def _asked(self, model: str) -> MergeDepthModel:
        return self.options.models.get(model, self.options)

    def _plan(self, model: str, function: relax.Function, blocks: Blocks) -> Plan:
        costs = None
        if self.target is not None:
            costs = SpanCosts(self.target, definitions(function))
        wish = Wish(
            self._asked(model),
            self.options.exact,
            self.options.border == "move_padding",
            {**self._given_affines(model), **self.affines},
            self.importance,
            self._given_merges(model),
        )
        priced = SpanCosts(self.target, {}) if self.target is not None else None
        total = (lambda: priced.of_function(function)) if priced else (lambda: 0.0)
        return Chooser(blocks, wish, costs).chosen(total)

    def _given_merges(self, model: str) -> tuple[Merge, ...] | None:
        if self.given is None:
            return None
        return tuple(m for m in self.given.decisions.merges if m.model in (model, ""))

    def _given_affines(self, model: str) -> dict[str, Array]:
        """What stands for the activations that given decisions removed."""
        if self.given is None:
            return {}
        return {
            removed.nodes[0]: self.given.weights[removed.affine]
            for merge in self._given_merges(model) or ()
            for removed in merge.removed
            if removed.affine
        }

    def _activation(self, model: str) -> Callable[[str], str]:
        """What stands behind the merge that computes the value of a node."""
        merges = self._given_merges(model)
        if merges is None:
            return lambda _output: self.options.activation
        behind = {merge.output: merge.activation for merge in merges}
        return lambda output: behind[output]

    def _check(self, found: Mapping[str, Blocks]) -> None:
        """What options name is there."""
        unknown = sorted(set(self.options.models) - set(found))
        if unknown:
            raise SpecError(
                f"passes.merge_depth.models: no model {unknown[0]!r}; it is one of"
                f" {', '.join(sorted(found))}"
            )
        for model, blocks in found.items():
            missing = missing_blocks(blocks, self._asked(model).remove_blocks)
            if missing:
                raise SpecError(
                    f"passes.merge_depth.remove_blocks: model {model!r} has"
                    f" {len(blocks.blocks)} blocks, counted from 0, and no block {missing[0]};"
                    f" leave it out, or name blocks by passes.merge_depth.models.{model}"
                )
        self._check_names(found)

    def _check_names(self, found: Mapping[str, Blocks]) -> None:
        for where, models in self._named(found):
            known = {name for model in models for name in found[model].activations()}
            asked = self.options if where == "" else self.options.models[where]
            missing = sorted(set(asked.remove) - known)
            if missing:
                key = f"models.{where}.remove" if where else "remove"
                raise SpecError(
                    f"passes.merge_depth.{key}: no activation between two convolutions comes from"
                    f" an ONNX node named {missing[0]!r}; motet inspect lists those that may go"
                )

    def _named(self, found: Mapping[str, Blocks]) -> list[tuple[str, list[str]]]:
        """Keys of options that name nodes, and the models that each is for."""
        shared = [model for model in found if model not in self.options.models]
        return [("", shared), *((model, [model]) for model in self.options.models)]


class _Merger(Rewriter):
    """Puts merged convolutions where spans ended; what was inside is dead afterwards."""

    def __init__(self, plan: Plan, made: Recorded) -> None:
        super().__init__()
        self.chosen = {one.span.result: one for one in plan.chosen}
        self.made = made

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        one = self.chosen.get(variable)
        if one is None:
            return value
        names = one.span.names

        def emit(call: relax.Call) -> relax.Expr:
            return self.emit(with_names(call, names))

        merged = one.merged
        if not self.made.is_own:
            merged = self._given(merged, *self.made.keys[variable])
        result = emit_merged(emit, self.read(one.span.source), one.span, merged)
        return emit_activation(emit, result, self.made.activations[variable])

    def _given(self, merged: Merged, weight: str, bias: str) -> Merged:
        """``merged`` with the weights that its decision names."""
        values = self.made.weights[weight].astype("float64")
        conv = replace(merged.conv, weight=values)
        if bias in self.made.weights:
            shift = self.made.weights[bias].astype("float64")
            conv = replace(conv, bias=shift if shift.ndim == 1 else shift[0])
        return replace(merged, conv=conv)


def _shared(own: Mapping[str, Array], given: Mapping[str, Array]) -> dict[str, Array]:
    """Those of ``given`` that ``own`` has, too; ``SpecError`` where one has another shape."""
    found = {key: given[key] for key in own if key in given}
    for key, values in found.items():
        if values.shape != own[key].shape:
            raise SpecError(
                f"decisions: array {key!r} has shape {values.shape}, the merge needs"
                f" {own[key].shape}; decide anew with motet merge"
            )
    return found
