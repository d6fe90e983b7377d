"""TVM's own ONNX converters, for the operators that this front end does not convert itself.

Only those listed in ``USABLE`` are used: the others are wrong, lower to opaque kernels,
belong to other operator domains, or have a converter here.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from typing import Any

import onnx
from tvm import relax
from tvm.relax.frontend.onnx import onnx_frontend

from .node import Node

_USABLE_NAMES = """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitwiseAnd BitwiseNot BitwiseOr
    BitwiseXor Ceil Cos Cosh Erf Exp
    Floor Greater GreaterOrEqual GridSample GroupNormalization HardSigmoid HardSwish Hardmax
    InstanceNormalization IsNaN LeakyRelu Less LessOrEqual Log MaxRoiPool Mul
    Neg Not Or Relu Round Shrink Sigmoid Sign Sin Sinh Softplus
    Softsign Sqrt Sub Tan Tanh Where Xor
"""
USABLE = frozenset(_USABLE_NAMES.split())


def convert(node: Node) -> relax.Expr:
    """Convert ``node`` with TVM's converter, whose prints and warnings are kept quiet."""
    converter = onnx_frontend._get_convert_map()[node.op_type].get_converter(node.opset)
    inputs = onnx_frontend.onnx_input([None if v is None else node.tensor(v) for v in node.inputs])
    attributes = {name: _encoded(value) for name, value in node.attributes.items()}
    attributes["tvm_custom"] = {"name": node.op_type, "num_outputs": node.outputs}
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        return converter(node.builder, inputs, attributes, [{}, {}])


def _encoded(value: Any) -> Any:
    """Attributes as TVM expects them: strings as bytes, lists as tuples."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, list) and not any(isinstance(v, onnx.TensorProto) for v in value):
        return tuple(value)
    return value
