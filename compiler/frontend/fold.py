"""Nodes whose inputs are all known are computed at import, by onnx's reference evaluator.

Only operators that are cheap to evaluate are folded, and never into a result of more
than ``MAX_ELEMENTS`` (a ``ConstantOfShape`` stays an operator where it would fill the
file). Quantisation stays visible for the passes that read it.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from motet.runtime.element_types import NARROW

MAX_ELEMENTS = 1 << 22

_FOLDABLE_NAMES = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot
    BitwiseOr BitwiseXor Cast CastLike Ceil Clip Compress Concat ConstantOfShape Cos Cosh
    CumSum Div Equal Erf Exp Expand Flatten Floor Gather GatherElements GatherND Gelu
    Greater GreaterOrEqual Identity IsInf IsNaN Less LessOrEqual Log MatMul Max Mean Min Mod
    Mul Neg NonZero Not OneHot Or Pad Pow Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu
    Reshape Round ScatterElements ScatterND Shape Sigmoid Sign Sin Sinh Size Slice Softmax
    Split Sqrt Squeeze Sub Sum Tan Tanh Tile TopK Transpose Trilu Unique Unsqueeze Where Xor
"""
FOLDABLE = frozenset(_FOLDABLE_NAMES.split())
# Matrix products of weights beyond this many elements are left to run-time kernels.
MAX_PRODUCT = 1 << 20


def constant_node(node: onnx.NodeProto) -> NDArray[Any] | None:
    """The array of a ``Constant`` node; None for one this front end does not read."""
    for attribute in node.attribute:
        value = onnx.helper.get_attribute_value(attribute)
        if attribute.name == "value":
            return np.asarray(onnx.numpy_helper.to_array(value))
        if attribute.name in ("value_int", "value_ints"):
            return np.array(value, dtype=np.int64)
        if attribute.name in ("value_float", "value_floats"):
            return np.array(value, dtype=np.float32)
    return None


def fold(
    node: onnx.NodeProto, arrays: Sequence[NDArray[Any] | None], opset: int
) -> list[NDArray[Any]] | None:
    """The outputs of ``node`` on ``arrays``; None where it is not to be folded.

    An error of the evaluator also gives None: the converter of the operator then
    reports what is wrong with the node.
    """
    if not _is_foldable(node, arrays) or not _is_small(node, arrays):
        return None
    inputs = [_info(name) for name in dict.fromkeys(n for n in node.input if n)]
    outputs = [_info(name) for name in node.output if name]
    graph = onnx.helper.make_graph([node], "fold", inputs, outputs)
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", opset)])
    feeds = {n: a for n, a in zip(node.input, arrays, strict=False) if n}
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            results = ReferenceEvaluator(model).run(None, feeds)
    except Exception:  # onnx's evaluator raises whatever numpy raises
        return None
    by_name = dict(zip((n for n in node.output if n), results, strict=True))
    return [np.asarray(by_name.get(name, 0)) for name in node.output]


def _is_foldable(node: onnx.NodeProto, arrays: Sequence[NDArray[Any] | None]) -> bool:
    """Weights in narrow floats too; integers of few bits stay, for products of them."""
    if node.op_type == "DequantizeLinear" and arrays[0] is not None:
        name = arrays[0].dtype.name
        return name in NARROW and NARROW[name].is_float
    return node.op_type in FOLDABLE


def _info(name: str) -> onnx.ValueInfoProto:
    info = onnx.ValueInfoProto()
    info.name = name
    return info


def _is_small(node: onnx.NodeProto, arrays: Sequence[NDArray[Any] | None]) -> bool:
    """Whether the result stays small, told from the inputs alone."""
    given = [a for a in arrays if a is not None]
    kind = node.op_type
    if kind in ("ConstantOfShape", "Expand", "Tile"):
        factors = [float(v) for v in np.asarray(given[-1]).reshape(-1)]
        base = given[0].size if kind != "ConstantOfShape" else 1
        return base * float(np.prod(factors)) <= MAX_ELEMENTS
    if kind == "Range":
        start, limit, delta = (float(a.reshape(())) for a in given[:3])
        return delta != 0 and (limit - start) / delta <= MAX_ELEMENTS
    if kind in ("OneHot", "Pad", "EyeLike", "Resize"):
        return all(a.size <= 64 and np.abs(a).max(initial=0) <= 1024 for a in given[1:2])
    if kind == "MatMul":
        return all(a.size <= MAX_PRODUCT for a in given)
    broadcast = kind in ("Add", "Sub", "Mul", "Div", "Where", "And", "Or", "Equal", "Pow")
    if broadcast and len(given) > 1:
        return float(np.prod(np.broadcast_shapes(*(a.shape for a in given)), dtype=float)) <= max(
            MAX_ELEMENTS, *(a.size for a in given)
        )
    return True
