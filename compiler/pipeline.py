"""The passes in order, with hooks to print, time and verify after any of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from tvm import IRModule, relax, transform

import motet.passes.error_classes  # noqa: F401 - what passes raise keeps its class
from motet.compiler.spec import PassesSpec
from motet.passes.canonicalize import canonicalize, decompose
from motet.passes.dead_code import dead_code
from motet.passes.decisions import Command, Decided, read_decisions, require_kind
from motet.passes.fold_batch_norm import fold_batch_norm
from motet.passes.fuse import AcceptsEpilogue, fuse
from motet.passes.graph import bindings_of
from motet.passes.join_attention import join_attention
from motet.passes.join_gelu import join_gelu
from motet.passes.join_quantized import join_quantized
from motet.passes.join_silu import join_silu
from motet.passes.join_vectors import Joined, join_vectors
from motet.passes.layout import layout
from motet.passes.merge_depth import MergeRecord, merge_depth
from motet.passes.names import OP, names_of
from motet.passes.place import Placement, place
from motet.passes.regions import regions
from motet.passes.replace_depthwise import Outcome, replace_depthwise
from motet.passes.round_operands import round_operands
from motet.passes.signed_operands import signed_operands
from motet.passes.split_to_slices import split_to_slices
from motet.passes.take_to_slices import take_to_slices
from motet.passes.unit_cost import Target
from motet.passes.widen_halves import widen_halves
from motet.runtime.errors import CompileError, SpecError
from motet.runtime.manifest import PassRecord
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.from_relax.integers import FORMAT as BYTES
from motet.targets.systolic.from_relax.rules import accepts_epilogue, refusal


@dataclass(frozen=True)
class Step:
    """A pass under the name that users and the bundle's record know it by.

    note: what there is to say once it has run; raises ``SpecError`` where its options
    name what the models do not have. details: what it did where, and why not elsewhere.
    """

    name: str
    apply: transform.Pass
    note: Callable[[], str] = lambda: ""
    details: Callable[[], tuple[str, ...]] = tuple


def steps_for(
    options: PassesSpec,
    array: ArrayDescription | None,
    number_format: str = "fp32",
    lanes: int = 8,
    reassociate: bool = True,
    compute: str = "fp32",
    stages: Step | None = None,
    *,
    any_bytes: bool = False,
    target: Target | None = None,
    merging: Step | None = None,
) -> list[Step]:
    """The pipeline: what runs for ``options``, in order.

    number_format: the array's. lanes: float32 values in a vector of the host. reassociate:
    whether the host may compute by other formulas, of a stated error; compute: the format
    of what it multiplies. stages: puts kernels of the host side by side. any_bytes:
    whether the host multiplies any bytes exactly (VNNI). target: on which merges are priced.
    merging: makes convolutions of one value one.
    """
    steps = [_vectors(options)] if options.join_vectors.enabled else []
    steps.append(Step("canonicalize", _canonical(array)))
    if options.replace_depthwise.enabled:
        steps.append(_replacement(options))
    if options.merge_depth.enabled:
        steps.append(_merging(options, target))
    if options.fold_batch_norm.enabled:
        steps.append(Step("fold_batch_norm", fold_batch_norm))
    steps.append(Step("decompose", decompose))
    if merging is not None:
        steps.append(merging)
    steps += lowering_steps(
        options, array, number_format, lanes, reassociate, compute, any_bytes=any_bytes
    )
    if stages is not None:
        steps.append(stages)
    return steps


def lowering_steps(
    options: PassesSpec,
    array: ArrayDescription | None,
    number_format: str = "fp32",
    lanes: int = 8,
    reassociate: bool = True,
    compute: str = "fp32",
    *,
    any_bytes: bool = False,
) -> list[Step]:
    """The steps of ``steps_for`` from placement to units and regions."""
    steps = list[Step]()
    if array is not None and options.place.enabled:
        steps.append(_placement(options, array, number_format))
    if reassociate:
        steps.append(Step("widen_halves", widen_halves))
    if compute == "bf16":
        steps.append(Step("round_operands", _rounding(options)))
    if options.layout.enabled:
        blocks = layout(lanes, any_bytes)
        steps.append(
            Step("layout", transform.Sequential([split_to_slices, take_to_slices, blocks]))
        )
    steps.append(Step("fuse", _fusion(options)))
    if array is not None and options.place.enabled:
        steps.append(Step("regions", regions(options.regions)))
    return steps


def _vectors(options: PassesSpec) -> Step:
    """Before constants are folded, while weights are still integers."""
    told = Joined()
    apply = join_vectors(options.join_vectors, told)
    return Step("join_vectors", apply, lambda: told.summary, lambda: tuple(told.refused))


def _merging(options: PassesSpec, target: Target | None) -> Step:
    """Decisions of a file, where the options name one, are applied as they are."""
    wanted = options.merge_depth
    record = MergeRecord()
    given = _given(wanted.decisions, "merge")
    apply = merge_depth(wanted, target, record, given=given)
    return Step("merge_depth", apply, lambda: record.summary, lambda: record.lines)


def _given(path: str, command: Command) -> Decided | None:
    """The decisions of a file that an option names, which ``command`` writes; None for ""."""
    return require_kind(read_decisions(path), command, path) if path else None


def _replacement(options: PassesSpec) -> Step:
    """Decisions of a file, where the options name one, are applied as they are. They speak of
    the layers of the file, batch-norms included: so before any merge.
    """
    wanted = options.replace_depthwise
    outcome = Outcome()
    given = _given(wanted.decisions, "fuse-depthwise")
    return Step(
        "replace_depthwise",
        transform.Sequential(
            [fold_batch_norm, decompose, replace_depthwise(wanted, given, outcome)]
        ),
        lambda: _told(outcome),
    )


def _told(outcome: Outcome) -> str:
    outcome.check()
    return outcome.summary


def _canonical(array: ArrayDescription | None) -> transform.Pass:
    """First, while weights are still integers, quantised operators become one of integers, for an
    array of signed bytes where it has them.
    """
    if array is None:
        return transform.Sequential([join_quantized, canonicalize])
    if BYTES not in array.formats:
        return canonicalize
    return transform.Sequential([join_quantized, signed_operands, canonicalize])


def _fusion(options: PassesSpec) -> transform.Pass:
    """First, activations that are written out become one call, which joins its producer, and
    so does attention, which is a unit of its own.
    """
    fused = fuse(options.fuse, _unless_pinned(options))
    if not options.fuse.enabled:
        return fused
    return transform.Sequential([join_silu, join_gelu, join_attention, dead_code, fused])


def _rounding(options: PassesSpec) -> transform.Pass:
    """First, what is written out becomes one call, which roundings inside would hide."""
    if not options.fuse.enabled:
        return round_operands
    return transform.Sequential([join_silu, join_gelu, join_attention, dead_code, round_operands])


def _unless_pinned(options: PassesSpec) -> AcceptsEpilogue:
    """What the array takes in behind its operators: nothing that is pinned to the host."""
    pinned = frozenset(options.place.host_ops)
    return lambda anchor, call, so_far: (
        options.fuse.enabled
        and pinned.isdisjoint(names_of(call))
        and accepts_epilogue(anchor, call, so_far)
    )


def _placement(options: PassesSpec, array: ArrayDescription, number_format: str) -> Step:
    """First, activations that are written out become one call, and splits become slices."""
    placement = Placement()
    chosen = place(
        lambda call: refusal(call, array, number_format),
        options.place.host_ops,
        placement,
        _unless_pinned(options),
    )
    apply = transform.Sequential([join_silu, join_gelu, split_to_slices, dead_code, chosen])
    return Step("place", apply, lambda: _placed(placement))


def _placed(placement: Placement) -> str:
    if placement.unknown:
        raise SpecError(
            f"passes.place.host_ops: no operator of the models comes from an ONNX node named "
            f"{placement.unknown[0]!r}; leave out names of nodes that other passes removed"
        )
    return placement.summary


PASS_NAMES = (
    "join_vectors", "canonicalize", "replace_depthwise", "merge_depth", "fold_batch_norm",
    "decompose", "merge_parallel", "place", "widen_halves", "round_operands", "layout", "fuse",
    "regions", "host_stages",
)  # fmt: skip


@dataclass(frozen=True)
class Hooks:
    """What to do around passes.

    print_after: pass names after which ``write`` gets the module's TVMScript;
    verify: check after every pass that the module is well formed; on_step: called with
    each name as it starts; seconds: filled with the time that each pass took.
    """

    print_after: frozenset[str] = frozenset()
    verify: bool = False
    write: Callable[[str], None] = print
    on_step: Callable[[str], None] = lambda name: None
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted(self.print_after - set(PASS_NAMES))
        if unknown:
            raise SpecError(f"no pass {unknown[0]!r}; the passes are {', '.join(PASS_NAMES)}")


def run(mod: IRModule, steps: Sequence[Step], hooks: Hooks) -> tuple[IRModule, list[PassRecord]]:
    """Apply the steps; the module, and a record of each."""
    records = []
    for step in steps:
        hooks.on_step(step.name)
        before, started = _count(mod), time.perf_counter()
        mod = step.apply(mod)
        hooks.seconds[step.name] = time.perf_counter() - started
        if hooks.verify and not relax.analysis.check_well_formed(mod):
            raise CompileError(f"the module is not well formed after pass {step.name!r}")
        if step.name in hooks.print_after:
            hooks.write(f"# after {step.name}\n{mod.script(show_meta=False)}")
        changed = f"{before} calls -> {_count(mod)}"
        told = "; ".join(filter(None, (changed, step.note())))
        records.append(PassRecord(step.name, told, step.details()))
    return mod, records


def _count(mod: IRModule) -> int:
    """Calls in the entry functions; private functions are units."""
    return sum(
        isinstance(binding.value, relax.Call)
        for _, function in mod.functions_items()
        if isinstance(function, relax.Function) and OP not in (function.attrs or {})
        for binding in bindings_of(function)
    )
