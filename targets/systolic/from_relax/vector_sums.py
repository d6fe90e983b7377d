"""How wide a program's sums of vectors are once the weights are known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from numpy.typing import NDArray
from tvm import relax
from tvm.ir.expr import GenericConst

from motet.targets.systolic.formats import format_named
from motet.targets.systolic.from_relax.vectors import with_sums
from motet.targets.systolic.from_relax.workload import RegionBinding
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.sum_width import KnownWeights, sum_width


def narrowed(binding: RegionBinding, arguments: Sequence[relax.Expr]) -> RegionBinding:
    """``binding`` with accumulators no wider than the constants among ``arguments`` need.

    ``arguments``: of the region's call. What is of no vectors, or of sums of 32 bits, stays.
    """
    workload = binding.workload
    vectors = format_named(workload.vectors).vectors if workload.vectors else None
    if vectors is None or vectors.sum_bits == 32:
        return binding
    given = dict(zip(_arguments(binding), binding.params, strict=True))
    widths = []
    for step in workload.steps:
        weight = step.inputs[1]
        integers = _constant(arguments, given[weight])
        scales = _constant(arguments, given[weight + 1])
        if integers is None or scales is None:
            return binding
        known = KnownWeights(integers, scales)
        widths.append(sum_width(vectors, 0, known))
    words = with_sums(vectors, max(widths))
    return replace(binding, workload=replace(workload, vectors=words.name))


def _arguments(binding: RegionBinding) -> list[int]:
    """Numbers of the tensors that the caller gives, in order."""
    made = (Element.WORD, Element.WEIGHT, Element.SCALE, Element.FP32)
    inner = {step.output for step in binding.workload.steps}
    tensors = binding.workload.tensors
    return [i for i, t in enumerate(tensors) if t.element in made and i not in inner]


def _constant(arguments: Sequence[relax.Expr], index: int) -> NDArray[Any] | None:
    """The values of argument ``index`` where it is a constant."""
    value = arguments[index] if index < len(arguments) else None
    return value.value.numpy() if isinstance(value, GenericConst) else None
