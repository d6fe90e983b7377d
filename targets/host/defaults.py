"""TVM's own definition of an operator, for uses that no definition here covers."""

from __future__ import annotations

from typing import Any

from tvm import relax


def by_tvm(builder: Any, call: Any) -> relax.Expr:
    """``call`` as TVM legalises it."""
    return call.op.get_attr("FLegalize")(builder, call)
