"""A function's bindings as values that are computed, and who reads which of them.

What moves no data (reshapes, tuples and their parts, matched shapes) is looked through: who
reads a view reads what it is a view of.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from tvm import relax

from motet.passes.graph import static_shape, variables_in
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.targets.operators import attention, recurrence, vectors

_SHAPE_OPERATORS = {"relax.shape_of", "relax.shape_to_tensor", "relax.tensor_to_shape"}
CONCAT = "relax.concat"


class Role(Enum):
    """What a value may be merged with.

    PRODUCT takes elementwise work in before and behind it; OPERATOR (pooling, normalisation,
    reduction, what moves values) only behind it; CONCAT and CLOSED (control flow, what Relax
    does not know) nothing behind.
    """

    PRODUCT = "product"
    OPERATOR = "operator"
    ELEMENTWISE = "elementwise"
    CONCAT = "concat"
    CLOSED = "closed"


@dataclass
class Computed:
    """A binding that computes something.

    reads: numbers of those that it reads, each once, in order. readers: of those that read it.
    is_result: whether the function returns it.
    """

    binding: relax.Binding
    role: Role
    reads: tuple[int, ...]
    readers: list[int] = field(default_factory=list)
    is_result: bool = False


@dataclass(frozen=True)
class View:
    """A binding that computes nothing; ``of``: numbers of the values that it shows."""

    binding: relax.Binding
    of: tuple[int, ...]


@dataclass(frozen=True)
class Values:
    """All that a function computes, in order, and the views of it.

    bindings: every binding in order: the number of what it computes, or a view.
    """

    computed: tuple[Computed, ...]
    bindings: tuple[int | View, ...]


def values_of(function: relax.Function) -> Values:
    """What ``function`` computes; the bindings of branches belong to their ``If``."""
    made: list[Computed] = []
    bindings: list[int | View] = []
    origins: dict[relax.Var, tuple[int, ...]] = {}
    for binding in (binding for block in function.body.blocks[:] for binding in block.bindings[:]):
        reads = _origins(variables_in(binding.value), origins)
        if is_view(binding):
            origins[binding.var] = reads
            bindings.append(View(binding, reads))
            continue
        for number in reads:
            made[number].readers.append(len(made))
        origins[binding.var] = (len(made),)
        bindings.append(len(made))
        made.append(Computed(binding, _role(binding.value), reads))
    for number in _origins(variables_in(function.body.body), origins):
        made[number].is_result = True
    return Values(tuple(made), tuple(bindings))


def _origins(
    variables: Iterable[relax.Var], origins: dict[relax.Var, tuple[int, ...]]
) -> tuple[int, ...]:
    found = (number for variable in variables for number in origins.get(variable, ()))
    return tuple(dict.fromkeys(found))


def is_view(binding: relax.Binding) -> bool:
    """Whether a binding computes nothing: its value lies where another does, or is a shape."""
    value = binding.value
    if isinstance(binding, relax.MatchCast) or not isinstance(value, (relax.Call, relax.If)):
        return True
    return kind_of(value) is Kind.VIEW or op_name(value) in _SHAPE_OPERATORS


def _role(value: relax.Expr) -> Role:
    if op_name(value) == CONCAT:
        return Role.CONCAT
    if is_product(value):
        return Role.PRODUCT
    kind = kind_of(value)
    if kind is Kind.ELEMENTWISE:
        return Role.ELEMENTWISE
    return Role.CLOSED if kind is Kind.OPAQUE else Role.OPERATOR


def is_product(value: relax.Expr) -> bool:
    """Whether ``value`` is a convolution or matrix product, attention, or a recurrence."""
    name = op_name(value)
    others = ("relax.matmul", attention.NAME, recurrence.NAME, *vectors.PRODUCTS)
    return name in others or name.startswith("relax.nn.conv")


def is_depthwise(value: relax.Expr) -> bool:
    """Whether ``value`` is a convolution with a filter, or several, for each channel."""
    if op_name(value) not in ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d"):
        return False
    groups = int(value.attrs.groups)
    return groups > 1 and _extent(value.args[1], value, "I") == 1


def is_pointwise(value: relax.Expr) -> bool:
    """Whether ``value`` is a convolution of all channels at one place, each place once."""
    if op_name(value) not in ("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d"):
        return False
    window = _window(value)
    strides = [int(stride) for stride in value.attrs.strides]
    return int(value.attrs.groups) == 1 and set(window) == {1} and set(strides) == {1}


def _window(call: relax.Call) -> Sequence[int]:
    """The sizes of a convolution's kernel; (0,) where they are not known."""
    shape = static_shape(call.args[1])
    layout = str(call.attrs.kernel_layout)
    if shape is None or len(shape) != len(layout):
        return (0,)
    return [size for size, axis in zip(shape, layout, strict=True) if axis not in "OI"]


def _extent(weight: relax.Expr, call: relax.Call, axis: str) -> int:
    shape = static_shape(weight)
    layout = str(call.attrs.kernel_layout)
    return 0 if shape is None or len(shape) != len(layout) else shape[layout.index(axis)]
