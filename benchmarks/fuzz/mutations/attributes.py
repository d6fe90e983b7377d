"""Attributes: their value, type and name, absurd, missing or twice."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TypeVar

import onnx
from onnx import AttributeProto

from .graphs import pick_graph
from .tensors import damage
from .texts import odd_text

T = TypeVar("T")
INTEGERS = (0, 1, -1, 2, 3, 5, 16, -7, 255, 1000, 2**31 - 1, 2**31, -(2**31), 2**62, -(2**63))
FLOATS = (0.0, 1.0, -1.0, 0.5, 1e-30, 1e30, -1e38, float("inf"), float("-inf"), float("nan"))
WORDS = (
    "linear", "nearest", "cubic", "constant", "reflect", "edge", "wrap", "SAME_UPPER", "VALID",
    "SAME_LOWER", "NOTSET", "half_pixel", "align_corners", "asymmetric", "floor", "ceil", "add",
    "mul", "max", "min", "none", "forward", "reverse", "bidirectional", "DCR", "CRD", "tanh",
    "Relu", "LEFT", "RIGHT", "sum", "mean", "avg", "ij,jk->ik", "ij->", "...i,i->...", "i", "",
)  # fmt: skip


def _pick(model: onnx.ModelProto, chance: Random) -> tuple[onnx.NodeProto, AttributeProto] | None:
    having = [node for node in pick_graph(model, chance).node if node.attribute]
    if not having:
        return None
    node = chance.choice(having)
    return node, chance.choice(node.attribute)


def change_value(model: onnx.ModelProto, chance: Random) -> str:
    """Another value of the same type."""
    found = _pick(model, chance)
    if found is None:
        return ""
    node, attribute = found
    _change(attribute, chance)
    return f"{node.op_type}.{attribute.name} has another value"


def _change(attribute: AttributeProto, chance: Random) -> None:
    kind = attribute.type
    if kind == AttributeProto.INT:
        attribute.i = _integer(attribute.i, chance)
    elif kind == AttributeProto.FLOAT:
        attribute.f = chance.choice((*FLOATS, -attribute.f))
    elif kind == AttributeProto.STRING:
        attribute.s = _word(chance)
    elif kind == AttributeProto.INTS:
        attribute.ints[:] = _changed(list(attribute.ints), chance, _integer, 0)
    elif kind == AttributeProto.FLOATS:
        floats = _changed(list(attribute.floats), chance, lambda _, c: c.choice(FLOATS), 0.0)
        attribute.floats[:] = floats
    elif kind == AttributeProto.STRINGS:
        strings = _changed(list(attribute.strings), chance, lambda _, c: _word(c), b"")
        attribute.strings[:] = strings
    elif kind == AttributeProto.TENSOR:
        damage(attribute.t, chance)


def _integer(old: int, chance: Random) -> int:
    near = (max(old - 1, -(2**63)), min(old + 1, 2**63 - 1))
    return chance.choice((*INTEGERS, *near, *near, *near))


def _word(chance: Random) -> bytes:
    if chance.random() < 0.2:
        return chance.choice((b"\xff\xfe", odd_text(chance).encode()))
    return chance.choice(WORDS).encode()


def _changed(items: list[T], chance: Random, change: Callable[[T, Random], T], new: T) -> list[T]:
    """The list with one element changed, added, removed, repeated, or without elements."""
    where = chance.randrange(len(items)) if items else 0
    what = chance.randrange(6)
    if what < 3 and items:
        items[where] = change(items[where], chance)
    elif what == 3:
        items.insert(where, change(new, chance))
    elif what == 4 and items:
        del items[where]
    else:
        items = [] if chance.random() < 0.5 else items * 2
    return items


def change_type(model: onnx.ModelProto, chance: Random) -> str:
    """A type that does not go with the value, or both of another type."""
    found = _pick(model, chance)
    if found is None:
        return ""
    node, attribute = found
    if chance.random() < 0.5:
        attribute.type = chance.choice(list(AttributeProto.AttributeType.values()))
        return f"{node.op_type}.{attribute.name} claims another type"
    value = chance.choice((1, 0.5, "text", [1, 2], [0.5], ["a", "b"], b"\x80"))
    attribute.CopyFrom(onnx.helper.make_attribute(attribute.name, value))
    return f"{node.op_type}.{attribute.name} is {value!r}"


def remove(model: onnx.ModelProto, chance: Random) -> str:
    """One attribute less."""
    found = _pick(model, chance)
    if found is None:
        return ""
    node, attribute = found
    name = attribute.name
    node.attribute.remove(attribute)
    return f"{node.op_type} has no {name}"


def add(model: onnx.ModelProto, chance: Random) -> str:
    """An attribute that the operator knows and the node has not, or that it does not know."""
    nodes = pick_graph(model, chance).node
    if not nodes:
        return ""
    node = chance.choice(nodes)
    known = ["motet", odd_text(chance)]
    if onnx.defs.has(node.op_type):
        known += 3 * sorted(onnx.defs.get_schema(node.op_type).attributes)
    name = chance.choice(known)
    value = chance.choice((0, 1, -1, 2, 0.5, "NOTSET", [0], [1, 1], [0, 1, 2, 3], [1.0]))
    node.attribute.append(onnx.helper.make_attribute(name, value))
    return f"{node.op_type} has {name[:20]!r} of {value!r}"


def duplicate(model: onnx.ModelProto, chance: Random) -> str:
    """One attribute twice, with two values."""
    found = _pick(model, chance)
    if found is None:
        return ""
    node, attribute = found
    again = node.attribute.add()
    again.CopyFrom(attribute)
    _change(again, chance)
    return f"{node.op_type}.{attribute.name} is given twice"


def refer(model: onnx.ModelProto, chance: Random) -> str:
    """A reference to an attribute of a function that is not there."""
    found = _pick(model, chance)
    if found is None:
        return ""
    node, attribute = found
    attribute.ref_attr_name = "outer"
    return f"{node.op_type}.{attribute.name} refers to an attribute of no function"


MUTATIONS = (
    change_value, change_value, change_value, change_value, change_value, change_value,
    change_type, remove, add, add, duplicate, refer,
)  # fmt: skip
"""The first counts for more: most operators go wrong in their attributes' values."""
