"""Convolutions that read the same value, and whether they can be one.

A convolution is looked at with what alone follows it: a bias of constants and an activation. Two
may be merged where they read the same value in the same block of bindings with groups = 1, the
same strides and dilations, the same layouts and types, known weights, the same activation, and
fit together along every axis of the image:

Kernel i of k_i taps at dilation d reads x[s o + d u - t_i] for u < k_i, with t_i zeros in front.
The merged kernel has T = max t_i zeros in front, and kernel i begins at tap (T - t_i) / d of it, so
this must be whole. It has K = max ((T - t_i) / d + k_i) taps, and as many zeros behind the image as
give the size that all of them give, which must be the same. Kernels of odd size with padding that
keeps the size are so centred in the largest.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass

from tvm import relax

from motet.passes.graph import blocks_of, constant_array, sizes_of, use_counts
from motet.passes.names import merged_names
from motet.passes.op_kinds import op_name

_LAYOUTS = {"relax.nn.conv1d": ("NCW", "OIW"), "relax.nn.conv2d": ("NCHW", "OIHW")}
_ACTIVATIONS = {
    f"relax.{name}"
    for name in (
        "clip", "nn.relu", "nn.relu6", "nn.leakyrelu", "nn.silu", "nn.gelu", "nn.gelu_tanh",
        "sigmoid", "tanh", "exp", "erf", "abs", "negative",
    )
}  # fmt: skip
_FLOATS = ("float32", "float64", "float16")


@dataclass(frozen=True)
class Axis:
    """One axis of the image: taps, zeros before and behind, and the sizes of image and result.

    Sizes are None where they are not known.
    """

    kernel: int
    before: int
    behind: int
    stride: int
    dilation: int
    size: int | None
    result: int | None

    @property
    def growth(self) -> int:
        """What the result is larger than the image at stride 1."""
        return self.before + self.behind - self.dilation * (self.kernel - 1)

    @property
    def fit(self) -> Hashable:
        """Equal for those that can be one."""
        result = ("grows", self.growth) if self.result is None else ("is", self.result)
        return self.before % self.dilation, result


@dataclass(frozen=True)
class Window:
    """The merged kernel along an axis. offsets: the first tap of every kernel that it holds."""

    kernel: int
    before: int
    behind: int
    offsets: tuple[int, ...]


def merged_window(axes: Sequence[Axis]) -> Window:
    """One kernel for ``axes`` of equal ``fit``."""
    first = axes[0]
    before = max(axis.before for axis in axes)
    offsets = tuple((before - axis.before) // axis.dilation for axis in axes)
    kernel = max(offset + axis.kernel for offset, axis in zip(offsets, axes, strict=True))
    if first.size is None or first.result is None:
        behind = max(axis.behind for axis in axes)
    else:
        reach = (first.result - 1) * first.stride + first.dilation * (kernel - 1) + 1
        behind = max(0, reach - first.size - before)
    return Window(kernel, before, behind, offsets)


@dataclass(frozen=True)
class Sibling:
    """A convolution with what alone follows it.

    calls: convolution, bias and activation as far as they are there. result: the variable of the
    last. place: number of the convolution's binding in the function.
    """

    calls: tuple[relax.Call, ...]
    bias: relax.Call | None
    activation: relax.Call | None
    variable: relax.Var
    result: relax.Var
    place: int

    @property
    def convolution(self) -> relax.Call:
        """The convolution itself."""
        return self.calls[0]

    @property
    def data(self) -> relax.Var:
        """What it reads."""
        return self.convolution.args[0]

    @property
    def channels(self) -> int:
        """Channels that it computes."""
        return int(self.convolution.args[1].ty.shape.values[0])

    @property
    def names(self) -> tuple[str, ...]:
        """ONNX nodes of all its calls."""
        return merged_names(self.calls)

    @property
    def axes(self) -> tuple[Axis, ...]:
        """The axes of the image."""
        attrs, weight = self.convolution.attrs, sizes_of(self.convolution.args[1].ty)
        assert weight is not None
        rank = len(weight) - 2
        pads = [int(pad) for pad in attrs.padding]
        images = (_known(self.data.ty), _known(self.convolution.ty))
        return tuple(
            Axis(
                weight[2 + axis],
                pads[axis],
                pads[rank + axis],
                int(attrs.strides[axis]),
                int(attrs.dilation[axis]),
                images[0][2 + axis],
                images[1][2 + axis],
            )
            for axis in range(rank)
        )

    @property
    def kind(self) -> Hashable:
        """Equal for siblings that may be merged, if they read the same value in one block."""
        call, attrs = self.convolution, self.convolution.attrs
        sizes = [tuple(map(int, one)) for one in (attrs.strides, attrs.dilation)]
        fits = tuple(axis.fit for axis in self.axes)
        return op_name(call), *sizes, str(call.ty.dtype), _activation(self.activation), fits


Family = tuple[Sibling, ...]
"""Two or more that may be merged, any of them, in their order."""


def families(function: relax.Function) -> list[Family]:
    """All that may be merged in a function."""
    found: dict[Hashable, list[Sibling]] = {}
    for number, sibling in siblings(function):
        found.setdefault((number, sibling.data, sibling.kind), []).append(sibling)
    return [tuple(family) for family in found.values() if len(family) > 1]


def siblings(function: relax.Function) -> Iterator[tuple[int, Sibling]]:
    """Convolutions that might be merged with others, and the number of the block each is in."""
    uses, place = use_counts(function), 0
    for number, block in enumerate(blocks_of(function)):
        readers: dict[relax.Var, list[relax.Binding]] = {}
        for binding in block.bindings:
            for argument in getattr(binding.value, "args", ()):
                if isinstance(argument, relax.Var):
                    readers.setdefault(argument, []).append(binding)
        for binding in block.bindings:
            place += 1
            if refusal(binding.value) is None:
                yield number, _with_followers(binding, readers, uses, place)


def refusal(value: relax.Expr) -> str | None:
    """None where ``value`` is a convolution that could be merged with others, else why not."""
    if op_name(value) not in _LAYOUTS:
        return "it is no convolution of one or two dimensions"
    attrs, (data, weight) = value.attrs, value.args
    layouts = (str(attrs.data_layout), str(attrs.kernel_layout))
    if layouts != _LAYOUTS[op_name(value)] or str(attrs.out_layout) not in ("", layouts[0]):
        return f"its layouts are {layouts[0]} and {layouts[1]}"
    if int(attrs.groups) != 1:
        return f"it has {int(attrs.groups)} groups"
    if constant_array(weight) is None:
        return "its weights are not known when compiling"
    types = {str(one.ty.dtype) for one in (data, weight, value)}
    if len(types) != 1 or not types <= set(_FLOATS):
        return f"it computes in {', '.join(sorted(types))}, not in one type of floats"
    return None if isinstance(data, relax.Var) and data.ty.shape is not None else "its data is open"


def sibling_of(bindings: Sequence[relax.Binding]) -> Sibling | None:
    """The sibling that ``bindings`` are and nothing else: convolution, bias, activation."""
    first = bindings[0]
    if refusal(first.value) is not None:
        return None
    readers = {b.value.args[0]: [b] for b in bindings[1:] if isinstance(b.value, relax.Call)}
    made = _with_followers(first, readers, dict.fromkeys(readers, 1), 0)
    is_all = len(made.calls) == len(bindings) and made.result.same_as(bindings[-1].var)
    return made if is_all else None


def _with_followers(
    binding: relax.Binding,
    readers: dict[relax.Var, list[relax.Binding]],
    uses: dict[relax.Var, int],
    place: int,
) -> Sibling:
    """The convolution of ``binding`` with its bias and its activation, where it has them."""
    calls, result = [binding.value], binding.var
    bias = activation = None

    def only_reader() -> relax.Binding | None:
        read = readers.get(result, [])
        return read[0] if len(read) == 1 == uses[result] else None

    following = only_reader()
    if following is not None and bias_of(following.value, binding.value) is not None:
        bias, result = following.value, following.var
        calls.append(bias)
        following = only_reader()
    if following is not None and _activation(following.value) is not None:
        activation, result = following.value, following.var
        calls.append(activation)
    return Sibling(tuple(calls), bias, activation, binding.var, result, place)


def bias_of(value: relax.Expr, convolution: relax.Call) -> relax.Expr | None:
    """The constant with one value per channel that ``value`` adds to ``convolution``."""
    if op_name(value) != "relax.add":
        return None
    rank, channels = int(convolution.ty.ndim), int(convolution.args[1].ty.shape.values[0])
    wanted = (1, channels, *(1,) * (rank - 2))
    for operand in value.args:
        array = constant_array(operand)
        if array is not None and (1,) * (rank - array.ndim) + array.shape == wanted:
            return operand
    return None


def _activation(value: relax.Expr | None) -> Hashable:
    """Equal for activations that compute alike; None for what is none."""
    if value is None or op_name(value) not in _ACTIVATIONS:
        return None
    if any(isinstance(operand, relax.Var) for operand in value.args[1:]):
        return None
    return op_name(value), *map(str, value.args[1:]), repr(value.attrs)


def _known(ty: relax.Type) -> list[int | None]:
    values = [getattr(extent, "value", None) for extent in ty.shape.values]
    return [None if value is None else int(value) for value in values]
