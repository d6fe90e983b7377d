"""The border of a merged convolution in ONNX, computed by the layers that it took the place of.

A decision with a ``strip`` says how many results, from each end of each axis, the merged kernel
gets wrong. These are slabs of the result: per axis one in front and one behind, as long as
what earlier axes left. For each, the merged nodes are repeated on the part of the operand that
the slab reads: convolutions with the zero padding that is left for that part, the rest as it
is. The slabs and the inner part are concatenated, axis by axis.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np
import onnx
from onnx import helper, numpy_helper

from motet.compiler.onnx_graph import OnnxGraph, attributes_of
from motet.passes.decisions import Merge
from motet.runtime.device import Array
from motet.runtime.errors import ModelError

Range = tuple[int, int]
Ranges = tuple[Range, ...]
ELEMENTWISE = frozenset({"Add", "Sub", "Mul", "Div", "Identity", "Dropout", "BatchNormalization"})
SLICE_INPUTS = 10
"""Opset from which the bounds of Slice are inputs."""


@dataclass
class Strips:
    """Emits the parts of one merge; ``nodes`` and ``weights`` are what it has emitted.

    base: prefix of new names. dtype: of weights.
    """

    graph: OnnxGraph
    merge: Merge
    arrays: Mapping[str, Array]
    base: str
    dtype: np.dtype[np.generic]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    weights: list[onnx.TensorProto] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not all(isinstance(size, int) for size in self.merge.input_shape[2:]):
            self._refuse("its sizes are open, and its border is computed apart")
        self.operand = self.graph.operand(self.merge.nodes)
        self._removed = {
            self.graph.result(removed.nodes): removed for removed in self.merge.removed
        }

    def bordered(self, inner: str, output: str) -> None:
        """``output``: tensor ``inner``, the merged result, with its border put right."""
        merge = self.merge
        result = self.graph.node(merge.output).output[0]
        sizes = self._sizes(result)
        rank = len(sizes)
        begin, end = merge.strip[:rank], merge.strip[rank:]
        inside: Ranges = tuple((b, n - e) for b, e, n in zip(begin, end, sizes, strict=True))
        part = self._slice(inner, inside, sizes, "inside")
        axes = [axis for axis in reversed(range(rank)) if begin[axis] or end[axis]]
        for axis in axes:
            around = tuple(inside[a] if a < axis else (0, sizes[a]) for a in range(rank))
            parts = [part]
            if begin[axis]:
                parts.insert(0, self._slab(result, around, axis, (0, begin[axis])))
            if end[axis]:
                parts.append(
                    self._slab(result, around, axis, (sizes[axis] - end[axis], sizes[axis]))
                )
            part = output if axis == axes[-1] else self._new("joined")
            self.nodes.append(
                helper.make_node("Concat", parts, [part], f"{part}/concat", axis=axis + 2)
            )

    def _slab(self, tensor: str, around: Ranges, axis: int, own: Range) -> str:
        return self._region(tensor, (*around[:axis], own, *around[axis + 1 :]))

    def _region(self, tensor: str, ranges: Ranges) -> str:
        """A new tensor: that part of ``tensor``, without the activations that were removed."""
        if tensor == self.operand:
            return self._slice(tensor, ranges, self._sizes(tensor), "part")
        removed = self._removed.get(tensor)
        if removed is not None:
            part = self._region(self.graph.operand(removed.nodes), ranges)
            return self._affine(part, removed.affine) if removed.affine else part
        node = self.graph.node(self.graph.producer[tensor])
        if self._does_nothing(tensor):
            return self._region(self._data(node), ranges)
        if node.op_type in ("Conv", "Pad"):
            return self._padded_layer(node, ranges)
        if node.op_type not in ELEMENTWISE:
            self._refuse(f"its border would repeat {node.name!r} ({node.op_type})")
        inputs = [
            name if not name or self.graph.is_known(name) else self._region(name, ranges)
            for name in node.input
        ]
        return self._copy(node, inputs)

    def _padded_layer(self, node: onnx.NodeProto, ranges: Ranges) -> str:
        """A convolution (or padding) that makes ``ranges`` of its result."""
        layer = self._geometry(node)
        sizes = self._sizes(node.input[0])
        met = tuple(a.meeting(r, n) for a, r, n in zip(layer, ranges, sizes, strict=True))
        if met != ranges:  # some of it reads nothing but zeros: cut off what is too much
            inside = tuple((r[0] - m[0], r[1] - m[0]) for r, m in zip(ranges, met, strict=True))
            lengths = [high - low for low, high in met]
            return self._slice(self._padded_layer(node, met), inside, lengths, "cut")
        wanted, before, after = [], [], []
        for (low, high), size, axis in zip(ranges, sizes, layer, strict=True):
            start = low * axis.stride - axis.begin
            stop = (high - 1) * axis.stride + axis.extent - axis.begin
            wanted.append((max(start, 0), min(stop, size)))
            before.append(max(-start, 0))
            after.append(max(stop - size, 0))
        part = self._region(node.input[0], tuple(wanted))
        if node.op_type == "Pad":
            return self._pad(part, before, after)
        attributes = attributes_of(node) | {"pads": [*before, *after]}
        attributes.pop("auto_pad", None)
        output = self._new("conv")
        inputs = [part, *node.input[1:]]
        self.nodes.append(
            helper.make_node("Conv", inputs, [output], f"{output}/node", **attributes)
        )
        return output

    def _copy(self, node: onnx.NodeProto, inputs: Sequence[str]) -> str:
        copy = onnx.NodeProto.FromString(node.SerializeToString())
        output = self._new(node.op_type.lower())
        copy.name = f"{output}/node"
        del copy.input[:], copy.output[:]
        copy.input.extend(inputs)
        copy.output.append(output)
        self.nodes.append(copy)
        return output

    def _affine(self, tensor: str, key: str) -> str:
        shape = (1, -1, *(1,) * (len(self.merge.geometry.kernel)))
        for op, values in zip(("Mul", "Add"), self.arrays[key], strict=True):
            output = self._new(op.lower())
            weight = self._weight(values.reshape(shape).astype(self.dtype), output)
            self.nodes.append(helper.make_node(op, [tensor, weight], [output], f"{output}/node"))
            tensor = output
        return tensor

    def _slice(self, tensor: str, ranges: Ranges, sizes: Sequence[int], what: str) -> str:
        if all(part == (0, size) for part, size in zip(ranges, sizes, strict=True)):
            return tensor
        output = self._new(what)
        starts, ends = [low for low, _ in ranges], [high for _, high in ranges]
        axes = list(range(2, 2 + len(ranges)))
        name = f"{output}/slice"
        if self.graph.opset < SLICE_INPUTS:
            node = helper.make_node("Slice", [tensor], [output], name,
                                    starts=starts, ends=ends, axes=axes)  # fmt: skip
        else:
            bounds = [
                self._weight(np.array(values, np.int64), f"{output}/{which}")
                for which, values in (("starts", starts), ("ends", ends), ("axes", axes))
            ]
            node = helper.make_node("Slice", [tensor, *bounds], [output], name)
        self.nodes.append(node)
        return output

    def _pad(self, tensor: str, before: Sequence[int], after: Sequence[int]) -> str:
        output = self._new("pad")
        pads = [0, 0, *before, 0, 0, *after]
        name = f"{output}/node"
        if self.graph.opset < 11:
            node = helper.make_node("Pad", [tensor], [output], name, pads=pads)
        else:
            weight = self._weight(np.array(pads, np.int64), f"{output}/pads")
            node = helper.make_node("Pad", [tensor, weight], [output], name)
        self.nodes.append(node)
        return output

    def _weight(self, array: Array, name: str) -> str:
        name = f"{name}/value"
        self.weights.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def _new(self, what: str) -> str:
        return f"{self.base}/border{len(self.nodes)}/{what}"

    def _sizes(self, tensor: str) -> tuple[int, ...]:
        """Spatial sizes of a tensor between the operand and the result."""
        if tensor == self.operand:
            return tuple(int(size) for size in self.merge.input_shape[2:])
        removed = self._removed.get(tensor)
        if removed is not None:
            return self._sizes(self.graph.operand(removed.nodes))
        node = self.graph.node(self.graph.producer[tensor])
        if node.op_type not in ("Conv", "Pad") or self._does_nothing(tensor):
            return self._sizes(self._data(node))
        return tuple(
            (size + axis.begin + axis.end - axis.extent) // axis.stride + 1
            for size, axis in zip(self._sizes(node.input[0]), self._geometry(node), strict=True)
        )

    def _does_nothing(self, tensor: str) -> bool:
        """Whether the node behind ``tensor`` is one that the front end dropped."""
        return self.graph.producer[tensor] not in self.merge.nodes

    def _data(self, node: onnx.NodeProto) -> str:
        return str(next(name for name in node.input if name and not self.graph.is_known(name)))

    def _geometry(self, node: onnx.NodeProto) -> list[_Axis]:
        sizes = self._sizes(node.input[0])
        if node.op_type == "Pad":
            return self._pad_axes(node, len(sizes))
        kernel = self._kernel(node)
        found = attributes_of(node)
        strides = found.get("strides") or [1] * len(sizes)
        dilations = found.get("dilations") or [1] * len(sizes)
        extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
        pads = _pads(found, sizes, extents, strides)
        rank = len(sizes)
        return [_Axis(extents[a], strides[a], pads[a], pads[a + rank]) for a in range(rank)]

    def _kernel(self, node: onnx.NodeProto) -> tuple[int, ...]:
        weight = self.graph.constant(node.input[1])
        if weight is None:
            self._refuse(f"the weights of {node.name!r} are not in the file")
        return tuple(weight.shape[2:])

    def _pad_axes(self, node: onnx.NodeProto, rank: int) -> list[_Axis]:
        pads = attributes_of(node).get("pads")
        if pads is None:
            known = self.graph.constant(node.input[1]) if len(node.input) > 1 else None
            if known is None or len(node.input) > 3:
                self._refuse(f"the padding of {node.name!r} is not in the file")
            pads = known.tolist()
        begin, end = pads[2 : 2 + rank], pads[4 + rank :]
        return [_Axis(1, 1, int(b), int(e)) for b, e in zip(begin, end, strict=True)]

    def _refuse(self, why: str) -> NoReturn:
        raise ModelError(f"{self.graph.label}: the merge at {self.merge.output!r}: {why}")


@dataclass(frozen=True)
class _Axis:
    """What a layer does along one axis: reach of its kernel, stride, zeros at both ends."""

    extent: int
    stride: int
    begin: int
    end: int

    def meeting(self, results: Range, size: int) -> Range:
        """``results``, longer where none of them reads any of the ``size`` positions."""
        low, high = results
        while (high - 1) * self.stride + self.extent - self.begin <= 0:
            high += 1
        while low * self.stride - self.begin >= size:
            low -= 1
        return low, high


def _pads(
    found: Mapping[str, object],
    sizes: Sequence[int],
    extents: Sequence[int],
    strides: Sequence[int],
) -> list[int]:
    """ONNX's ``pads``, also where ``auto_pad`` stands for them."""
    auto = found.get("auto_pad", b"NOTSET")
    if auto in (b"NOTSET", b"VALID"):
        pads = found.get("pads") if auto == b"NOTSET" else None
        return list(pads) if isinstance(pads, (list, tuple)) else [0] * 2 * len(sizes)
    totals = [
        max((-(-size // stride) - 1) * stride + extent - size, 0)
        for size, extent, stride in zip(sizes, extents, strides, strict=True)
    ]
    small = [total // 2 for total in totals]
    large = [total - half for total, half in zip(totals, small, strict=True)]
    return [*small, *large] if auto == b"SAME_UPPER" else [*large, *small]
