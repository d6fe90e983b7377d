"""Input shapes: fixed and symbolic dimensions, and the shapes a user gives instead."""

from __future__ import annotations

import ast
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from tvm import tirx

from motet.runtime.errors import ModelError, SpecError

from .limits import check_dtype
from .values import Dim, as_dim, plain_text

_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Div: operator.floordiv,
}

ShapeText = tuple[int | str, ...]


def graph_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """The inputs that a caller gives: those that are no initialisers, in ONNX order."""
    initializers = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in initializers]


def is_sequence(info: onnx.ValueInfoProto) -> bool:
    """Whether an input is a sequence, or an optional that holds one."""
    kind = info.type.optional_type.elem_type if info.type.HasField("optional_type") else info.type
    return bool(kind.HasField("sequence_type"))


def tensor_type(info: onnx.ValueInfoProto) -> onnx.TypeProto.Tensor | None:
    """The type of a tensor, or of those in a sequence or optional; None for other values."""
    kind = info.type
    while kind.WhichOneof("value") in ("sequence_type", "optional_type"):
        kind = getattr(kind, kind.WhichOneof("value")).elem_type
    return kind.tensor_type if kind.HasField("tensor_type") else None


def declared_shape(info: onnx.ValueInfoProto) -> ShapeText | None:
    """Dimensions as the model states them; None for an unknown rank.

    A dimension without a name is called ``<input>_dim<axis>``, in letters, digits and ``_``.
    """
    tensor = tensor_type(info)
    if tensor is None or not tensor.HasField("shape"):
        return None
    return tuple(_declared(info.name, i, dim) for i, dim in enumerate(tensor.shape.dim))


def _declared(name: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> int | str:
    if dim.HasField("dim_value") and dim.dim_value >= 0:
        return int(dim.dim_value)
    return dim.dim_param or _identifier(f"{name}_dim{axis}")


def name_dimensions(graph: onnx.GraphProto) -> None:
    """Give symbolic dimensions names that are identifiers, in place.

    Exporters write any text: a name of other characters is respelt, so that no two become
    one, and ``?`` is no name: two such dimensions need not be equal. Arithmetic over names
    (``2 * N``) stays.
    """
    infos = (*graph.input, *graph.output, *graph.value_info)
    dims = [d for i in infos for d in i.type.tensor_type.shape.dim if d.HasField("dim_param")]
    used = {d.dim_param for d in dims if _is_name(d.dim_param)}
    names: dict[str, str] = {}
    for dim in dims:
        text = dim.dim_param
        if text.strip() in ("", "?"):
            dim.ClearField("dim_param")
        elif text not in used and not _is_arithmetic(text, used):
            if text not in names:
                names[text] = _unused(_identifier(text), used)
            dim.dim_param = names[text]


def _is_name(text: str) -> bool:
    return text.isascii() and text.isidentifier()


def _is_arithmetic(text: str, names: set[str]) -> bool:
    """Whether ``text`` is an expression over ``names``, such as ``N + 1``."""
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError):
        return False
    used = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
    return isinstance(tree, ast.BinOp) and bool(used) and used <= names


def _identifier(text: str) -> str:
    clean = re.sub(r"\W", "_", text, flags=re.ASCII)
    return clean if clean[:1].isalpha() or clean[:1] == "_" else f"d_{clean}"


def _unused(name: str, used: set[str]) -> str:
    """``name``, longer where it is taken; taken from now on."""
    while name in used:
        name += "_"
    used.add(name)
    return name


def override_shapes(
    model: onnx.ModelProto, shapes: Mapping[str, Sequence[int | str]], file: str
) -> None:
    """Write the user's ``shapes`` into the inputs of ``model``, in place.

    A symbolic dimension that is given a number takes it in every input. Declared shapes
    of other tensors are dropped: they were stated for the old shapes.

    Raises
    ------
    SpecError
        For an unknown input, a wrong rank, a bad dimension, or one that contradicts a
        fixed dimension of the model.
    """
    inputs = {info.name: info for info in graph_inputs(model.graph)}
    bound: dict[str, int | str] = {}
    for name, wanted in shapes.items():
        if name not in inputs:
            raise SpecError(
                f"{file}: shapes.{name}: the model has no input of that name; "
                f"its inputs are {', '.join(inputs) or '(none)'}"
            )
        if is_sequence(inputs[name]):
            _check_items(file, inputs[name], wanted)
        else:
            _check_override(file, name, declared_shape(inputs[name]), wanted, bound)
    for info in inputs.values():
        if is_sequence(info):
            continue
        declared = shapes.get(info.name, declared_shape(info))
        if declared is not None:
            _write(info, [bound.get(d, d) if isinstance(d, str) else d for d in declared])
    if shapes:
        del model.graph.value_info[:]
        for info in model.graph.output:
            if info.type.tensor_type.HasField("shape"):
                _substitute(info, bound)


