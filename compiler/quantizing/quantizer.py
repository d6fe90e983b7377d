"""An ONNX model, observed on calibration data, and what settings make of it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType

import onnx

from motet.compiler.calibration.channel_maxima import ChannelMaxima
from motet.compiler.calibration.histograms import Method
from motet.compiler.calibration.values import ValueObserver
from motet.compiler.onnx_files import read_whole
from motet.compiler.quantizing.choices import Choice, chosen
from motet.compiler.quantizing.figures import TensorFigures, decibels, joint
from motet.compiler.quantizing.folding import folded
from motet.compiler.quantizing.opset import modern
from motet.compiler.quantizing.products import (
    Product,
    Refusals,
    products_of,
    require_floats,
)
from motet.compiler.quantizing.refining import Inputs, Refinement, refined
from motet.compiler.quantizing.rewriting import rewritten
from motet.compiler.quantizing.smoothing import smoothable, smoothed
from motet.compiler.quantizing.statistics import (
    RunDone,
    Statistics,
    nothing,
    operands_of,
    statistics_of,
)
from motet.runtime.device import Array
from motet.runtime.errors import SpecError
from motet.targets.quantized.notation import Setting
from motet.targets.quantized.scales import quantized

Data = Iterable[Mapping[str, Array]]
Shapes = Mapping[str, Sequence[int | str]]
NO_SHAPES: Shapes = MappingProxyType({})


@dataclass(frozen=True)
class ProductFigures:
    """A product under a choice: what its operands lose, and both together, dB."""

    product: Product
    data: TensorFigures
    weights: TensorFigures

    @property
    def sqnr_db(self) -> float:
        """Of the product, had its operands' errors nothing to do with each other."""
        return joint([self.data, self.weights])


@dataclass(frozen=True)
class Outputs:
    """The outputs of a compiled model, run by run."""

    observer: ValueObserver
    names: Sequence[str]

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs for one run's inputs, by name."""
        found = self.observer.run(inputs)
        return {name: found[name] for name in self.names}


class Quantizer:
    """A model whose products are known, and what they read observed.

    path: of the ONNX file. data: runs, gone through here and again by ``figures`` and
    ``output_sqnr_db``. exclude: names of nodes that stay as they are, or patterns with * and ?.
    fold: scales and shifts behind products go into their weights first (``folding``).
    zero_points: values of lopsided range have an integer for 0, where no vectors are.
    smooth: how much of the spread of data over channels goes into weights, 0 to 1; None: as it is.

    Raises
    ------
    ModelError, SpecError, InputError
        For a file that cannot be read, names that no node has, data that does not fit.
    CompileError
        Where an operand is not finite on the data, or nothing can be quantised.
    """

    def __init__(
        self,
        path: Path,
        data: Data,
        shapes: Shapes = NO_SHAPES,
        exclude: Sequence[str] = (),
        run_done: RunDone = nothing,
        fold: bool = True,
        zero_points: bool = True,
        smooth: float | None = None,
    ) -> None:
        self.zero_points = zero_points
        self._moments: Inputs | None = None
        self.label = path.name
        self.original, self.has_external_data = read_whole(path)
        require_floats(self.original, self.label)
        plain = modern(self.original, self.label)
        self.model, self.folds = folded(plain) if fold else (plain, {})
        self.smoothed: dict[str, str] = {}
        if smooth is not None:
            self.model, self.smoothed = _smoothed(self.model, data, shapes, smooth)
        self.data = data
        self.shapes = shapes
        # One network gives the operands for statistics and figures, and the exact outputs.
        outputs = [info.name for info in self.model.graph.output]
        self.operands = operands_of(self.model, shapes, outputs)
        self.floats = Outputs(self.operands, outputs)
        self.statistics: Statistics = statistics_of(
            self.model, data, shapes, run_done, self.operands
        )
        found, self.refused = products_of(self.model, self.statistics.shapes)
        self.products, excluded = _without(found, exclude, self.label)
        self.refused |= excluded
        if not self.products:
            why = "; ".join(f"{n}: {r}" for n, r in list(self.refused.items())[:3])
            raise SpecError(
                f"{self.label}: no convolution or matrix product can be quantised"
                + (f" ({why})" if why else ", for it has none")
            )

    def choices(
        self,
        setting: Setting,
        raised: Mapping[str, Setting | None] = MappingProxyType({}),
        method: Method = "max",
        percentile: float = 99.99,
    ) -> list[Choice]:
        """What each product becomes; ``raised``: by node, another setting, or None for floats."""
        found = []
        for product in self.products:
            wanted = raised.get(product.name, setting)
            if wanted is not None:
                seen = self.statistics.magnitudes
                zeros = self.zero_points
                found.append(chosen(product, wanted, seen, method, percentile, zeros=zeros))
        return found

    def refined(
        self, choices: Sequence[Choice], how: Refinement, *, paper: bool = False
    ) -> list[Choice]:
        """``choices`` with the integers and biases that ``how`` makes of the data.

        The data is gone through once more for the first of them, and once for each where
        biases are corrected.
        """
        if not how.needs_data:
            return list(choices)
        inputs = self._inputs(with_gram=how.rounding == "gptq")
        return refined(choices, inputs, map(self.operands.run, self.data), how, paper=paper)

    def _inputs(self, *, with_gram: bool) -> Inputs:
        if self._moments is None or (with_gram and not self._moments.with_gram):
            self._moments = Inputs(self.model, self.products, with_gram)
            for inputs in self.data:
                self._moments.add(self.operands.run(inputs))
        return self._moments

    def quantized(self, choices: Sequence[Choice], *, paper: bool = False) -> onnx.ModelProto:
        """The model with ``choices`` carried out; in opset 21 at least."""
        return rewritten(self.model, choices, paper=paper)

    def figures(
        self, choices: Sequence[Choice], *, paper: bool = False, run_done: RunDone = nothing
    ) -> list[ProductFigures]:
        """What every product's operands lose on the data, in the order of ``choices``."""
        found = [_of_weights(choice, paper) for choice in choices]
        for inputs in self.data:
            values = self.operands.run(inputs)
            for choice, one in zip(choices, found, strict=True):
                _add(choice, one, values, paper)
            run_done()
        return found

    def outputs_of(self, model: onnx.ModelProto) -> Outputs:
        """``model``, which has the original's inputs and outputs, compiled to be run."""
        names = [info.name for info in model.graph.output]
        return Outputs(ValueObserver(model, names, self.shapes), names)

    def output_sqnr_db(self, integers: Outputs, run_done: RunDone = nothing) -> float:
        """Signal to noise of the outputs of ``integers`` against the original's on the data, dB."""
        floats, names = self.floats, self.floats.names
        signal = noise = 0.0
        for inputs in self.data:
            wanted, found = floats.run(inputs), integers.run(inputs)
            for name in names:
                if wanted[name].dtype.kind == "f":
                    exact = wanted[name].astype("float64")
                    signal += float((exact**2).sum())
                    noise += float(((exact - found[name]) ** 2).sum())
            run_done()
        return decibels(signal, noise)


