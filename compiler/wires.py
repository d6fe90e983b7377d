"""Checks what a specification says of models once they are read: wired tensors fit."""

from __future__ import annotations

from collections.abc import Sequence

from motet.compiler.frontend.load import ImportedModel
from motet.compiler.spec import BundleSpec, split_wire
from motet.runtime.errors import SpecError
from motet.runtime.program import TensorInfo
from motet.runtime.shapes import render_shape


def check_wires(spec: BundleSpec, models: Sequence[ImportedModel]) -> None:
    """Raise ``SpecError`` where a wire names no tensor, or joins tensors that differ."""
    by_name = {model.name: model for model in models}
    for model in spec.models:
        for own, wire in model.inputs.items():
            key = f"models.{model.name}.inputs.{own}"
            source, output = split_wire(wire)
            target = _find(by_name[model.name].inputs, own, f"{key}: {model.name}", "input")
            origin = _find(by_name[source].outputs, output, f"{key}: {source}", "output")
            if target.dtype != origin.dtype or not _may_fit(target, origin):
                raise SpecError(
                    f"{key}: {wire} is {origin.dtype} {render_shape(origin.shape)}, "
                    f"the input takes {target.dtype} {render_shape(target.shape)}"
                )


def _find(tensors: Sequence[TensorInfo], name: str, where: str, kind: str) -> TensorInfo:
    for tensor in tensors:
        if tensor.name == name:
            return tensor
    known = ", ".join(tensor.name for tensor in tensors)
    raise SpecError(f"{where} has no {kind} {name!r}; it has {known}")


def _may_fit(target: TensorInfo, origin: TensorInfo) -> bool:
    """Whether shapes can be equal: a symbol may stand for any number."""
    return len(target.shape) == len(origin.shape) and all(
        one == other or not isinstance(one, int) or not isinstance(other, int)
        for one, other in zip(target.shape, origin.shape, strict=True)
    )
