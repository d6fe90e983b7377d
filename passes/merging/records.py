"""What the merges of a function were, as decisions, and why other convolutions stay apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf, prod
from typing import Literal

from tvm import relax

from motet.passes.decisions import Dim, Kept, Merge, Removed
from motet.passes.merging.blocks import Blocks
from motet.passes.merging.chains import Chain
from motet.passes.merging.choosing import Chosen, Plan
from motet.passes.merging.convolution import geometry_of
from motet.passes.merging.pricing import macs_now
from motet.passes.names import names_of
from motet.runtime.device import Array

Behind = Callable[[str], str]
"""What stands behind a merge that lost an activation, by the node that it computes."""

_LEFT = "left as it is"


@dataclass
class Recorded:
    """decisions: in graph order. weights: as decisions name them. keys, activations: of each
    merge, by the variable that it computes: those of weight and bias; what stands behind it.
    is_own: whether the weights are those that were computed.
    """

    decisions: list[Merge | Kept] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    keys: dict[relax.Var, tuple[str, str]] = field(default_factory=dict)
    activations: dict[relax.Var, str] = field(default_factory=dict)
    is_own: bool = True


def recorded(model: str, blocks: Blocks, plan: Plan, activation: Behind) -> Recorded:
    """Decisions of all chains of a function. activation: what stands behind its merges."""
    made = Recorded()
    for chain in blocks.chains:
        inside: set[int] = set()
        merges = {one.span.first: one for one in plan.chosen if one.span.chain is chain}
        for layer in range(len(chain.layers)):
            one = merges.get(layer)
            if one is not None:
                made.decisions.append(_merge(model, blocks, one, activation, made))
                inside |= set(range(one.span.first, one.span.last))
            if layer not in inside:
                made.decisions.append(_kept(model, blocks, chain, layer, plan))
    return made


def _merge(model: str, blocks: Blocks, one: Chosen, activation: Behind, made: Recorded) -> Merge:
    span, conv = one.span, one.merged.conv
    output = _producer(span.result, span.calls[-1])
    removed = tuple(Removed(nodes=step.names) for step in span.activations)
    wanted = activation(output) if removed else ""
    behind: Literal["", "relu", "relu6"] = ""
    if wanted in ("relu", "relu6"):
        behind = "relu6" if wanted == "relu6" else "relu"
    weight, bias = f"{model}/{output}.weight", f"{model}/{output}.bias"
    dtype = str(span.result.ty.dtype)
    made.weights[weight] = conv.weight.astype(dtype)
    if conv.has_bias:
        values = conv.bias[None] if conv.has_map else conv.bias
        made.weights[bias] = values.astype(dtype)
    made.keys[span.result] = weight, bias
    made.activations[span.result] = behind
    return Merge(
        model=model,
        block=blocks.number(span.chain, span.first),
        nodes=span.names,
        convolutions=tuple(layer.name for layer in span.layers),
        removed=removed,
        input=_source(span.source, span.chain),
        output=output,
        input_shape=_shape(span.source),
        output_shape=_shape(span.result),
        geometry=geometry_of(conv),
        shortcut=span.shortcut is not None,
        border=one.border,
        why=_why(one),
        strip=one.merged.strip if one.merged.has_strip else (),
        activation=behind,
        macs_before=_macs_before(one),
        macs_after=_macs_after(one),
        seconds_before=_known(one.before),
        seconds_after=_known(one.after),
        weight=weight,
        bias=bias if conv.has_bias else "",
    )


def _known(seconds: float | None) -> float | None:
    return None if seconds == inf else seconds


def _why(one: Chosen) -> str:
    """What happens at the border, in words."""
    if one.border == "bias_map":
        return "a bias is not seen where the next convolution is padded: it depends on the position"
    if one.border == "strip":
        return "the outermost results are computed by the layers as they were"
    if one.border == "padding_moved":
        return "padding between the layers was moved to the front: the border differs"
    return ""


def _shape(expr: relax.Expr) -> tuple[Dim, ...]:
    values = expr.ty.shape.values
    return tuple(int(v.value) if hasattr(v, "value") else _text(v) for v in values)


def _text(value: object) -> str:
    """``value`` in words: TVM's own kind of text is none that JSON encoders take."""
    return "".join(str(value))


