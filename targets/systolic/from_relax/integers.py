"""Products of signed bytes, summed in int32: what 8-bit models are made of.

Such a product is computed in the format int8, whatever format the bundle's floats are in, and is
a program of its own. Its result are the sums, with the bias in int32 that follows them.
"""

from __future__ import annotations

from tvm import relax

from motet.targets.systolic.from_relax.values import name_of, shape_of

FORMAT = "int8"
WORDS = ("float32", "int8")
"""Element types of what a product reads."""
SUMS = ("float32", "int32")
"""Of what it computes, in the same order."""
_PRODUCTS = frozenset(("relax.nn.conv1d", "relax.nn.conv2d", "relax.matmul"))


def is_integer_product(call: relax.Call) -> bool:
    """Whether ``call`` is a convolution or matrix product with sums in int32."""
    is_product = isinstance(call, relax.Call) and name_of(call) in _PRODUCTS
    return is_product and str(call.ty.dtype) == "int32"


def require_bytes(call: relax.Call) -> None:
    """Raise ``RefusedError`` unless a product of integers is of signed bytes of known shapes."""
    for value in call.args[:2]:
        shape_of(value, ("int8",))
    shape_of(call, ("int32",))