def _check_items(file: str, info: onnx.ValueInfoProto, wanted: Sequence[Any]) -> None:
    """Refuse item shapes that the sequence cannot have; its symbols are not the items'."""
    for index, item in enumerate(wanted):
        if isinstance(item, (int, str)):
            raise SpecError(
                f"{file}: shapes.{info.name}: the input is a sequence: give a list of shapes, "
                "one for each of its tensors, as [[2, 3], [4]]"
            )
        _check_override(file, f"{info.name}[{index}]", declared_shape(info), item, {})


def _check_override(
    file: str,
    name: str,
    declared: ShapeText | None,
    wanted: Sequence[int | str],
    bound: dict[str, int | str],
) -> None:
    where = f"{file}: shapes.{name}"
    for dim in wanted:
        good = isinstance(dim, str) or (isinstance(dim, int) and dim > 0)
        if not good or isinstance(dim, bool) or dim == "":
            raise SpecError(f"{where}: {dim!r} is no dimension: use a positive integer or a name")
    if declared is None:
        return
    shown = "x".join(str(d) for d in declared) or "scalar"
    if len(declared) != len(wanted):
        raise SpecError(f"{where}: rank {len(wanted)} given, but the model declares {shown}")
    for axis, (old, new) in enumerate(zip(declared, wanted, strict=True)):
        if isinstance(old, int) and old != new:
            raise SpecError(
                f"{where}: dimension {axis} is fixed to {old} in the model ({shown}), not {new}"
            )
        if isinstance(old, str) and bound.setdefault(old, new) != new:
            raise SpecError(
                f"{where}: dimension '{old}' is {bound[old]} elsewhere, but {new} here; "
                "equal names mean equal dimensions"
            )


def _write(info: onnx.ValueInfoProto, dims: Sequence[int | str]) -> None:
    tensor = tensor_type(info)
    assert tensor is not None, "checked before"
    shape = tensor.shape
    shape.ClearField("dim")
    shape.SetInParent()
    for dim in dims:
        entry = shape.dim.add()
        if isinstance(dim, int):
            entry.dim_value = dim
        else:
            entry.dim_param = dim


def _substitute(info: onnx.ValueInfoProto, bound: Mapping[str, int | str]) -> None:
    for dim in info.type.tensor_type.shape.dim:
        new = bound.get(dim.dim_param) if dim.dim_param else None
        if isinstance(new, int):
            dim.dim_value = new
        elif new is not None:
            dim.dim_param = new


class Symbols:
    """The symbolic dimensions of one model: one variable per name.

    ``N + 1`` or ``2 * N`` over names that are dimensions of their own is an expression of
    their variables; any other text is a name.
    """

    def __init__(self, shapes: Sequence[ShapeText]) -> None:
        self._variables: dict[str, Any] = {}
        self._plain = {
            dim for shape in shapes for dim in shape if isinstance(dim, str) and dim.isidentifier()
        }

    def dim(self, dim: int | str) -> Dim:
        """The integer, variable or expression of one dimension."""
        if isinstance(dim, int):
            return dim
        if dim not in self._plain:
            expression = self._expression(dim)
            if expression is not None:
                return expression
        return self._variable(dim)

    def _variable(self, name: str) -> Any:
        if name not in self._variables:
            self._variables[name] = tirx.Var(_identifier(name), "int64")
        return self._variables[name]

    def _expression(self, text: str) -> Any:
        try:
            tree = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            return None
        names = {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}
        if not names or not names <= self._plain:
            return None
        return self._evaluated(tree)

    def _evaluated(self, tree: ast.expr) -> Any:
        if isinstance(tree, ast.Name):
            return self._variable(tree.id)
        if isinstance(tree, ast.Constant) and isinstance(tree.value, int):
            return tree.value
        if isinstance(tree, ast.BinOp) and type(tree.op) in _OPERATORS:
            left, right = self._evaluated(tree.left), self._evaluated(tree.right)
            if left is not None and right is not None:
                return _OPERATORS[type(tree.op)](left, right)
        return None

    def text(self, dim: object) -> int | str:
        """A dimension as the user names it."""
        plain = as_dim(dim)
        if isinstance(plain, int):
            return plain
        for name, variable in self._variables.items():
            if variable.same_as(plain):
                return name
        return plain_text(str(plain))


def numpy_dtype(info: onnx.ValueInfoProto, file: str) -> str:
    """The numpy dtype name of an input or output; refuses strings and non-tensors."""
    tensor = tensor_type(info)
    if tensor is None:
        kind = info.type.WhichOneof("value")
        raise ModelError(
            f"{file}: '{info.name}' is a {kind or 'value without a type'}; "
            "inputs and outputs must be tensors, or sequences or optionals of tensors"
        )
    elem = tensor.elem_type
    if elem == onnx.TensorProto.UNDEFINED:
        raise ModelError(f"{file}: '{info.name}' has no element type: state it in the model")
    if elem == onnx.TensorProto.STRING:
        raise ModelError(
            f"{file}: '{info.name}' is a string tensor; Motet runs numbers only: "
            "move text processing out of the model"
        )
    name = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(elem)).name
    check_dtype(name, f"{file}: '{info.name}'")
    return name
