"""Accuracy back without training: kernels of merges refitted to what the network computed.

A merge that took activations out computes something else. In the order of the graph, each such
merge's kernel and bias are changed so that its results on calibration data come nearest to what
the unmerged network computes there, in least squares (``least_squares.KernelFit``). What it reads
is that of the network merged so far, so that a fit also makes up for errors before it (He et
al., ICCV 2017, section 3.2). Exact merges are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from msgspec.structs import replace

from motet.compiler.calibration.data import told
from motet.compiler.calibration.least_squares import LARGEST_SYSTEM, RIDGE, KernelFit
from motet.compiler.calibration.values import ValueObserver
from motet.compiler.decided_onnx import apply_merges
from motet.compiler.onnx_graph import OnnxGraph
from motet.passes.decisions import Decided, Decision, Decisions, Merge
from motet.passes.merging.convolution import Conv, conv
from motet.runtime.device import Array
from motet.runtime.progress import Show, silent

Method = Literal["bias", "refit"]
Inputs = Mapping[str, Array]


@dataclass(frozen=True)
class Recovered:
    """What a fit did for the merge at ``output``.

    method: "bias" also where a refit would have had too many unknowns (``note`` says so).
    before, after: root of the squared error on calibration data over that of the wanted values.
    """

    output: str
    method: Method
    before: float
    after: float
    note: str = ""


def recovered(
    model: onnx.ModelProto,
    decided: Decided,
    data: Iterable[Inputs],
    label: str,
    method: Method = "refit",
    ridge: float = RIDGE,
    show: Show = silent,
    threads: int | None = None,
) -> tuple[Decided, list[Recovered]]:
    """``decided`` with the kernels of approximate merges fitted on ``data``.

    model: checked, unmerged (``values.checked_model``). data: gone through once for each merge
    that removed activations. A merge with an activation of its own behind it was made for
    fine-tuning and is left as it is.
    """
    graph = OnnxGraph(model, label)
    wanted = [m for m in decided.decisions.merges if m.removed and not m.activation]
    if not wanted:
        return decided, []
    results = {m.output: graph.node(m.output).output[0] for m in wanted}
    teacher = ValueObserver(model, [*dict.fromkeys(results.values())], threads=threads)
    done, weights = list[Recovered](), dict(decided.weights)
    merges = {m.output: m for m in decided.decisions.merges}
    for merge in wanted:
        before = [merges[m.output] for m in _before(decided.decisions.merges, merge)]
        student = apply_merges(model, Decided(_only(before), weights), label)
        operand = graph.operand(merge.nodes)
        observer = ValueObserver(student, [operand], threads=threads)
        fit = KernelFit(conv_of(merge, weights), interior(merge))
        chosen: Method = method if fit.unknowns <= LARGEST_SYSTEM else "bias"
        energy = 0.0
        for inputs in told(data, f"recover {merge.output}", show):
            x, want = observer.run(inputs)[operand], teacher.run(inputs)[results[merge.output]]
            fit.add(x, want)
            energy += float((want.astype(np.float64) ** 2).sum())
        merges[merge.output], found = _fitted(merge, fit, chosen, ridge, weights, energy, method)
        done.append(found)
    decisions: tuple[Decision, ...] = tuple(
        merges[d.output] if isinstance(d, Merge) else d for d in decided.decisions.decisions
    )
    return Decided(replace(decided.decisions, decisions=decisions), weights), done


def _before(merges: Iterable[Merge], merge: Merge) -> list[Merge]:
    """Those that come before ``merge``: decisions are in the order of the graph."""
    found = list[Merge]()
    for one in merges:
        if one.output == merge.output:
            break
        found.append(one)
    return found


def _only(merges: Iterable[Merge]) -> Decisions:
    return Decisions(decisions=tuple(merges))


def _fitted(
    merge: Merge,
    fit: KernelFit,
    method: Method,
    ridge: float,
    weights: dict[str, Array],
    energy: float,
    asked: Method,
) -> tuple[Merge, Recovered]:
    """The merge with its new arrays in ``weights``, and what that brought."""
    made = fit.refitted(ridge) if method == "refit" else fit.bias_corrected()
    old = weights[merge.weight].dtype
    bias = merge.bias or f"{merge.weight}.bias"
    weights[merge.weight] = made.weight.astype(old)
    weights[bias] = (made.bias[None] if made.has_map else made.bias).astype(old)
    before, after = fit.errors(ridge) if method == "refit" else fit.bias_errors()
    note = "" if method == asked else f"{fit.unknowns} unknowns are too many: only the bias"
    if method == "refit" and fit.results < fit.unknowns:
        note = f"{fit.results} results for {fit.unknowns} unknowns: give more samples"
    scale = energy or 1.0
    told = Recovered(
        merge.output, method, float(np.sqrt(before / scale)), float(np.sqrt(after / scale)), note
    )
    return replace(merge, bias=bias), told


def conv_of(merge: Merge, weights: Mapping[str, Array]) -> Conv:
    """The merged convolution in float64."""
    shape = merge.geometry
    bias = weights[merge.bias] if merge.bias else None
    plain = bias[0] if bias is not None and bias.ndim > 1 else bias
    return conv(
        weights[merge.weight], plain, shape.stride, shape.padding, shape.dilation, shape.groups
    )


def interior(merge: Merge) -> tuple[slice, ...] | None:
    """The positions that the merged kernel computes; None for all."""
    if not any(merge.strip):
        return None
    rank = len(merge.strip) // 2
    ends = zip(merge.strip[:rank], merge.strip[rank:], strict=True)
    return tuple(slice(begin, -end if end else None) for begin, end in ends)
