"""A workload: steps over tensors, in an order in which they can run.

What the compiler makes from Relax, what a SCALE-Sim topology becomes, and what
``mappings`` and ``emit`` turn into a program. A workload of one step is a single layer.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property

from motet.runtime.errors import CompileError
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    Layer,
    LayerNorm,
    Pooling,
    Softmax,
    TransposedConvolution,
)
from motet.targets.systolic.workload.moves import Move
from motet.targets.systolic.workload.parts import Part, Written, check_parts


@dataclass(frozen=True)
class Requantise:
    """int32 sums to integers of the format: round_half_even(sum x scale) + zero_point.

    scale: number of the tensor [columns] (FP32) with one factor per output channel.
    """

    scale: int
    zero_point: int = 0


@dataclass(frozen=True)
class Epilogue:
    """What follows a layer before its output is stored, in this order.

    bias: number of a tensor [columns] added to the sums, one value per output channel (FP32, or
        INT32 in integer formats). dequantise: number of the FP32 tensor with the factor of each
        output channel, or the one of all, that makes floats of the sums of vectors; then the
        bias is added to those. residual: number of a tensor of the output's shape that is
        added. requantise: integer formats only. activation (with ``alpha``), then the limits
        ``clamp``.
    """

    bias: int | None = None
    residual: int | None = None
    requantise: Requantise | None = None
    activation: Activation = Activation.NONE
    alpha: float = 0.0
    clamp: tuple[float, float] | None = None
    dequantise: int | None = None

    @property
    def tensors(self) -> tuple[int, ...]:
        """Numbers of the tensors that it reads."""
        scale = self.requantise.scale if self.requantise else None
        numbers = (self.bias, self.residual, scale, self.dequantise)
        return tuple(n for n in numbers if n is not None)


@dataclass(frozen=True)
class Step:
    """A layer with its operands: numbers of the workload's tensors.

    name: what reports and mapping files call it; the ONNX nodes joined by "+".
    inputs: input and weight of a product; the inputs of any other layer, in its order.
    """

    name: str
    layer: Layer
    inputs: tuple[int, ...]
    output: int
    epilogue: Epilogue = field(default=Epilogue())

    @property
    def kind(self) -> str:
        """The layer's kind, as reports have it."""
        return type(self.layer).__name__

    @cached_property
    def reads(self) -> tuple[int, ...]:
        """Numbers of all tensors that it reads."""
        return (*self.inputs, *self.epilogue.tensors)


@dataclass(frozen=True)
class Workload:
    """Steps over tensors; no tensor is resident yet.

    Attributes
    ----------
    tensors: arguments (INPUT, WEIGHT), INTERNAL values and OUTPUTs. A view of a tensor under
        another shape is the same tensor: layers only ask for the number of values.
    steps: every INTERNAL and OUTPUT tensor is written by one step before others read it; one
        with parts may be written part by part, and read as others.
    parts: tensors that are stretches of others.
    vectors: name of the format of vectors that its products are of; empty: it has none, and is
        computed in the format that the array is told.
    """

    tensors: tuple[Tensor, ...]
    steps: tuple[Step, ...]
    parts: tuple[Part, ...] = ()
    vectors: str = ""

    def __post_init__(self) -> None:
        check_parts(self.parts, self.tensors)
        known = Written(self.tensors, self.parts)
        for number, tensor in enumerate(self.tensors):
            if tensor.role in (Role.INPUT, Role.WEIGHT):
                known.write(number)
        for step in self.steps:
            is_ready = all(map(known.has, step.reads)) and step.output < len(self.tensors)
            if not is_ready or not known.write(step.output):
                raise CompileError(f"step {step.name!r} is out of order or writes a known tensor")
            if self.tensors[step.output].elements != math.prod(step.layer.output_shape):
                raise CompileError(
                    f"step {step.name!r}: its output has another size than its layer"
                )

    def members(self, tensor: int) -> tuple[int, ...]:
        """``tensor``, and the parts that it has."""
        return (tensor, *(part.tensor for part in self.parts if part.whole == tensor))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of all steps."""
        return sum(step.layer.macs for step in self.steps)


def single(
    layer: Layer,
    name: str = "layer",
    *,
    bias: bool = False,
    residual: bool = False,
    activation: Activation = Activation.NONE,
    clamp: tuple[float, float] | None = None,
) -> Workload:
    """A workload of one step with float tensors: inputs (INPUT, WEIGHT), bias, residual, output."""
    shapes = _input_shapes(layer)
    tensors = [
        Tensor(f"input{i}", shape, Role.WEIGHT if i else Role.INPUT)
        for i, shape in enumerate(shapes)
    ]
    inputs = tuple(range(len(tensors)))
    bias_at = residual_at = None
    if bias:
        bias_at = len(tensors)
        tensors.append(Tensor("bias", (channels_of(layer),), Role.WEIGHT, Element.FP32))
    if residual:
        residual_at = len(tensors)
        tensors.append(Tensor("residual", layer.output_shape, Role.INPUT))
    tensors.append(Tensor("output", layer.output_shape, Role.OUTPUT))
    epilogue = Epilogue(bias_at, residual_at, None, activation, 0.0, clamp)
    return Workload(tuple(tensors), (Step(name, layer, inputs, len(tensors) - 1, epilogue),))


def channels_of(layer: Layer) -> int:
    """Values of a bias: output channels of a convolution or pooling, else the last axis."""
    is_image = isinstance(layer, (Convolution, TransposedConvolution, Pooling))
    return layer.output_shape[1 if is_image else -1]


def _input_shapes(layer: Layer) -> list[tuple[int, ...]]:
    if isinstance(layer, Pooling):
        return [layer.input_shape]
    if isinstance(layer, Move):
        return [*layer.input_shapes]
    if isinstance(layer, Softmax):
        return [layer.output_shape]
    if isinstance(layer, LayerNorm):
        vectors = [(layer.columns,)] * (2 if layer.shifted else 1)
        return [layer.output_shape, *vectors]
    if isinstance(layer, Elementwise):
        if layer.kind == "identity":
            return [layer.shape]
        return [layer.shape, (layer.shape[-1],) if layer.vector else layer.shape]
    return [layer.input_shape, layer.weight_shape]
