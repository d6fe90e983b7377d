"""A float workload as it would be in another number format: for timing and energy, not values.

An architect asks what an int8 array would do with a network before it is quantised. Products
then end with a requantisation (a factor per output channel), biases are 32-bit integers, all
other tensors are words of the format. What a real quantised network computes by tables (an
activation, a softmax) takes the passes over the vector unit that the float form takes.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from motet.targets.systolic.formats import FORMATS, Format
from motet.targets.systolic.instructions.program import Element, Role, Tensor
from motet.targets.systolic.workload.graph import Requantise, Step, Workload, channels_of
from motet.targets.systolic.workload.layers import Product

_PRODUCTS: tuple[type, ...] = Product.__args__


def in_format(workload: Workload, number_format: str) -> tuple[Workload, Format]:
    """``workload`` in ``number_format``, and the format to emit it in.

    The format of an integer what-if lets float functions through: such a program has the
    instructions, bytes and cycles of the quantised network, and no meaningful values. A workload
    that has a format of its own stays in it.
    """
    made = FORMATS[number_format]
    if not made.is_integer or workload.vectors:
        return workload, made
    tensors = [
        replace(t, element=Element.INT32)
        if t.element is Element.FP32 and _is_bias(workload, i)
        else t
        for i, t in enumerate(workload.tensors)
    ]
    steps = [_requantised(step, tensors) for step in workload.steps]
    for_timing = replace(made, accumulated=np.dtype("float32"))
    return replace(workload, tensors=tuple(tensors), steps=tuple(steps)), for_timing


def _is_bias(workload: Workload, tensor: int) -> bool:
    return any(
        isinstance(step.layer, _PRODUCTS) and step.epilogue.bias == tensor
        for step in workload.steps
    )


def _requantised(step: Step, tensors: list[Tensor]) -> Step:
    """A product with a factor per output channel; any other step as it is."""
    if not isinstance(step.layer, _PRODUCTS) or step.epilogue.requantise is not None:
        return step
    shape = (channels_of(step.layer),)
    tensors.append(Tensor(f"{step.name}.scale", shape, Role.WEIGHT, Element.FP32))
    requantise = Requantise(len(tensors) - 1)
    return replace(step, epilogue=replace(step.epilogue, requantise=requantise))