def _producer(variable: relax.Var, call: relax.Call) -> str:
    return next(reversed(names_of(call)), _text(variable.name))


def _source(source: relax.Expr, chain: Chain) -> str:
    """The node that computes what a chain reads, or the input's name."""
    call = chain.values.get(source)
    if isinstance(call, relax.TupleGetItem):
        call = chain.values.get(call.tuple_value)
    names = names_of(call) if call is not None else ()
    return names[-1] if names else _text(source.name)


def _macs_before(one: Chosen) -> int | None:
    return None if None in one.span.spatial else int(macs_now(one.span))


def _macs_after(one: Chosen) -> int | None:
    """Of the convolution alone; strips are counted by the layers that compute them too."""
    spatial, conv = one.span.spatial, one.merged.conv
    if None in spatial:
        return None
    counts = conv.sizes([int(size or 0) for size in spatial])
    inner = counts
    if one.merged.has_strip:
        strip, rank = one.merged.strip, conv.rank
        inner = tuple(n - strip[a] - strip[rank + a] for a, n in enumerate(counts))
    share = (prod(counts) - prod(inner)) / prod(counts)
    return round(prod(inner) * conv.weight.size + share * macs_now(one.span))


def _kept(model: str, blocks: Blocks, chain: Chain, layer: int, plan: Plan) -> Kept:
    """Why what follows convolution ``layer`` does not join it."""
    own = chain.layers[layer].name
    if layer == len(chain.layers) - 1:
        return Kept(
            model=model,
            block=blocks.number(chain, layer),
            nodes=(own,),
            reason=chain.walks[layer].reason,
        )
    steps = chain.links[layer]
    removable = tuple(step.names for step in steps)
    reason = plan.reasons.get((chain, layer), "")
    if steps and not reason:
        names = ", ".join(repr(step.names[-1]) for step in steps)
        reason = f"activation {names} stands between"
    return Kept(
        model=model,
        block=blocks.number(chain, layer) if steps else -1,
        nodes=(own, chain.layers[layer + 1].name),
        reason=reason or _LEFT,
        removable=removable,
    )


def summary_of(decisions: Iterable[Merge | Kept]) -> str:
    """In a line: merges, what they lost, and how often there was which kind of reason."""
    decisions = list(decisions)
    merges = [d for d in decisions if isinstance(d, Merge)]
    kept = [d for d in decisions if isinstance(d, Kept) and len(d.nodes) > 1]
    layers = sum(len(merge.convolutions) for merge in merges)
    removed = sum(len(merge.removed) for merge in merges)
    parts = [f"{layers} convolutions -> {len(merges)}"] if merges else ["nothing merged"]
    if removed:
        parts.append(f"{removed} activations removed")
    counts = Counter(_kind(one) for one in kept)
    parts += [f"{count} pairs kept: {kind}" for kind, count in counts.items()]
    return ", ".join(parts)


def _kind(one: Kept) -> str:
    if one.reason.startswith("activation"):
        return "an activation stands between"
    if one.reason in (_LEFT, ""):
        return _LEFT
    return "estimated to be slower" if one.reason.startswith("estimated") else "border or form"


def line_of(decision: Merge | Kept) -> str:
    """What was decided, in words."""
    where = f"{decision.model}, block {decision.block}" if decision.block >= 0 else decision.model
    if isinstance(decision, Kept):
        return f"{where}: {' | '.join(decision.nodes)}: {decision.reason}"
    kernel = "x".join(map(str, decision.geometry.kernel))
    made = f"{where}: {' + '.join(decision.convolutions)} -> {kernel} ({decision.border})"
    parts = [made]
    if decision.removed:
        names = ", ".join(removed.nodes[-1] for removed in decision.removed)
        parts.append(f"without {names}")
    if decision.macs_before is not None and decision.macs_after is not None:
        parts.append(f"{decision.macs_before / 1e6:.2f} -> {decision.macs_after / 1e6:.2f} MMACs")
    if decision.seconds_before is not None and decision.seconds_after is not None:
        before, after = decision.seconds_before * 1e6, decision.seconds_after * 1e6
        parts.append(f"estimated {before:.1f} -> {after:.1f} us")
    return ", ".join(parts)
