"""How far a quantised model's outputs may be from onnxruntime's: what rounding alone does.

Where two right engines sum in different orders, a value beside a half becomes one integer here
and its neighbour there, and the layers behind carry the step on. How much that moves the
outputs is the network's own: it is measured, on copies of the model whose quantisers divide
by scales that are off by ``OFF``, more than sums in float32 err, and far less than a step.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from motet.check import (
    Difference,
    compare,
    fixed_inputs,
    onnxruntime_session,
    outputs_of,
    reference_run,
    tolerance_for,
)
from motet.runtime.device import Array

if TYPE_CHECKING:
    import onnx

    from motet.runtime.session import ModelSession

OFF = 2.0**-14
"""Relative error of the scales: sums of thousands of float32 products err by less."""

COPIES = 3
"""Copies with other signs of the error each."""

TIMES = 2.0
"""How much further than the furthest copy an output may be, as a whole and in one element."""

_SCALE_OF_RESULT = {
    "QuantizeLinear": 1,
    "QLinearConv": 6,
    "QLinearMatMul": 6,
    "QLinearAdd": 6,
    "QLinearMul": 6,
    "QLinearSigmoid": 3,
    "QLinearLeakyRelu": 3,
    "QLinearSoftmax": 3,
    "QLinearGlobalAveragePool": 3,
    "QLinearAveragePool": 3,
    "QLinearConcat": 0,
    "QGemm": 7,
}
"""Operators that round to integers, and which input is their result's scale."""

_FIND_THEIR_SCALE = ("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM")
"""Operators that round float data of their first input with scales that they find."""


class Roundings:
    """What a model's values move by when its quantisers' scales are a little off.

    source: the ONNX file's path, or a model's bytes. optimised: whether onnxruntime may fuse.
    """

    def __init__(self, model: str, source: str | bytes, optimised: bool = True) -> None:
        self.model, self._source, self._optimised = model, source, optimised

    @cached_property
    def _copies(self) -> list[Any]:
        """Onnxruntime sessions of the copies; none where the model rounds nothing."""
        copies = (scales_off(self._source, seed) for seed in range(COPIES))
        return [
            onnxruntime_session(each, self.model, self._optimised)
            for each in copies
            if each is not None
        ]

    def spread(
        self, wanted: Mapping[str, Array], inputs: Mapping[str, Any]
    ) -> dict[str, tuple[float, float]]:
        """By output: the largest root mean square, and element, that a copy is away by."""
        names = list(wanted)
        found = dict.fromkeys(names, (0.0, 0.0))
        for copy in self._copies:
            results = reference_run(copy, names, inputs, self.model)
            for name, result in zip(names, results, strict=True):
                sizes = _errors(np.asarray(result), wanted[name])
                found[name] = tuple(map(max, found[name], sizes))  # type: ignore[assignment]
        return found


def judged(
    difference: Difference, errors: tuple[float, float], spread: tuple[float, float]
) -> Difference:
    """``difference`` beside what rounding does; the kinder of the two stands.

    errors, spread: root mean square and largest element, of the output and of the copies.
    """
    allowed = [TIMES * size for size in spread]
    if difference.dtype in ("int8", "uint8"):
        allowed = [max(size, 1.0) for size in allowed]
    worst = max(
        error / most if most else np.inf for error, most in zip(errors, allowed, strict=True)
    )
    if worst >= difference.worst:
        return difference
    note = (
        f"quantised: rounding moves onnxruntime's own by up to {spread[1]:.3g} where scales are "
        f"off by {OFF:.1g}"
    )
    return replace(difference, worst=float(worst), note=note)


def _errors(value: Array, reference: Array) -> tuple[float, float]:
    """Root mean square, and largest magnitude, of a difference; infinite for other shapes."""
    if value.shape != reference.shape:
        return np.inf, np.inf
    if not value.size:
        return 0.0, 0.0
    error = np.abs(value.astype(np.float64) - reference.astype(np.float64))
    return float(np.sqrt(np.square(error).mean())), float(error.max())


def scales_off(source: str | bytes, seed: int) -> bytes | None:
    """The model with each quantiser's scale off by ``OFF``, up or down; None: it has none.

    source: a file's path, or a model's bytes.
    """
    model = _inlined(source)
    graph = model.graph
    weights = {each.name: each for each in graph.initializer}
    rng, found = np.random.default_rng(seed), False
    nodes: list[onnx.NodeProto] = []
    for index, node in enumerate(graph.node):
        place = _rounding_input(node, weights)
        if place is not None:
            found = True
            factor = 1 + OFF * float(rng.choice((-1, 1)))
            name = f"{node.input[place]}.motet.off{index}"
            nodes.extend(_scaled(graph, weights, node.input[place], name, factor))
            node.input[place] = name
        nodes.append(node)
    if not found:
        return None
    kept = [type(node).FromString(node.SerializeToString()) for node in nodes]
    del graph.node[:]
    graph.node.extend(kept)
    return bytes(model.SerializeToString())


def _inlined(source: str | bytes) -> onnx.ModelProto:
    """The model with its weights, and its functions' nodes in place of calls."""
    import onnx
    from onnx import inliner

    model = onnx.load(source) if isinstance(source, str) else onnx.load_from_string(source)
    return inliner.inline_local_functions(model) if model.functions else model


def _rounding_input(node: onnx.NodeProto, weights: Mapping[str, Any]) -> int | None:
    """The input of ``node`` that decides how computed values are rounded."""
    if node.op_type in _FIND_THEIR_SCALE:
        return 0
    if node.op_type == "QuantizeLinear" and node.input[0] in weights:
        return None
    return _SCALE_OF_RESULT.get(node.op_type)


def _scaled(
    graph: onnx.GraphProto, weights: Mapping[str, Any], old: str, new: str, factor: float
) -> Iterator[onnx.NodeProto]:
    """``old`` times ``factor`` as ``new``: another weight, or a node."""
    from onnx import helper, numpy_helper

    stored = weights.get(old)
    values = np.asarray(factor, np.float32)
    if stored is not None:
        reals = numpy_helper.to_array(stored)
        values = (reals.astype(np.float64) * factor).astype(reals.dtype)
        graph.initializer.append(numpy_helper.from_array(values, new))
        return
    graph.initializer.append(numpy_helper.from_array(values, f"{new}.factor"))
    yield helper.make_node("Mul", [old, f"{new}.factor"], [new], name=new)


def differences_beside_rounding(
    session: ModelSession,
    reference: Any,
    roundings: Roundings,
    inputs: Mapping[str, Array],
) -> list[Difference]:
    """As ``check.differences``, but outputs of quantised models beside what rounding does."""
    both = outputs_of(session, reference, inputs)
    found = [
        compare(session.name, name, value, want, tolerance_for(want.dtype.name))
        for name, (value, want) in both.items()
    ]
    beyond = [each.output for each in found if not each.passed and each.dtype in ROUNDED]
    wanted = {name: both[name][1] for name in beyond}
    given = {**session.inputs.grouped(inputs), **fixed_inputs(session)}
    spread = roundings.spread(wanted, given) if wanted else {}
    return [
        judged(each, _errors(*both[each.output]), spread[each.output])
        if each.output in spread
        else each
        for each in found
    ]


ROUNDED = ("float32", "float64", "float16", "int8", "uint8")
"""Types of outputs that rounding may move."""
