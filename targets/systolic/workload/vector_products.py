"""Workloads of one product of vectors."""

from __future__ import annotations

from motet.targets.systolic.formats import VectorFormat
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload, channels_of
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct


def single_of_vectors(
    layer: VectorConvolution | VectorProduct,
    words: VectorFormat,
    name: str = "layer",
    *,
    exact: bool = False,
    bias: bool = False,
    activation: Activation = Activation.NONE,
    clamp: tuple[float, float] | None = None,
) -> Workload:
    """A workload of one step: vectors and scales (INPUT, WEIGHT), factor, bias, output.

    ``exact``: the output is the INT64 sums, without a factor or anything behind it.
    """
    tensors = [
        Tensor("input", layer.input_shape, Role.INPUT),
        Tensor("input.scales", layer.input_shape, Role.INPUT, Element.SCALE),
        Tensor("weight", layer.weight_shape, Role.WEIGHT, Element.WEIGHT),
        Tensor("weight.scales", layer.weight_shape, Role.WEIGHT, Element.SCALE),
    ]
    epilogue = Epilogue()
    if not exact:
        names = ["factor", "bias"] if bias else ["factor"]
        epilogue = Epilogue(
            dequantise=len(tensors),
            bias=len(tensors) + 1 if bias else None,
            activation=activation,
            clamp=clamp,
        )
        shape = (channels_of(layer),)
        tensors += [Tensor(each, shape, Role.WEIGHT, Element.FP32) for each in names]
    element = Element.INT64 if exact else Element.FP32
    tensors.append(Tensor("output", layer.output_shape, Role.OUTPUT, element))
    step = Step(name, layer, (0, 2), len(tensors) - 1, epilogue)
    return Workload(tuple(tensors), (step,), vectors=words.name)
