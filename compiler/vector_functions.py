"""``QuantizeVectors``: quantising a computed value vector by vector, as an ONNX function.

A model-local function, so that any ONNX run time computes it from plain operators, and Motet
knows it by its name. The arithmetic is that of ``targets/quantized/scales``, operation by
operation in float32::

    reals, integers, steps = QuantizeVectors(x)                   one level
    reals, integers, steps = QuantizeVectorsTwoLevels(x, gamma)   integer scales times gamma
    reals, integers, steps = QuantizeVectorsPaper(x, gamma)       with the paper's rounding

``steps`` has a step for each vector along ``axis``; ``reals`` are the integers times their steps.
They are made by a Mul, not by ``DequantizeLinear``: onnxruntime takes a MatMul of two of those
for one without blocks, and fails. Attributes: ``axis``; ``after`` = axis + 1;
``block_size``, V; ``axes`` = [axis], ``inner`` = [axis + 1], ``blocks`` = [-1, V], ``pads`` =
[0, what fills the last vector], as operators want them; ``negative``, -1 for signed types and
0 for unsigned ones; ``least``, ``largest``, ``largest_scale`` of the type; ``element``, the
ONNX type of the integers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from onnx import AttributeProto, TensorProto, helper

from motet.targets.quantized.types import QuantType

DOMAIN = "motet.quantization"
OPSET = 21

ONE_LEVEL = "QuantizeVectors"
TWO_LEVELS = "QuantizeVectorsTwoLevels"
PAPER = "QuantizeVectorsPaper"

_TINY = float(np.finfo(np.float32).tiny)
_ATTRIBUTES = (
    "axis", "after", "block_size", "axes", "inner", "blocks", "pads", "negative", "least",
    "largest", "largest_scale", "element",
)  # fmt: skip


def function_name(kind: QuantType, *, paper: bool) -> str:
    """The function that quantises computed values to ``kind``."""
    if kind.scale_bits is None:
        return ONE_LEVEL
    return PAPER if paper else TWO_LEVELS


def call_attributes(kind: QuantType, axis: int, size: int) -> dict[str, float | list[int]]:
    """The attributes of a call that quantises along ``axis``, of ``size``."""
    return {
        "axis": axis,
        "after": axis + 1,
        "block_size": kind.vector,
        "axes": [axis],
        "inner": [axis + 1],
        "blocks": [-1, kind.vector],
        "pads": [0, -size % kind.vector],
        "negative": -1.0 if kind.signed else 0.0,
        "least": float(kind.least),
        "largest": float(kind.largest),
        "largest_scale": float(kind.largest_scale),
        "element": int(TensorProto.INT8 if kind.signed else TensorProto.UINT8),
    }


def vector_function(name: str) -> onnx.FunctionProto:
    """The function of that name, in operators of opset 21."""
    nodes = [*_magnitudes(), *_STEPS[name](), *_integers()]
    inputs = ["x"] if name == ONE_LEVEL else ["x", "gamma"]
    opsets = [helper.make_opsetid("", OPSET)]
    used = {each.ref_attr_name for node in nodes for each in node.attribute if each.ref_attr_name}
    attributes = [attribute for attribute in _ATTRIBUTES if attribute in used]
    return helper.make_function(
        DOMAIN, name, inputs, ["reals", "integers", "steps"], nodes, opsets, attributes
    )


def _magnitudes() -> list[onnx.NodeProto]:
    """s: the largest magnitude of a vector over the largest integer; its sign, 0 or 1."""
    return [
        _given("negative_", "negative", AttributeProto.FLOAT),
        _given("largest_", "largest", AttributeProto.FLOAT),
        _given("least_", "least", AttributeProto.FLOAT),
        _given("axes_", "axes", AttributeProto.INTS),
        _given("inner_", "inner", AttributeProto.INTS),
        _given("blocks_", "blocks", AttributeProto.INTS),
        _given("pads_", "pads", AttributeProto.INTS),
        _constant("one", 1.0),
        _constant("tiny", _TINY),
        helper.make_node("Mul", ["x", "negative_"], ["turned"]),
        helper.make_node("Max", ["x", "turned"], ["magnitude"]),
        helper.make_node("Pad", ["magnitude", "pads_", "", "axes_"], ["padded"]),
        _with(helper.make_node("Shape", ["x"], ["before"], start=0), end="axis"),
        _with(helper.make_node("Shape", ["x"], ["behind"]), start="after"),
        helper.make_node("Concat", ["before", "blocks_", "behind"], ["cut"], axis=0),
        helper.make_node("Reshape", ["padded", "cut"], ["vectors"]),
        helper.make_node("ReduceMax", ["vectors", "inner_"], ["top"], keepdims=0),
        helper.make_node("Div", ["top", "largest_"], ["s"]),
        helper.make_node("Sign", ["s"], ["sign"]),
    ]


def _one_level() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Mul", ["sign", "tiny"], ["floor"]),
        helper.make_node("Sub", ["one", "sign"], ["zeros"]),
        helper.make_node("Max", ["s", "floor"], ["kept"]),
        helper.make_node("Add", ["kept", "zeros"], ["steps"]),
        helper.make_node("Identity", ["steps"], ["divisor"]),
    ]


def _two_levels() -> list[onnx.NodeProto]:
    return [
        *_rounded(),
        helper.make_node("Max", ["bounded", "sign"], ["scale"]),
        helper.make_node("Mul", ["scale", "gamma"], ["steps"]),
        *_divisor("steps"),
    ]


def _paper() -> list[onnx.NodeProto]:
    return [*_rounded(), helper.make_node("Mul", ["bounded", "gamma"], ["steps"]), *_divisor("s")]


def _rounded() -> list[onnx.NodeProto]:
    return [
        _given("largest_scale_", "largest_scale", AttributeProto.FLOAT),
        helper.make_node("Div", ["s", "gamma"], ["ratio"]),
        helper.make_node("Round", ["ratio"], ["nearest"]),
        helper.make_node("Min", ["nearest", "largest_scale_"], ["bounded"]),
    ]


def _divisor(step: str) -> list[onnx.NodeProto]:
    """The step, but 1 where it is 0."""
    return [
        helper.make_node("Sign", [step], ["divides"]),
        helper.make_node("Sub", ["one", "divides"], ["zeros"]),
        helper.make_node("Add", [step, "zeros"], ["divisor"]),
    ]


_STEPS = {ONE_LEVEL: _one_level, TWO_LEVELS: _two_levels, PAPER: _paper}


def _integers() -> list[onnx.NodeProto]:
    quantize = helper.make_node("QuantizeLinear", ["x", "divisor"], ["wide"])
    return [
        _with(quantize, axis="axis", block_size="block_size", output_dtype="element"),
        helper.make_node("CastLike", ["least_", "wide"], ["low"]),
        helper.make_node("CastLike", ["largest_", "wide"], ["high"]),
        helper.make_node("Clip", ["wide", "low", "high"], ["integers"]),
        helper.make_node("CastLike", ["integers", "one"], ["whole"]),
        helper.make_node("Pad", ["whole", "pads_", "", "axes_"], ["whole_padded"]),
        helper.make_node("Reshape", ["whole_padded", "cut"], ["whole_vectors"]),
        helper.make_node("Unsqueeze", ["steps", "inner_"], ["each_step"]),
        helper.make_node("Mul", ["whole_vectors", "each_step"], ["real_vectors"]),
        helper.make_node("Shape", ["padded"], ["padded_shape"]),
        helper.make_node("Reshape", ["real_vectors", "padded_shape"], ["real_padded"]),
        helper.make_node("Constant", [], ["first"], value_ints=[0]),
        _with(helper.make_node("Shape", ["x"], ["size"]), start="axis", end="after"),
        helper.make_node("Slice", ["real_padded", "first", "size", "axes_"], ["reals"]),
    ]


def _constant(name: str, value: float) -> onnx.NodeProto:
    return helper.make_node("Constant", [], [name], value_float=value)


def _given(name: str, attribute: str, kind: AttributeProto.AttributeType) -> onnx.NodeProto:
    """A constant whose value the call says."""
    node = helper.make_node("Constant", [], [name])
    key = "value_float" if kind == AttributeProto.FLOAT else "value_ints"
    node.attribute.append(_reference(key, attribute, kind))
    return node


def _with(node: onnx.NodeProto, **references: str) -> onnx.NodeProto:
    """``node`` with integer attributes that the call says."""
    for key, attribute in references.items():
        node.attribute.append(_reference(key, attribute, AttributeProto.INT))
    return node


def _reference(key: str, attribute: str, kind: AttributeProto.AttributeType) -> onnx.AttributeProto:
    made = AttributeProto()
    made.name, made.ref_attr_name, made.type = key, attribute, kind
    return made


def functions(names: Sequence[str]) -> list[onnx.FunctionProto]:
    """The functions of those names, each once, in a fixed order."""
    return [vector_function(name) for name in _STEPS if name in names]
