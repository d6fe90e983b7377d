"""Declared shapes and element types: zero, negative, huge, symbolic, missing, contradictory."""

from __future__ import annotations

from random import Random

import onnx
from onnx import ValueInfoProto

from .graphs import pick_graph
from .tensors import DIMS, ELEMENT_TYPES

SYMBOLS = ("N", "N", "M", "batch", "N+1", "2*N", "N-M", "N//2", "?", "", "1", "名", "a b")


def _pick(model: onnx.ModelProto, chance: Random) -> ValueInfoProto | None:
    graph = pick_graph(model, chance)
    kind = chance.choice((graph.input, graph.input, graph.output, graph.value_info))
    return chance.choice(kind) if kind else None


def change_dim(model: onnx.ModelProto, chance: Random) -> str:
    """One dimension of a declared shape."""
    info = _pick(model, chance)
    if info is None or not info.type.tensor_type.shape.dim:
        return ""
    dim = chance.choice(info.type.tensor_type.shape.dim)
    old = dim.dim_param or dim.dim_value
    what = chance.randrange(4)
    if what == 0:
        dim.dim_param = chance.choice(SYMBOLS)
    elif what == 1:
        dim.Clear()
    else:
        dim.dim_value = chance.choice((*DIMS, 3, 4, 5, 6, min(dim.dim_value + 1, 2**62)))
    return f"a dimension of {info.name!r} is {dim.dim_param or dim.dim_value}, was {old}"


def change_rank(model: onnx.ModelProto, chance: Random) -> str:
    """A dimension more or less, no shape, or very many dimensions."""
    info = _pick(model, chance)
    if info is None:
        return ""
    shape = info.type.tensor_type.shape
    what = chance.randrange(5)
    if what == 0:
        info.type.tensor_type.ClearField("shape")
    elif what == 1 and shape.dim:
        del shape.dim[chance.randrange(len(shape.dim))]
    elif what == 2:
        del shape.dim[:]
        shape.SetInParent()
    else:
        for _ in range(1 if what == 3 else 70):
            shape.dim.add().dim_value = 1
    return f"{info.name!r} is declared with rank {len(shape.dim)}"


def change_element_type(model: onnx.ModelProto, chance: Random) -> str:
    """Another element type of an input, output or value."""
    info = _pick(model, chance)
    if info is None:
        return ""
    info.type.tensor_type.elem_type = chance.choice((*ELEMENT_TYPES, 99))
    return f"{info.name!r} is declared of type {info.type.tensor_type.elem_type}"


def retype_everything(model: onnx.ModelProto, chance: Random) -> str:
    """All values of one element type become another: the model may stay right."""
    graph = model.graph
    infos = [*graph.input, *graph.output, *graph.value_info]
    present = sorted({info.type.tensor_type.elem_type for info in infos})
    if not present:
        return ""
    old, new = chance.choice(present), chance.choice(ELEMENT_TYPES[:14])
    for info in infos:
        if info.type.tensor_type.elem_type == old:
            info.type.tensor_type.elem_type = new
    return f"inputs and outputs of type {old} are of type {new}"


def change_kind(model: onnx.ModelProto, chance: Random) -> str:
    """A sequence, optional, sparse tensor, or nothing instead of a tensor."""
    info = _pick(model, chance)
    if info is None:
        return ""
    old = info.type.tensor_type.elem_type
    what = chance.choice(("sequence", "optional", "sparse", "none"))
    info.ClearField("type")
    if what == "sequence":
        info.type.sequence_type.elem_type.tensor_type.elem_type = old
    elif what == "optional":
        info.type.optional_type.elem_type.tensor_type.elem_type = old
    elif what == "sparse":
        info.type.sparse_tensor_type.elem_type = old
    return f"{info.name!r} is declared of kind {what}"


def generalise_sizes(model: onnx.ModelProto, chance: Random) -> str:
    """Equal sizes of inputs become one symbol, outputs lose theirs: the model may stay right."""
    graph = model.graph
    sizes = sorted({d.dim_value for i in graph.input for d in i.type.tensor_type.shape.dim})
    chosen = {size for size in sizes if chance.random() < 0.6}
    if not chosen:
        return ""
    for info in graph.input:
        for axis, dim in enumerate(info.type.tensor_type.shape.dim):
            if dim.dim_value in chosen:
                shared = f"n{dim.dim_value}" if chance.random() < 0.8 else f"{info.name}_{axis}"
                dim.dim_param = shared
    _forget(graph)
    return f"sizes {sorted(chosen)} of the inputs are symbols"


def resize(model: onnx.ModelProto, chance: Random) -> str:
    """Equal sizes of inputs become another size: the model may stay right."""
    graph = model.graph
    dims = [d for info in graph.input for d in info.type.tensor_type.shape.dim]
    if not dims:
        return ""
    old, new = chance.choice(dims).dim_value, chance.choice((0, 1, 2, 3, 5, 8, 16, 17, 33))
    for dim in dims:
        if dim.dim_value == old and not dim.dim_param:
            dim.dim_value = new
    _forget(graph)
    return f"size {old} of the inputs is {new}"


def _forget(graph: onnx.GraphProto) -> None:
    """Outputs and values without declared shapes: they followed from the old ones."""
    del graph.value_info[:]
    for info in graph.output:
        if info.type.HasField("tensor_type"):
            info.type.tensor_type.ClearField("shape")


def redeclare(model: onnx.ModelProto, chance: Random) -> str:
    """An input or output twice, removed, or added without a computation."""
    graph = pick_graph(model, chance)
    which = chance.choice((graph.input, graph.output))
    what = chance.choice(("twice", "removed", "added"))
    if what == "added":
        which.append(onnx.helper.make_tensor_value_info("added", 1, [2, 3]))
        return "an input or output 'added'"
    if not which:
        return ""
    info = chance.choice(which)
    name = info.name
    if what == "twice":
        which.add().CopyFrom(info)
    else:
        which.remove(info)
    return f"{name!r} is declared {what}"


MUTATIONS = (
    change_dim, change_dim, change_rank, change_element_type, retype_everything, change_kind,
    generalise_sizes, generalise_sizes, generalise_sizes, resize, resize, resize, redeclare,
)  # fmt: skip
