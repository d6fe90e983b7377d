"""Layouts of attention's operands, seen through calls that only move elements.

A layout is a word of ``motet.targets.operators.attention``: a letter for every axis, or a digit
for an axis of which one place is read. ``B`` and ``H`` of one element need no axis.
"""

from __future__ import annotations

from tvm import relax
from tvm.tirx import IntImm
from tvm_ffi import structural_equal

from motet.passes.op_kinds import op_name

_HIGHEST_PLACE = 9


def through(call: relax.Call, layout: str) -> str | None:
    """The layout of what ``call`` reads, where its own result has ``layout``; None where it is
    not a reordering, a slice of single places or a reshape by axes of one element.
    """
    if not call.args or not _shape(call) or not _shape(call.args[0]):
        return None
    if op_name(call) == "relax.permute_dims":
        return _transposed(call, layout)
    if op_name(call) == "relax.strided_slice":
        return _sliced(call, layout)
    if op_name(call) in ("relax.reshape", "relax.squeeze", "relax.expand_dims"):
        return _reshaped(call, layout)
    return None


def _shape(expr: relax.Expr) -> list[object]:
    shape = getattr(expr.ty, "shape", None)
    return list(shape.values) if isinstance(shape, relax.ShapeExpr) else []


def _is_one(size: object) -> bool:
    return isinstance(size, IntImm) and int(size) == 1


def _transposed(call: relax.Call, layout: str) -> str | None:
    axes = call.attrs.axes
    order = range(len(layout))[::-1] if axes is None else [int(a) % len(layout) for a in axes]
    letters = dict(zip(order, layout, strict=True))
    return "".join(letters[axis] for axis in range(len(layout)))


def _sliced(call: relax.Call, layout: str) -> str | None:
    """Where every axis that is cut is cut down to one place, which is a constant."""
    values = [_integers(argument) for argument in call.args[1:]]
    if len(values) < 3 or any(value is None for value in values):
        return None
    axes, begins = (value or [] for value in values[:2])
    before, after = _shape(call.args[0]), _shape(call)
    begin = dict(zip((a % len(layout) for a in axes), begins, strict=True))
    letters = list(layout)
    for axis, (whole, cut) in enumerate(zip(before, after, strict=True)):
        if structural_equal(whole, cut) and not begin.get(axis, 0):
            continue
        place = begin.get(axis, 0)
        size = int(whole) if isinstance(whole, IntImm) else None
        if size is None or not _is_one(cut) or letters[axis] in "SD":
            return None
        place += size if place < 0 else 0
        if not 0 <= place <= min(_HIGHEST_PLACE, size - 1) or letters[axis] in "123456789":
            return None
        letters[axis] = str(place)
    return "".join(letters)


def _integers(values: relax.Expr) -> list[int] | None:
    """The values of a tuple of constant integers."""
    fields = getattr(values, "fields", None)
    if fields is None:
        return None
    numbers = [getattr(field, "value", field) for field in fields]
    known = [int(n) for n in numbers if isinstance(n, (int, IntImm))]
    return known if len(known) == len(numbers) else None


def _reshaped(call: relax.Call, layout: str) -> str | None:
    """Where axes of more than one element stay as they are, in their order."""
    before, after = _shape(call.args[0]), _shape(call)
    kept = [(size, a) for size, a in zip(after, layout, strict=True) if not _is_one(size)]
    dropped = [a for size, a in zip(after, layout, strict=True) if _is_one(size)]
    places = [axis for axis, size in enumerate(before) if not _is_one(size)]
    if any(a in "SD" for a in dropped) or len(places) != len(kept):
        return None
    letters = ["0"] * len(before)
    for axis, (size, letter) in zip(places, kept, strict=True):
        if not structural_equal(before[axis], size):
            return None
        letters[axis] = letter
    return "".join(letters)
