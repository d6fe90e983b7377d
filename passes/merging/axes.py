"""Following (N, C, ...) through transposes and reshapes: which axis is the channels'.

A layout lists, for each axis of a tensor as it stands, the axes of the convolution's own tensor
that it holds, in order: (0,) (2,) (3,) (1,) after a transpose to channels last, (0,) (1,) (2, 3)
after the spatial axes were made one, () for an axis of size one that was put in. Where the
layout is the convolution's own again, what was between did nothing but to elementwise calls.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tvm import relax
from tvm_ffi import structural_equal

from motet.passes.op_kinds import Kind, kind_of, op_name

Groups = tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class Layout:
    """groups: as the module says. sizes: of the convolution's own axes, integers or symbols."""

    groups: Groups
    sizes: tuple[Any, ...]

    @property
    def is_own(self) -> bool:
        """Whether every axis is where the convolution has it."""
        return self.groups == tuple((axis,) for axis in range(len(self.sizes)))

    @property
    def channel_axis(self) -> int | None:
        """Where the channels alone are; None where they are joined with another axis."""
        return self.groups.index((1,)) if (1,) in self.groups else None

    def through(self, call: relax.Call) -> Layout | None:
        """Behind the transpose or view ``call``; None where an axis is cut, or it is another."""
        if op_name(call) == "relax.permute_dims":
            order = _order(call)
            return Layout(tuple(self.groups[axis] for axis in order), self.sizes)
        return self._regrouped(call)

    def before(self, call: relax.Call) -> Layout | None:
        """In front of the transpose or view ``call``, where this is behind it."""
        if op_name(call) == "relax.permute_dims":
            groups: list[tuple[int, ...]] = [()] * len(self.groups)
            for place, axis in enumerate(_order(call)):
                groups[axis] = self.groups[place]
            return Layout(tuple(groups), self.sizes)
        return self._regrouped(call.args[0])

    def _regrouped(self, like: relax.Expr) -> Layout | None:
        """The same elements in order, in the shape of ``like``."""
        values = getattr(getattr(like.ty, "shape", None), "values", None)
        if values is None:
            return None
        left = [axis for group in self.groups for axis in group]
        groups = []
        for size in values:
            group = _taken(left, self.sizes, size)
            if group is None:
                return None
            groups.append(group)
        groups[-1] += tuple(left) if groups else ()
        one = all(_number(self.sizes[axis]) == 1 for axis in left)
        return Layout(tuple(groups), self.sizes) if one and groups else None


def own(tensor: relax.Expr) -> Layout | None:
    """The layout of a convolution's operand or result; None where its shape is not known."""
    values = getattr(getattr(tensor.ty, "shape", None), "values", None)
    if values is None:
        return None
    return Layout(tuple((axis,) for axis in range(len(values))), tuple(values))


def moves_axes(call: relax.Expr) -> bool:
    """Whether ``call`` is a transpose or a view."""
    return op_name(call) == "relax.permute_dims" or kind_of(call) is Kind.VIEW


def _order(call: relax.Call) -> Sequence[int]:
    rank = int(call.args[0].ty.ndim)
    axes = call.attrs.axes
    order = range(rank - 1, -1, -1) if axes is None else [int(axis) for axis in axes]
    return [axis % rank for axis in order]


def _number(size: Any) -> int | None:
    value = getattr(size, "value", None)
    return None if value is None else int(value)


def _taken(left: list[int], sizes: Sequence[Any], size: Any) -> tuple[int, ...] | None:
    """The next axes that make up one of ``size``, taken from ``left``."""
    if left and structural_equal(sizes[left[0]], size):
        return (left.pop(0),)
    wanted, found, group = _number(size), 1, list[int]()
    while wanted is not None and found < wanted and left:
        number = _number(sizes[left[0]])
        if number is None:
            return None
        found *= number
        group.append(left.pop(0))
    return tuple(group) if wanted == found else None