def _smoothed(
    model: onnx.ModelProto, data: Data, shapes: Shapes, alpha: float
) -> tuple[onnx.ModelProto, dict[str, str]]:
    operands, seen, maxima = operands_of(model, shapes), Statistics(), ChannelMaxima({})
    for inputs in data:
        values = operands.run(inputs)
        if not maxima.axes:
            seen.add(values)
            maxima.axes |= smoothable(products_of(model, seen.shapes)[0])
        maxima.add(values)
    return smoothed(model, products_of(model, seen.shapes)[0], maxima.found, alpha)


def raised(setting: Setting) -> Setting | None:
    """The next setting up: 8 bits a value in place of fewer, then floats (None)."""
    if setting.weights.bits < 8 or setting.activations.bits < 8:
        return Setting(replace(setting.weights, bits=8), replace(setting.activations, bits=8))
    return None


def _without(
    products: Sequence[Product], exclude: Sequence[str], label: str
) -> tuple[list[Product], Refusals]:
    patterns = [(text, _pattern(text)) for text in exclude]
    for text, pattern in patterns:
        if not any(pattern.fullmatch(product.name) for product in products):
            names = ", ".join(product.name for product in products[:5])
            raise SpecError(
                f"{label}: --exclude {text}: no product that could be quantised has that name; "
                f"there are {len(products)}, such as {names}"
            )
    out = {p.name: "excluded" for p in products if any(m.fullmatch(p.name) for _, m in patterns)}
    return [product for product in products if product.name not in out], out


def _pattern(text: str) -> re.Pattern[str]:
    """A name in which * and ? stand for others, also for a slash."""
    escaped = re.escape(text).replace(r"\*", ".*").replace(r"\?", ".")
    return re.compile(escaped)


def _of_weights(choice: Choice, paper: bool) -> ProductFigures:
    weights = choice.product.weights
    kind = choice.weights if choice.weights_static is None else choice.weights_static.type
    found = TensorFigures(kind)
    if weights.values is not None:
        found.add(weights.values, choice.made(paper=paper))
    return ProductFigures(choice.product, TensorFigures(choice.data.type), found)


def _add(choice: Choice, one: ProductFigures, values: Mapping[str, Array], paper: bool) -> None:
    product = choice.product
    operands = [(product.data, choice.data, one.data)]
    if choice.weights_static is not None:
        operands.append((product.weights, choice.weights_static, one.weights))
    for operand, static, figures in operands:
        reals = values[operand.tensor]
        made = quantized(
            reals, static.type, operand.axes, gamma=static.gamma, zero=static.zero, paper=paper,
            name=operand.tensor,
        )  # fmt: skip
        figures.add(reals, made)
