"""The references on a case that Motet answered: is the answer right?

onnxruntime is asked first; where it agrees, the answer is right. Else onnx.reference
decides. An answer is wrong where onnxruntime, or where that refuses the model
onnx.reference, gives other values; where neither runs the model nobody can judge. Nor
where onnxruntime takes the model but not the inputs: what they should give is undefined.

Runs in a worker process of its own: the references crash on some mutated models too.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from motet.check import Tolerance, compare
from motet.compiler.frontend.limits import RUNNABLE

from .subject import tensors_of
from .versions import for_onnxruntime

Arrays = dict[str, NDArray[Any]]
Outputs = dict[str, Any]
"""Tensors, and sequences of them as lists, by name."""

TOLERANCES = {
    "float64": Tolerance(1e-6, 1e-4, 1e-6),
    "float32": Tolerance(1e-5, 1e-3, 1e-5),
    "float16": Tolerance(1e-3, 1e-2, 1e-2),
    "bfloat16": Tolerance(1e-2, 3e-2, 2e-2),
}
"""By dtype, as in ``motet check``; the last is of the largest element, for sums that cancel."""


RANDOM = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform",
    "RandomUniformLike",
}  # fmt: skip
"""Operators of which no two implementations draw the same."""


@dataclass(frozen=True)
class Verdict:
    """kind: "right", "right by onnx.reference", "unjudged", or "wrong answer"; detail: why."""

    kind: str
    detail: str = ""


def is_random(model: onnx.ModelProto) -> bool:
    """Whether a node of the model, also inside a branch or function, draws random numbers."""
    nodes = [*model.graph.node, *(node for function in model.functions for node in function.node)]
    while nodes:
        node = nodes.pop()
        if node.op_type in RANDOM:
            return True
        for attribute in node.attribute:
            for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                nodes += graph.node
    return False


def by_onnxruntime(content: bytes, inputs: Arrays, outputs: Outputs) -> Verdict:
    """The verdict of onnxruntime, with what it says.

    "right", "differs", "not finite"; "cannot" where it does not take the model, "refuses the
    inputs" where it does not run it on these: an index that points nowhere, a length below 0.
    """
    import onnxruntime

    if is_random(onnx.load_from_string(content)):
        return Verdict("cannot", "the model draws random numbers")
    if not all(_is_numpys(array) for array in inputs.values()):
        return Verdict("cannot", "it takes no numpy array of such small floats")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    known = for_onnxruntime(content)
    try:
        session = onnxruntime.InferenceSession(known, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's kinds have no common base
        return Verdict("cannot", str(error)[:500])
    try:
        return _verdict(outputs, session.run(list(outputs), inputs))
    except Exception as error:
        return Verdict("refuses the inputs", str(error)[:500])


def by_reference(content: bytes, inputs: Arrays, outputs: Outputs) -> Verdict:
    """The same of onnx.reference."""
    from onnx.reference import ReferenceEvaluator

    if is_random(onnx.load_from_string(content)):
        return Verdict("cannot", "the model draws random numbers")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            evaluator = ReferenceEvaluator(onnx.load_from_string(content))
            theirs = evaluator.run(list(outputs), inputs)
    except Exception as error:  # whatever numpy raises
        return Verdict("cannot", f"{type(error).__name__}: {error}"[:500])
    return _verdict(outputs, theirs)


def _verdict(outputs: Outputs, theirs: Any) -> Verdict:
    finite, texts = True, []
    for (name, ours), value in zip(outputs.items(), theirs, strict=True):
        if isinstance(value, dict) or value is None:
            return Verdict("cannot", f"its output {name!r} is no tensor and no sequence")
        have, want = tensors_of(ours), _like(tensors_of(value), tensors_of(ours))
        if any(tensor.dtype.kind in "OSU" for tensor in want):
            return Verdict("cannot", f"its output {name!r} is of type {want[0].dtype}")
        finite &= all(bool(np.isfinite(tensor).all()) for tensor in want)
        texts += [f"{name!r}: {text}" for text in _differences(have, want)]
        if isinstance(ours, list) != isinstance(value, list):
            texts.append(f"{name!r}: a sequence and a tensor")
    if not texts:
        return Verdict("right")
    return Verdict("differs" if finite else "not finite", "; ".join(texts)[:500])


def _is_numpys(array: NDArray[Any]) -> bool:
    """Whether numpy has the element type by itself, not by ml_dtypes."""
    return array.dtype.name in RUNNABLE


def _like(theirs: list[NDArray[Any]], ours: list[NDArray[Any]]) -> list[NDArray[Any]]:
    """``theirs``, where onnxruntime gives the bytes of a float8 or bfloat16 as integers."""
    return [
        their.view(our.dtype)
        if not _is_numpys(our) and their.dtype == f"uint{8 * our.dtype.itemsize}"
        else their
        for their, our in zip(theirs, ours, strict=False)
    ] + theirs[len(ours) :]


def _widened(one: NDArray[Any], other: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """Two of one type that numpy lacks as float32, which holds all its values."""
    if one.dtype != other.dtype or _is_numpys(one):
        return one, other
    return one.astype(np.float32), other.astype(np.float32)


def _differences(have: list[NDArray[Any]], want: list[NDArray[Any]]) -> list[str]:
    """A text for every tensor that is not the one wanted."""
    if len(have) != len(want):
        return [f"{len(have)} tensors, the reference has {len(want)}"]
    found = [
        compare("", "", *_widened(one, other), TOLERANCES.get(other.dtype.name, Tolerance()))
        for one, other in zip(have, want, strict=True)
    ]
    return [one.note or f"off by {one.absolute:.3g}" for one in found if not one.passed]


def settled(first: Verdict, second: Verdict | None) -> Verdict:
    """What onnxruntime (first) and onnx.reference (second) together say."""
    if first.kind == "right":
        return first
    assert second is not None
    if second.kind == "right":
        return Verdict("right by onnx.reference", f"onnxruntime: {first.kind}: {first.detail}")
    text = f"onnxruntime: {first.kind} {first.detail}; reference: {second.kind} {second.detail}"
    if first.kind == "differs":
        return Verdict("wrong answer", text)
    if first.kind == "cannot" and second.kind == "differs":
        return Verdict("wrong answer by onnx.reference", text)
    return Verdict("unjudged", text)
