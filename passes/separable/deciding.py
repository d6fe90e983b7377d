"""Which depthwise convolutions are replaced, and by which weights: decisions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Protocol

import msgspec
import numpy as np

from motet.passes.decisions import (
    Decided,
    Decision,
    Decisions,
    NewWeights,
    NotReplaced,
    Replacement,
    Variant,
)
from motet.passes.merging.convolution import Conv, geometry_of
from motet.passes.options import ReplaceDepthwiseOptions
from motet.passes.separable.layers import Layer
from motet.passes.separable.line_filters import Lines, Moments, assumed_moments, crossed, mixed
from motet.passes.separable.sites import Site
from motet.runtime.device import Array
from motet.runtime.errors import SpecError

NOT_CHOSEN = "not chosen"
MomentsBySite = Mapping[int, Moments]
Nodes = tuple[str, ...]


class Refit(Protocol):
    """Fits the layers that read a replaced one, once it is decided."""

    def __call__(
        self, so_far: Decided, site: Site, layers: Mapping[Nodes, Conv]
    ) -> tuple[Mapping[Nodes, Conv], float]:
        """The ``layers`` (readers by nodes, as decided) fitted, and the relative error left.

        so_far: all decisions up to that of ``site``, with their weights.
        """
        ...


@dataclass
class _Weights:
    """The layers' weights as the decisions so far have them, and the arrays by key."""

    model: str
    layers: dict[Nodes, Conv] = field(default_factory=dict)
    arrays: dict[str, Array] = field(default_factory=dict)

    def of(self, layer: Layer) -> Conv:
        return self.layers.get(layer.nodes, layer.conv)

    def keep(self, layer: Layer, weight: Array, bias: Array) -> NewWeights:
        self.layers[layer.nodes] = replace(self.of(layer), weight=weight, bias=bias)
        return NewWeights(
            nodes=layer.nodes,
            output=layer.nodes[-1],
            weight=self.put(layer, "weight", weight),
            bias=self.put(layer, "bias", bias),
        )

    def put(self, layer: Layer, what: str, values: Array) -> str:
        key = f"{self.model}/{layer.nodes[0]}/{what}"
        self.arrays[key] = values.astype(str(layer.call.ty.dtype))
        return key


def decide(
    sites: Sequence[Site],
    options: ReplaceDepthwiseOptions,
    model: str,
    moments: MomentsBySite = MappingProxyType({}),
    refit: Refit | None = None,
) -> Decided:
    """Decisions for all depthwise convolutions of a model.

    moments: of the patches that a site's taps meet, measured; what is not given is assumed.
    refit: fits the layers behind each replacement before the next one is decided.
    """
    variant = _variant(options)
    chosen = _chosen(sites, options, variant)
    weights, found = _Weights(model), list[Decision]()
    for site in sites:
        reason = _reason(site, variant) or ("" if site.index in chosen else NOT_CHOSEN)
        if reason:
            kept = NotReplaced(model=model, index=site.index, nodes=site.nodes, reason=reason)
            found.append(kept)
            continue
        layer = site.found
        height, width = layer.conv.kernel
        measured = moments.get(site.index, assumed_moments((height, width)))
        made = _full if variant == "full" else _half
        decision = made(site, weights, measured, options.fit == "rank_one")
        if refit is not None and site.readers:
            decision = _refitted(site, weights, found, decision, refit)
        found.append(decision)
    return Decided(Decisions(decisions=tuple(found)), weights.arrays)


def _refitted(
    site: Site, weights: _Weights, before: Sequence[Decision], decision: Replacement, refit: Refit
) -> Replacement:
    so_far = Decided(Decisions(decisions=(*before, decision)), weights.arrays)
    fitted, error = refit(so_far, site, {one.nodes: weights.of(one) for one in site.readers})
    kept = [one for one in decision.layers if one.nodes not in fitted]
    new = [weights.keep(one, fitted[one.nodes].weight, fitted[one.nodes].bias)
           for one in site.readers]  # fmt: skip
    return msgspec.structs.replace(decision, layers=(*kept, *new), error=error, error_of="outputs")


def chosen_sites(sites: Sequence[Site], options: ReplaceDepthwiseOptions) -> list[Site]:
    """The sites that ``decide`` replaces."""
    variant = _variant(options)
    chosen = _chosen(sites, options, variant)
    return [site for site in sites if site.index in chosen and not _reason(site, variant)]


def _variant(options: ReplaceDepthwiseOptions) -> Variant:
    return "full" if options.variant.startswith("full") else "half"


def _reason(site: Site, variant: Variant) -> str:
    return site.refusal or (site.full_refusal if variant == "full" else "")


