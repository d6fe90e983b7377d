"""Inputs and outputs that are sequences or optionals, as the tensors that a bundle has.

A sequence input of n tensors is n inputs, called ``seq.0``, ``seq.1``, ...; how many there
are, and their shapes, is said by ``shapes`` (``seq = [[2, 3], [4]]``, or ``seq.0`` and
``seq.1``). An optional input is there, as what it holds, unless ``values`` fixes it to
``"none"``. ``Port`` records the grouping, so that a session takes and returns lists.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import onnx

from motet.runtime.errors import ModelError, SpecError
from motet.runtime.manifest import Port
from motet.runtime.program import TensorInfo

from .dimensions import ShapeText, declared_shape, graph_inputs, is_sequence, numpy_dtype
from .fixed_inputs import is_none
from .types import dtype_of
from .values import Constant, EmptyOptional, Tensor, TensorSequence, Value

Shapes = Mapping[str, Sequence[Any]]


@dataclass(frozen=True)
class Given:
    """An input of the graph: the tensors that stand for it, their shapes, and the grouping."""

    port: Port
    tensors: tuple[TensorInfo, ...]
    shapes: tuple[ShapeText, ...]

    def value(self, variables: Mapping[str, Any]) -> Value:
        """What the input's name stands for; ``variables`` are the parameters by name."""
        tensors = [Tensor(variables[info.name]) for info in self.tensors]
        if self.port.kind == "sequence":
            return TensorSequence(tuple(tensors), self.port.dtype)
        return tensors[0]


def empty_inputs(graph: onnx.GraphProto, values: Mapping[str, Any]) -> dict[str, Value]:
    """The optional inputs that ``values`` leaves empty."""
    return {
        info.name: EmptyOptional(info.type.optional_type.elem_type)
        for info in graph_inputs(graph)
        if info.name in values and is_none(values[info.name])
    }


def given_inputs(
    graph: onnx.GraphProto, shapes: Shapes, without: Container[str], label: str
) -> list[Given]:
    """The inputs that a caller gives, in ONNX order; not those of ``without``.

    Raises
    ------
    ModelError
        For a tensor without a rank.
    SpecError
        For a sequence of whose items nothing is said, and for names that then coincide.
    """
    infos = [info for info in graph_inputs(graph) if info.name not in without]
    given = [_given(info, shapes, label) for info in infos]
    names = [info.name for port in given for info in port.tensors]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise SpecError(f"{label}: '{twice}' is an input, and would be an item of a sequence too")
    return given


def _given(info: onnx.ValueInfoProto, shapes: Shapes, label: str) -> Given:
    dtype = numpy_dtype(info, label)
    if not is_sequence(info):
        shape = declared_shape(info)
        if shape is None:
            raise ModelError(f"{label}: input '{info.name}' has no rank: give its shape in shapes")
        return Given(Port(info.name), (TensorInfo(info.name, dtype, shape),), (shape,))
    if info.name not in shapes:
        raise SpecError(
            f"{label}: input '{info.name}' is a sequence: give the shape of each of its tensors, "
            f"as in shapes = {{ {info.name} = [[2, 3], [4]] }} or --shape {info.name}.0:2x3"
        )
    items: list[ShapeText] = [tuple(shape) for shape in shapes[info.name]]
    return Given(
        Port(info.name, "sequence", len(items), dtype),
        tuple(TensorInfo(item_name(info.name, i), dtype, shape) for i, shape in enumerate(items)),
        tuple(items),
    )


def item_name(name: str, index: int) -> str:
    """How the bundle calls item ``index`` of the sequence ``name``."""
    return f"{name}.{index}"


def grouped_shapes(graph: onnx.GraphProto, shapes: Shapes) -> dict[str, Any]:
    """``shapes`` with those of ``seq.0``, ``seq.1``, ... as one list for ``seq``."""
    result = dict(shapes)
    for info in graph_inputs(graph):
        if not is_sequence(info) or info.name in shapes:
            continue
        items: list[Any] = []
        while item_name(info.name, len(items)) in result:
            items.append(result.pop(item_name(info.name, len(items))))
        if items:
            result[info.name] = items
    return result


def flat(values: Iterable[Value]) -> list[Constant | Tensor]:
    """The tensors among ``values``, items of sequences one by one."""
    result: list[Constant | Tensor] = []
    for value in values:
        if isinstance(value, TensorSequence):
            result += flat(value.items)
        elif isinstance(value, (Constant, Tensor)):
            result.append(value)
    return result


def output_ports(names: Sequence[str], values: Sequence[Value]) -> tuple[list[Port], list[str]]:
    """How the outputs called ``names`` are grouped, and the names of their tensors."""
    ports: list[Port] = []
    tensors: list[str] = []
    for name, value in zip(names, values, strict=True):
        if isinstance(value, TensorSequence):
            ports.append(Port(name, "sequence", len(value.items), value.dtype))
            tensors += [item_name(name, i) for i in range(len(value.items))]
        elif isinstance(value, EmptyOptional):
            ports.append(Port(name, "none", 0))
        else:
            ports.append(Port(name, dtype=dtype_of(value)))
            tensors.append(name)
    return ports, tensors


def recorded(ports: Sequence[Port]) -> tuple[Port, ...]:
    """What a bundle keeps of ``ports``: nothing where all are tensors."""
    return () if all(port.kind == "tensor" for port in ports) else tuple(ports)
