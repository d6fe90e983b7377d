"""Decisions on the depthwise convolutions of an ONNX model, refitted on calibration data.

Without data, ``passes.separable.deciding`` decides alone. With data, in two steps for each layer
in the order of the graph, without training:

1. Rows and columns by (1) of ``line_filters``, with the moments of the patches that the original
   network meets; what a filter leaves of their mean goes to the bias.
2. The layers that read them (P of y = P z) by linear least squares: of all weights, those whose
   results on the network replaced so far come nearest to the original network's, so that a fit
   makes up for errors before it, too (He et al., ICCV 2017, section 3.2). Where a shortcut is
   added to the result, the sum is what is to be met.

Both have closed forms. The filters are not fitted anew after step 2: with an activation between
that would not be linear.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import numpy as np
import onnx
from tvm import transform

from motet.compiler.calibration.least_squares import LARGEST_SYSTEM, KernelFit
from motet.compiler.calibration.values import Shapes, ValueObserver, checked_model
from motet.compiler.frontend.load import load_model
from motet.compiler.onnx_graph import OnnxGraph
from motet.compiler.replaced_onnx import apply_replacements
from motet.passes.canonicalize import canonicalize, decompose
from motet.passes.decisions import Decided
from motet.passes.fold_batch_norm import fold_batch_norm
from motet.passes.merging.convolution import Conv
from motet.passes.options import ReplaceDepthwiseOptions
from motet.passes.separable.deciding import Nodes, check_which, chosen_sites, decide
from motet.passes.separable.layers import Layer
from motet.passes.separable.line_filters import Moments, PatchMoments
from motet.passes.separable.sites import Site, sites_of
from motet.runtime.device import Array
from motet.runtime.progress import Show, silent

Inputs = Mapping[str, Array]


def decided_for(
    path: Path,
    model: str,
    options: ReplaceDepthwiseOptions,
    shapes: Shapes = MappingProxyType({}),
    data: Iterable[Inputs] | None = None,
    show: Show = silent,
    threads: int | None = None,
) -> Decided:
    """Decisions for the ONNX file at ``path``, called ``model``.

    data: calibration runs, gone through once, and once more for each replaced layer; None for
    weights from the kernels alone.

    Raises what reading the model raises, and ``SpecError`` for options that name what it lacks.
    """
    module = load_model(path, model, shapes).module
    module = transform.Sequential([canonicalize, fold_batch_norm, decompose])(module)
    sites = sites_of(module[model])
    check_which(sites, options)
    if data is None:
        return decide(sites, options, model)
    chosen = chosen_sites(sites, options)
    if not chosen:
        return decide(sites, options, model)
    fit = _Calibrated(checked_model(path, shapes), path.name, chosen, data, show, threads)
    return decide(sites, options, model, fit.moments(), fit)


class _Calibrated:
    """What the original network computes around the sites, and fits of their readers to it."""

    def __init__(
        self,
        model: onnx.ModelProto,
        label: str,
        sites: Sequence[Site],
        data: Iterable[Inputs],
        show: Show,
        threads: int | None,
    ) -> None:
        self.model, self.label, self.data, self.show = model, label, data, show
        self.sites, self.threads = sites, threads
        self.graph = OnnxGraph(model, label)
        self.read = {site.index: self.graph.operand(site.nodes) for site in sites}
        self.wanted = {layer.nodes: self.target(layer) for site in sites for layer in site.readers}
        sums = [one for pair in self.wanted.values() for one in pair if one]
        names = dict.fromkeys([*self.read.values(), *sums])
        self.teacher = ValueObserver(model, [*names], threads=threads)

    def target(self, layer: Layer) -> tuple[str, str]:
        """The tensor that a reader gives, or the sum behind it, and what it is added to ("")."""
        result = self.graph.result(layer.nodes)
        readers = self.graph.readers.get(result, [])
        node = self.graph.node(readers[0]) if len(readers) == 1 else None
        if node is None or node.op_type != "Add" or result in self.graph.outputs:
            return result, ""
        other = [tensor for tensor in node.input if tensor != result]
        if len(other) != 1 or self.graph.is_known(other[0]):
            return result, ""
        return str(node.output[0]), other[0]

    def moments(self) -> dict[int, Moments]:
        """Of the patches that each site meets in the original network."""
        found = {site.index: PatchMoments(site.found.conv) for site in self.sites}
        for inputs in self.data:
            values = self.teacher.run(inputs)
            for index, one in found.items():
                one.add(values[self.read[index]])
            self.show("observe")
        return {index: one.moments for index, one in found.items()}

    def __call__(
        self, so_far: Decided, site: Site, layers: Mapping[Nodes, Conv]
    ) -> tuple[dict[Nodes, Conv], float]:
        """Fits the readers of ``site`` on the network replaced so far; see ``Refit``."""
        student = apply_replacements(self.model, so_far, self.label)
        graph = OnnxGraph(student, self.label)
        operands = {n: graph.node(n[0]).input[0] for n in layers}
        added = {n: self.wanted[n][1] for n in layers}
        names = dict.fromkeys([*operands.values(), *filter(None, added.values())])
        observer = ValueObserver(student, [*names], threads=self.threads)
        fits = {nodes: KernelFit(conv) for nodes, conv in layers.items()}
        energy = 0.0
        for inputs in self.data:
            values, wanted = observer.run(inputs), self.teacher.run(inputs)
            for nodes, fit in fits.items():
                whole = wanted[self.wanted[nodes][0]].astype(np.float64)
                energy += float((whole**2).sum())
                rest = whole - values[added[nodes]] if added[nodes] else whole
                fit.add(values[operands[nodes]], rest)
            self.show(f"refit {site.nodes[0]}")
        return self.solved(fits, layers, energy)

    @staticmethod
    def solved(
        fits: Mapping[Nodes, KernelFit], layers: Mapping[Nodes, Conv], energy: float
    ) -> tuple[dict[Nodes, Conv], float]:
        """The fitted layers, and the root of the squared error over the energy."""
        made, left = dict[Nodes, Conv](), 0.0
        for nodes, fit in fits.items():
            if fit.unknowns > LARGEST_SYSTEM:
                made[nodes] = fit.bias_corrected()
                left += fit.bias_errors()[1]
            else:
                made[nodes] = fit.refitted()
                left += fit.errors()[1]
        return made, float(np.sqrt(left / energy)) if energy else 0.0
