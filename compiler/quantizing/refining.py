"""What calibration makes better of weights and biases once types and steps are chosen.

Rounding in the manner of GPTQ (``rounding``), and bias correction: quantised weights Wq and
data xq shift the mean of output channel o by (Wq E[xq] - W E[x])[o], which is taken off the bias.
The means are those of the columns that a product sums over, padding included, so that on the
calibration data the shift that a product adds by itself becomes 0. Where the bias makes the
mean right, rounding has only the covariance of x to look at.

Source of bias correction: Nagel et al., "Data-free quantization" (ICCV 2019, arXiv 1906.04721),
section 4.2, in its empirical form, with the inputs of the float model.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import onnx
from numpy.typing import NDArray

from motet.compiler.calibration.moments import Moments
from motet.compiler.quantizing.choices import Choice
from motet.compiler.quantizing.columns import Columns, columns_of
from motet.compiler.quantizing.products import Product
from motet.compiler.quantizing.rounding import LARGEST_DEPTH, rounded
from motet.runtime.device import Array
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import QuantTensor

Rounding = Literal["nearest", "gptq"]

SAMPLES = 512
"""Columns of a run whose products are summed, of a matrix product or convolution."""

_MORE_SAMPLES = 4096
"""Of a depthwise convolution, whose columns are short."""

_SHORT = 64


@dataclass(frozen=True)
class Refinement:
    """rounding: of constant weights. bias: whether the mean of every output is made right."""

    rounding: Rounding = "nearest"
    bias: bool = True

    @property
    def needs_data(self) -> bool:
        """Whether calibration data is gone through for it."""
        return self.bias or self.rounding == "gptq"


class Inputs:
    """Moments of the columns that products sum over, run by run."""

    def __init__(
        self, model: onnx.ModelProto, products: Sequence[Product], with_gram: bool
    ) -> None:
        self.with_gram = with_gram
        found = {p.name: columns_of(p, model.graph.node[p.place]) for p in products}
        self.columns: dict[str, Columns] = {n: c for n, c in found.items() if c is not None}
        self.products = [product for product in products if product.name in self.columns]
        self.moments = {
            name: Moments(each.groups, each.depth, with_gram and each.depth <= LARGEST_DEPTH)
            for name, each in self.columns.items()
        }
        self._rng = np.random.default_rng(0)

    def add(self, values: Mapping[str, Array]) -> None:
        """One run's operands by tensor."""
        for product in self.products:
            columns, moments = self.columns[product.name], self.moments[product.name]
            data = values[product.data.tensor]
            moments.add_sum(*columns.summed(data))
            if moments.gram is not None:
                most = SAMPLES if columns.depth > _SHORT else _MORE_SAMPLES
                moments.add_sample(columns.sample(data, most, self._rng))


def refined(
    choices: Sequence[Choice],
    inputs: Inputs,
    runs: Iterable[Mapping[str, Array]],
    how: Refinement,
    *,
    paper: bool = False,
) -> list[Choice]:
    """``choices`` with integers and shifts.

    inputs: of the float model, with Gram matrices for "gptq". runs: operands of each run,
    gone through once where the bias is corrected.
    """
    made = [_rounded(choice, inputs, how, paper) for choice in choices]
    if not how.bias:
        return made
    means = _Quantised(made, inputs)
    for values in runs:
        means.add(values)
    return [_shifted(choice, inputs, means, paper) for choice in made]


def with_biases(choices: Sequence[Choice]) -> list[Choice]:
    """``choices`` with some shift wherever there may be one: for the size of the model."""
    found = []
    for choice in choices:
        values, axes = choice.product.weights.values, choice.product.weights.axes
        can = values is not None and axes.channel is not None
        size = values.shape[axes.channel or 0] if can and values is not None else 0
        found.append(replace(choice, shift=np.ones(size, np.float32)) if can else choice)
    return found


def _rounded(choice: Choice, inputs: Inputs, how: Refinement, paper: bool) -> Choice:
    moments = inputs.moments.get(choice.product.name)
    if how.rounding == "nearest" or moments is None or moments.gram is None:
        return choice
    columns, weights = inputs.columns[choice.product.name], choice.product.weights.values
    assert weights is not None
    near = choice.made(paper=paper)
    steps = replace(near, values=np.ones_like(near.values)).dequantized()
    integers = rounded(
        columns.matrices(weights).astype(np.float64),
        columns.matrices(steps).astype(np.float64),
        moments.second(centred=how.bias),
        near.type,
    )
    values = columns.stored(integers.astype(near.values.dtype), weights.shape)
    return replace(choice, stored=replace(near, values=values))


class _Quantised:
    """Means of the columns of quantised data."""

    def __init__(self, choices: Sequence[Choice], inputs: Inputs) -> None:
        self.choices = [choice for choice in choices if choice.product.name in inputs.columns]
        self.columns = inputs.columns
        self.moments = {
            choice.product.name: Moments(
                self.columns[choice.product.name].groups, self.columns[choice.product.name].depth
            )
            for choice in self.choices
        }

    def add(self, values: Mapping[str, Array]) -> None:
        made: dict[tuple[object, ...], Array] = {}
        for choice in self.choices:
            operand, static = choice.product.data, choice.data
            key = (operand.tensor, *static.key, operand.axes)
            if key not in made:
                made[key] = _data(choice, values[operand.tensor]).dequantized()
            name = choice.product.name
            self.moments[name].add_sum(*self.columns[name].summed(made[key]))


def _data(choice: Choice, reals: Array) -> QuantTensor:
    operand, static = choice.product.data, choice.data
    return quantized(
        reals, static.type, operand.axes, gamma=static.gamma, zero=static.zero,
        name=operand.tensor,
    )  # fmt: skip


def _shifted(choice: Choice, inputs: Inputs, means: _Quantised, paper: bool) -> Choice:
    name = choice.product.name
    if name not in means.moments:
        return choice
    columns, weights = inputs.columns[name], choice.product.weights.values
    assert weights is not None
    kept = choice.made(paper=paper).dequantized()
    wanted = _mean_output(columns, weights, inputs.moments[name])
    shift = wanted - _mean_output(columns, kept, means.moments[name])
    return replace(choice, shift=shift.astype(np.float32))


def _mean_output(columns: Columns, weights: Array, moments: Moments) -> NDArray[np.float64]:
    """Of every output channel, without the bias."""
    rows = columns.matrices(weights).astype(np.float64)
    return np.asarray((rows @ moments.mean[:, :, None]).reshape(-1))
