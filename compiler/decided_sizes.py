"""The sizes of inputs in the ONNX file of merges that hold for these sizes only.

A bias map has the sizes of the merged layer's result, and a border computed apart is cut by
them. Where these follow from shapes that a user gave in place of open ones, the file that is
written has to say so, or it would accept inputs that it cannot compute.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import onnx

from motet.compiler.frontend.dimensions import tensor_type
from motet.passes.decisions import Decided

Shape = Sequence[int | str]


def depends_on_sizes(decided: Decided) -> bool:
    """Whether a merge has a bias map or a border computed apart."""
    return any(
        any(merge.strip) or (merge.bias and decided.weights[merge.bias].ndim > 1)
        for merge in decided.decisions.merges
    )


def fix_sizes(model: onnx.ModelProto, shapes: Mapping[str, Shape]) -> None:
    """Write ``shapes`` of inputs into ``model``, and what follows from them.

    Names of open sizes that get a number get it in all types. Types of inner values whose sizes
    have other names (as of what was computed from them) are dropped, and such sizes of
    outputs left open.
    """
    graph, numbers = model.graph, dict[str, int]()
    for info in graph.input:
        tensor = tensor_type(info)
        if info.name not in shapes or tensor is None:
            continue
        old = [dim.dim_param for dim in tensor.shape.dim]
        new = shapes[info.name]
        numbers |= {n: s for n, s in zip(old, new, strict=False) if n and isinstance(s, int)}
        _set(tensor, new)
    for info in (*graph.input, *graph.output, *graph.value_info):
        _number(info, numbers)
    named = {name for info in graph.input for name in _names(info)}
    for info in graph.output:
        for dim in _dims(info):
            if dim.dim_param and dim.dim_param not in named:
                dim.ClearField("dim_param")
    for index in reversed(range(len(graph.value_info))):
        if not named.issuperset(_names(graph.value_info[index])):
            del graph.value_info[index]


def _set(tensor: onnx.TypeProto.Tensor, shape: Shape) -> None:
    del tensor.shape.dim[:]
    for size in shape:
        dim = tensor.shape.dim.add()
        if isinstance(size, int):
            dim.dim_value = size
        else:
            dim.dim_param = size


def _number(info: onnx.ValueInfoProto, numbers: Mapping[str, int]) -> None:
    for dim in _dims(info):
        if dim.dim_param in numbers:
            dim.dim_value = numbers[dim.dim_param]


def _names(info: onnx.ValueInfoProto) -> list[str]:
    return [dim.dim_param for dim in _dims(info) if dim.dim_param]


def _dims(info: onnx.ValueInfoProto) -> list[onnx.TensorShapeProto.Dimension]:
    tensor = tensor_type(info)
    return [] if tensor is None else list(tensor.shape.dim)
