"""Sizes and element types that a model is refused for, before anything is allocated or built."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tvm import relax

from motet.runtime.element_types import NARROW
from motet.runtime.errors import ModelError

from .values import as_dim

MAX_ELEMENTS = 2**31 - 1
MAX_TOTAL_BYTES = 16 * 2**30
# What numpy has by itself, and so what a bundle computes in.
_INTEGERS = tuple(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64))
RUNNABLE = frozenset(("bool", "float16", "float32", "float64", *_INTEGERS))


def check_dtype(dtype: str, what: str) -> None:
    """Refuse an element type that no kernel runs on; ``what`` begins the message."""
    if dtype not in RUNNABLE and dtype not in NARROW:
        raise ModelError(
            f"{what} has the element type {dtype}, which Motet does not run: "
            "convert the model to float32 or float16"
        )


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
    """Refuse a Relax tensor type of too many elements, or of elements that cannot be run."""
    if isinstance(ty, relax.TensorType):
        check_dtype(str(ty.dtype), what)
    if isinstance(ty, relax.TensorType) and isinstance(ty.shape, relax.ShapeExpr):
        check_elements([as_dim(dim) for dim in ty.shape.values], what)
