"""``Scan``, unrolled at import: states carried over the slices of its scan inputs.

From opset 9 on a scan has axes and directions of its own for every input and output.
``Scan`` of opset 8 scans every item of a batch (axis 0) over axis 1, as long as
``sequence_lens`` says; the rest of an item's outputs is filled with zeros.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from tvm import relax

from .control_flow import Site, Walk
from .loop_bodies import Body, empty_stack, stacked
from .node import Node
from .types import with_type_of
from .values import Constant, Value, constant

_BATCHED = 9  # opsets below scan batches


@dataclass(frozen=True)
class _Input:
    """A scan input: the axis it is scanned along, and whether backwards."""

    value: Value
    axis: int
    backwards: bool


def scan(walk: Walk, site: Site) -> list[Value]:
    """Outputs of ``Scan``: the last states, then what the iterations gave, stacked."""
    view, body = site.view, Body(walk, site)
    if view.opset < _BATCHED:
        return _batched(body)
    count = int(view.attr("num_scan_inputs"))
    states = [view.value(i) for i in range(len(view.inputs) - count)]
    axes = _option(view, "scan_input_axes", count)
    backwards = _option(view, "scan_input_directions", count)
    inputs = [
        _Input(value, view.normal_axis(axis, _rank(view, value)), bool(back))
        for value, axis, back in zip(
            [view.value(len(states) + i) for i in range(count)], axes, backwards, strict=True
        )
    ]
    steps = _length(view, inputs)
    body.check_count(steps)
    states, collected = _scanned(body, states, inputs, steps)
    places = _option(view, "scan_output_axes", len(collected))
    turned = _option(view, "scan_output_directions", len(collected))
    if not steps:
        sample = body.tried([*states, *_sample(body, inputs)])[len(states) :]
        return states + [
            empty_stack(walk, site, v, axis) for v, axis in zip(sample, places, strict=True)
        ]
    return states + [
        stacked(walk, site, values[::-1] if turn else values, axis)
        for values, axis, turn in zip(collected, places, turned, strict=True)
    ]


def _option(view: Node, name: str, count: int) -> list[int]:
    """A list attribute with an entry for each of ``count``; zeros where it is left out."""
    values = [int(v) for v in view.attr(name) or [0] * count]
    if len(values) != count:
        view.refuse(f"its {name} has {len(values)} entries for {count}")
    return values


def _rank(view: Node, value: Value) -> int:
    return value.array.ndim if isinstance(value, Constant) else view.rank(view.tensor(value))


def _length(view: Node, inputs: Sequence[_Input]) -> int:
    """The number of iterations: the common extent of the scanned axes."""
    dims = [
        i.value.array.shape[i.axis]
        if isinstance(i.value, Constant)
        else view.shape(view.tensor(i.value))[i.axis]
        for i in inputs
    ]
    lengths = view.static(dims, "the number of iterations")
    if len(set(lengths)) > 1:
        view.refuse(f"its scan inputs have {sorted(set(lengths))} slices")
    return lengths[0]


def _scanned(
    body: Body, states: list[Value], inputs: Sequence[_Input], steps: int
) -> tuple[list[Value], list[list[Value]]]:
    """The last states, and for each scan output what the iterations gave."""
    collected: list[list[Value]] = [[] for _ in range(body.outputs - len(states))]
    for step in range(steps):
        slices = [
            taken(body, i.value, i.axis, steps - 1 - step if i.backwards else step) for i in inputs
        ]
        results = body.run([*states, *slices])
        states = results[: len(states)]
        for values, value in zip(collected, results[len(states) :], strict=True):
            values.append(value)
    return states, collected


def taken(body: Body, value: Value, axis: int, index: int) -> Value:
    """``value`` at ``index`` of ``axis``; the index is an operand, so that kernels are equal."""
    if isinstance(value, Constant):
        return Constant(np.take(value.array, index, axis))
    view = body.site.view
    with body.site.record(body.walk) as recorded:
        part = relax.op.take(view.tensor(value), constant(np.int64(index)), axis, mode="clip")
        return with_type_of(value, recorded.values(part, view)[0])


def _sample(body: Body, inputs: Sequence[_Input]) -> list[Value]:
    """Slices of inputs that have none: zeros of their shape."""
    result: list[Value] = []
    for item in inputs:
        view = body.site.view
        tensor = view.tensor(item.value)
        shape = view.static(view.shape(tensor), "the shape of its scan input")
        del shape[item.axis]
        zeros = Constant(np.zeros(shape, view.dtype(tensor)))
        result.append(with_type_of(item.value, zeros))
    return result


def _batched(body: Body) -> list[Value]:
    """Outputs of opset 8's ``Scan``: one scan for each item of the batch."""
    view, walk, site = body.site.view, body.walk, body.site
    count = int(view.attr("num_scan_inputs"))
    values = [view.value(i) for i in range(1, len(view.inputs))]
    states, scanned = values[: len(values) - count], values[len(values) - count :]
    backwards = _option(view, "directions", count)
    inputs = [_Input(v, 1, bool(b)) for v, b in zip(scanned, backwards, strict=True)]
    steps = _length(view, inputs)
    lengths = _lengths(view, scanned[0], steps)
    body.check_count(int(lengths.sum()))
    results = [_item(body, states, inputs, b, int(n), steps) for b, n in enumerate(lengths)]
    return [stacked(walk, site, list(values), 0) for values in zip(*results, strict=True)]


def _lengths(
    view: Node, scanned: Value, steps: int
) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """The number of iterations of every item."""
    batch = view.static([view.shape(view.tensor(scanned))[0]], "the batch")[0]
    if not view.has(0):
        return np.full(batch, steps)
    lengths = view.needed_constant(0, "sequence_lens").astype(np.int64)
    if lengths.shape != (batch,) or (lengths > steps).any() or (lengths < 0).any():
        view.refuse(f"its sequence_lens are {lengths.tolist()} for {batch} items of {steps} steps")
    return lengths


def _item(
    body: Body, states: list[Value], inputs: Sequence[_Input], item: int, length: int, steps: int
) -> list[Value]:
    """Results of the scan of one item of the batch, its outputs filled up with zeros."""
    own = [taken(body, state, 0, item) for state in states]
    # A sequence is turned as far as it is long: the slices before its end come first.
    slices = [_Input(taken(body, i.value, 0, item), 0, i.backwards) for i in inputs]
    after, collected = _scanned(body, own, slices, length)
    sample = collected if length else [[v] for v in body.tried([*own, *_first(body, slices)])]
    if not length:
        sample = sample[len(own) :]
    outputs = []
    for values, (like, *_) in zip(collected, sample, strict=True):
        filled = [*values, *[_zeros(body, like)] * (steps - length)]
        outputs.append(stacked(body.walk, body.site, filled, 0))
    return [*after, *outputs]


def _first(body: Body, slices: Sequence[_Input]) -> list[Value]:
    return [taken(body, i.value, 0, 0) for i in slices]


def _zeros(body: Body, like: Value) -> Value:
    view = body.site.view
    with body.site.record(body.walk) as recorded:
        tensor = view.tensor(like)
        shape = view.static(view.shape(tensor), "the shape of its output")
        zeros = Constant(np.zeros(shape, view.dtype(tensor)))
        return with_type_of(like, recorded.values(zeros, view)[0])
