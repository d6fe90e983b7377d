"""The sizes beyond which a model is refused, before anything of that size is allocated."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import relax

from motet.runtime.errors import ModelError

from .values import as_dim

MAX_ELEMENTS = 2**31 - 1
MAX_TOTAL_BYTES = 16 * 2**30


def check_elements(dims: Sequence[Any], what: str) -> int:
    """Elements of a tensor (symbolic dimensions count as 1); ``what`` begins the message.

    Raises
    ------
    ModelError
        Where the tensor has more than ``MAX_ELEMENTS``.
    """
    elements = math.prod(dim for dim in dims if isinstance(dim, int))
    if elements > MAX_ELEMENTS:
        raise ModelError(
            f"{what} has {elements} elements, more than the limit of {MAX_ELEMENTS} "
            "a tensor: use smaller dimensions"
        )
    return elements


def check_total(size_bytes: int, model: str) -> None:
    """Refuse a model whose inputs and weights together exceed ``MAX_TOTAL_BYTES``."""
    if size_bytes > MAX_TOTAL_BYTES:
        raise ModelError(
            f"{model}: its inputs and weights need {size_bytes} bytes, "
            f"more than the limit of {MAX_TOTAL_BYTES}"
        )


def check_type(ty: Any, what: str) -> None:
    """Refuse a Relax tensor type of too many elements."""
    if isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr):
        check_elements([as_dim(dim) for dim in ty.shape.values], what)
