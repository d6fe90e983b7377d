"""ReverseSequence: the first steps of every item of a batch, back to front."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tvm import relax

from motet.compiler.frontend.node import Node
from motet.compiler.frontend.values import constant, counted


def reverse_sequence(node: Node) -> relax.Expr:
    """Step t of item b is step lens[b] - 1 - t where t < lens[b], else step t.

    ``sequence_lens`` may come at run time. One gather over the steps, with the batch before
    them; other orders of the two axes are transposed to that and back.
    """
    batch, time = int(node.attr("batch_axis", 1)), int(node.attr("time_axis", 0))
    rank = node.rank()
    if {batch, time} != {0, 1} or rank < 2:
        node.refuse(f"batch_axis {batch} and time_axis {time}: they are 0 and 1, either way")
    items, steps = node.shape()[batch], node.shape()[time]
    order = [batch, time, *range(2, rank)]
    x = node.x() if batch == 0 else node.emit(relax.op.permute_dims(node.x(), order))
    places = node.emit(relax.op.reshape(_sources(node, items, steps), [items, steps, 1]))
    turned = relax.op.gather_nd(x, places, 1)
    return turned if batch == 0 else relax.op.permute_dims(node.emit(turned), order)


def _sources(node: Node, items: Any, steps: Any) -> relax.Expr:
    """The step that each item's step comes from, ``[items, steps]``."""
    lens = node.constant(1)
    if lens is not None and isinstance(steps, int):
        if (lens > steps).any() or (lens < 0).any():
            node.refuse(f"sequence_lens {lens.tolist()} of {steps} steps")
        index, ends = np.arange(steps), lens.astype(np.int64)[:, None]
        return constant(np.where(index < ends, ends - 1 - index, index))
    index = node.emit(counted(steps))
    ends = node.emit(relax.op.expand_dims(relax.op.astype(node.x(1), "int64"), 1))
    last = relax.op.subtract(ends, node.scalar(1, "int64"))
    mirrored = node.emit(relax.op.subtract(last, index))
    return node.emit(relax.op.where(relax.op.less(index, ends), mirrored, index))


CONVERTERS: dict[str, Callable[[Node], Any]] = {"ReverseSequence": reverse_sequence}
