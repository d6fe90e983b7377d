"""``motet.attention``: softmax(scale * Q K^T + mask) V of every head as one Relax operator.

As separate operators the scores [batch, heads, queries, keys] are a tensor in memory that is
written and read three times. As one call a kernel can keep a block of their rows in its cache.

Operands: queries, keys, values and, where there is one, the mask (float32, of at most four
axes, which broadcasts to [batch, heads, queries, keys] and is added to the scaled scores).

The first three and the result lie as their *layout* says, a word with a letter for every axis:
``B`` batch, ``H`` heads, ``S`` positions and ``D`` the elements of a head, ``B`` and ``H`` only
where there is such an axis; a digit is an axis of which that one place is read. So ``BSHD`` is
a projection whose heads were never moved apart, and ``BS0HD``, ``BS1HD`` and ``BS2HD`` of one
tensor are queries, keys and values that one projection made. The result's has no digits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import tvm
from tvm import relax, sym
from tvm.ir import Op

from .registering import register

NAME = "motet.attention"


@dataclass(frozen=True)
class Attention:
    """What attention computes, beside its operands: four layouts, and the scores' factor."""

    query: str
    key: str
    value: str
    result: str
    scale: float

    def attributes(self) -> Any:
        """As the attributes of a call."""
        return tvm.ir.make_node(
            "ir.DictAttrs", query=self.query, key=self.key, value=self.value,
            result=self.result, scale=repr(self.scale),
        )  # fmt: skip

    @classmethod
    def of(cls, call: Any) -> Attention:
        """From the attributes of a call, or of what it became."""
        attrs = call.attrs
        query, key, value, result = (str(attrs[n]) for n in ("query", "key", "value", "result"))
        return cls(query, key, value, result, float(str(attrs["scale"])))


def attention(what: Attention, operands: Sequence[relax.Expr]) -> relax.Call:
    """The call of the operator."""
    return relax.Call(Op.get(NAME), list(operands), what.attributes())


def extent(shape: Sequence[Any], layout: str, axis: str) -> Any:
    """The extent of an axis, by its letter; 1 where the layout has none."""
    return shape[layout.index(axis)] if axis in layout else tvm.tirx.IntImm("int64", 1)


def result_shape(what: Attention, query: Sequence[Any], value: Sequence[Any]) -> list[Any]:
    """The result's shape, of those of the queries and the values."""
    return [
        extent(value, what.value, "D") if axis == "D" else extent(query, what.query, axis)
        for axis in what.result
    ]


def multiply_accumulates(call: relax.Call) -> Any:
    """Of both products: batch * heads * queries * keys * (elements of a key and of a value)."""
    what = Attention.of(call)
    q, k, v = (list(argument.ty.shape.values) for argument in call.args[:3])
    lead = extent(q, what.query, "B") * extent(q, what.query, "H") * extent(q, what.query, "S")
    depth = extent(q, what.query, "D") + extent(v, what.value, "D")
    return sym.Analyzer().simplify(lead * extent(k, what.key, "S") * depth)


def _infer(call: relax.Call, _builder: relax.BlockBuilder) -> Any:
    q, v = call.args[0].ty, call.args[2].ty
    shape = result_shape(Attention.of(call), list(q.shape.values), list(v.shape.values))
    return relax.TensorType(shape, q.dtype)


register(NAME, "softmax(scale Q K^T + mask) V", _infer)