def _chosen(
    sites: Sequence[Site], options: ReplaceDepthwiseOptions, variant: Variant
) -> frozenset[int]:
    """Indices of the sites that the options ask for."""
    if options.which:
        named = (site for site in sites if any(_is(site, one) for one in options.which))
        return frozenset(site.index for site in named)
    able = [site for site in sites if not _reason(site, variant)]
    if options.variant.endswith("50"):
        costliest = sorted(able, key=lambda site: (-open_macs(site.found), site.index))
        able = costliest[: len(able) // 2]
    return frozenset(site.index for site in able)


def check_which(sites: Sequence[Site], options: ReplaceDepthwiseOptions) -> None:
    """Raise ``SpecError`` where ``which`` names none of ``sites``, those of all models."""
    for which in options.which:
        if not any(_is(site, which) for site in sites):
            raise SpecError(
                f"passes.replace_depthwise.which: the models have no depthwise convolution"
                f" {which!r}; `motet fuse-depthwise MODEL.onnx` lists them, numbered from 0"
            )


def _is(site: Site, which: int | str) -> bool:
    return site.index == which or which in site.nodes


def open_macs(layer: Layer) -> int:
    """Multiply-accumulates of a layer; an open size counts as 1."""
    sizes = [getattr(size, "value", None) for size in layer.call.ty.shape.values]
    known = [1 if size is None else int(size) for size in sizes]
    return int(np.prod(known)) * int(np.prod(layer.conv.weight.shape[1:]))


def _macs(layers: Sequence[Layer]) -> int | None:
    """Of one sample."""
    shapes = [layer.call.ty.shape.values for layer in layers]
    if any(getattr(size, "value", None) is None for shape in shapes for size in shape[2:]):
        return None
    batch = [getattr(shape[0], "value", None) or 1 for shape in shapes]
    return sum(open_macs(layer) // int(n) for layer, n in zip(layers, batch, strict=True))


def _half(site: Site, weights: _Weights, moments: Moments, rank_one: bool) -> Replacement:
    """Each channel gets the line that suits it where channels may be reordered, else the first
    half gets rows.
    """
    layer = site.found
    conv, channels = layer.conv, layer.conv.out_channels
    lines = mixed(conv.weight[:, 0], moments, rank_one=rank_one)
    rows = (channels + 1) // 2
    order, layers = np.arange(channels), list[NewWeights]()
    if site.producer is not None:
        gain = np.argsort(lines.row_error - lines.column_error, kind="stable")
        order = np.concatenate([np.sort(gain[:rows]), np.sort(gain[rows:])])
        layers = _reordered(site, weights, order)
    row, column = order[:rows], order[rows:]
    mix = np.zeros((channels, 2))
    mix[row, 0] = mix[column, 1] = 1
    shares = replace(lines, mix=mix).shares()
    return _replacement(
        site,
        weights,
        "half",
        (lines.row[row], conv.bias[row] + lines.row_shift[row]),
        (lines.column[column], conv.bias[column] + lines.column_shift[column]),
        layers,
        _distance(shares, conv, moments),
    )


def _reordered(site: Site, weights: _Weights, order: Array) -> list[NewWeights]:
    """The layer before gives its channels in ``order``, and those behind read them so."""
    assert site.producer is not None
    before = weights.of(site.producer)
    made = [weights.keep(site.producer, before.weight[order], before.bias[order])]
    for reader in site.readers:
        conv = weights.of(reader)
        made.append(weights.keep(reader, conv.weight[:, order], conv.bias))
    return made


def _full(site: Site, weights: _Weights, moments: Moments, rank_one: bool) -> Replacement:
    layer = site.found
    conv = layer.conv
    fit = crossed if site.is_linear else mixed
    lines: Lines = fit(conv.weight[:, 0], moments, rank_one=rank_one)
    layers = []
    for reader in site.readers:
        behind = weights.of(reader)
        parts = [behind.weight * lines.mix[:, side].reshape(1, -1, 1, 1) for side in (0, 1)]
        layers.append(weights.keep(reader, np.concatenate(parts, 1), behind.bias))
    row_bias = conv.bias + lines.row_shift
    column_bias = lines.column_shift if site.is_linear else conv.bias + lines.column_shift
    return _replacement(
        site,
        weights,
        "full",
        (lines.row, row_bias),
        (lines.column, column_bias),
        layers,
        _distance(lines.shares(), conv, moments),
    )


def _replacement(
    site: Site,
    weights: _Weights,
    variant: Variant,
    row: tuple[Array, Array],
    column: tuple[Array, Array],
    layers: Sequence[NewWeights],
    error: float,
) -> Replacement:
    layer = site.found
    conv, before = layer.conv, _macs([layer, *site.readers])
    after = before
    if before is not None:
        taps = sum(kernel.size for kernel, _ in (row, column))
        depthwise, behind = _macs([layer]), _macs(site.readers)
        assert depthwise is not None
        assert behind is not None
        wider = 2 if variant == "full" else 1
        after = depthwise // conv.weight.size * taps + behind * wider
    return Replacement(
        model=weights.model,
        index=site.index,
        nodes=layer.nodes,
        output=layer.nodes[-1],
        variant=variant,
        rows=len(row[0]),
        geometry=geometry_of(conv),
        row=weights.put(layer, "row", row[0][:, None, None, :]),
        column=weights.put(layer, "column", column[0][:, None, :, None]),
        row_bias=weights.put(layer, "row_bias", row[1]),
        column_bias=weights.put(layer, "column_bias", column[1]),
        widened=_widened(site, variant),
        layers=tuple(layers),
        error=error,
        macs_before=before,
        macs_after=after,
    )


def _widened(site: Site, variant: Variant) -> tuple[str, ...]:
    return site.widened_nodes if variant == "full" else ()


def _distance(shares: Array, conv: Conv, moments: Moments) -> float:
    """What is left of the kernels, relative to them, in the norm of what they give."""
    kernels = conv.weight[:, 0].reshape(conv.out_channels, -1)
    left, whole = (
        float(((values[:, None] @ moments.second) * values[:, None]).sum())
        for values in (kernels - shares.reshape(kernels.shape), kernels)
    )
    return math.sqrt(max(left, 0.0) / whole) if whole > 0 else 0.0
