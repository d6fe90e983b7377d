"""Adds to the bias of a product in an ONNX graph, where it has one or can have one.

Conv and Gemm read it; behind a MatMul it is a constant that one Add adds, or a new Add.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from onnx import helper

from motet.compiler.frontend.order import names_read
from motet.compiler.quantizing.products import constants_of
from motet.runtime.device import Array
from motet.targets.quantized.types import Reals

Nodes = list[onnx.NodeProto]
Store = Callable[[str, Array], str]
"""Keeps a constant; gives its name, made of the one that is asked for."""


class Biases:
    """Of ``graph``, whose products are changed in place."""

    def __init__(self, graph: onnx.GraphProto, store: Store, fresh: Callable[[str], str]) -> None:
        self.constants = constants_of(graph)
        self.store, self.fresh = store, fresh
        self.outputs = {info.name for info in graph.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in names_read(node):
                self.readers.setdefault(name, []).append(node)

    def shift(self, node: onnx.NodeProto, shift: Reals, rank: int) -> tuple[Nodes, Nodes]:
        """Adds ``shift`` [output channels] to the sums of ``node``; new nodes ahead and behind.

        Its operands but the bias may be others than those of the graph by now. rank: of its
        result.
        """
        if not shift.any():
            return [], []
        factors = {a.name: a.f for a in node.attribute if a.name in ("alpha", "beta")}
        beta = factors.get("beta", 1.0)
        shift = (shift * np.float32(factors.get("alpha", 1.0))).astype(np.float32)
        if node.op_type == "MatMul" or not beta:
            return [], self._behind(node, shift, rank)
        return self._through_input(node, (shift / np.float32(beta)).astype(np.float32)), []

    def _through_input(self, node: onnx.NodeProto, shift: Reals) -> Nodes:
        bias = node.input[2] if len(node.input) > 2 else ""
        ahead: Nodes = []
        if bias and bias not in self.constants:
            added = self.fresh(f"{bias}_shifted")
            stored = self.store(f"{bias}_shift", shift)
            ahead = [helper.make_node("Add", [bias, stored], [added], name=added)]
        else:
            whole = self.constants[bias] + shift if bias else shift
            added = self.store(bias or f"{node.output[0]}_bias", whole.astype(np.float32))
        inputs = [*node.input[:2], added]
        del node.input[:]
        node.input.extend(inputs)
        return ahead

    def spread(self, node: onnx.NodeProto, rank: int) -> None:
        """Gives a bias along the last axis behind a MatMul the result's ``rank``.

        onnxruntime 1.31 makes a Gemm of a MatMul of three axes and an Add of one, with a
        quantisation between them that it then refuses.
        """
        add = self._bias_behind(node)
        if node.op_type == "MatMul" and rank > 2 and add is not None:
            place = self._place(add, node)
            values = self.constants[add.input[place]]
            if values.ndim:
                add.input[place] = self.store(add.input[place], _of_rank(values, rank))

    def _behind(self, node: onnx.NodeProto, shift: Reals, rank: int) -> Nodes:
        add = self._bias_behind(node)
        if add is not None:
            place = self._place(add, node)
            whole = (self.constants[add.input[place]] + shift).astype(np.float32)
            add.input[place] = self.store(add.input[place], _of_rank(whole, rank))
            return []
        value = node.output[0]
        node.output[0] = self.fresh(f"{value}_product")
        stored = self.store(f"{value}_shift", _of_rank(shift, rank))
        name = self.fresh(f"{value}_shifted")
        return [helper.make_node("Add", [node.output[0], stored], [value], name=name)]

    def _bias_behind(self, node: onnx.NodeProto) -> onnx.NodeProto | None:
        """The Add that alone reads what ``node`` gives, and adds a constant a channel."""
        value = node.output[0]
        readers = self.readers.get(value, [])
        if len(readers) != 1 or value in self.outputs or not self._is_bias(readers[0], value):
            return None
        return readers[0]

    @staticmethod
    def _place(add: onnx.NodeProto, node: onnx.NodeProto) -> int:
        """Which operand of ``add`` is the constant."""
        return 1 if add.input[0] == node.output[0] else 0

    def _is_bias(self, node: onnx.NodeProto, value: str) -> bool:
        """Whether ``node`` adds one constant a channel, or one in all, along the last axis."""
        if node.op_type != "Add" or node.domain or list(node.input).count(value) != 1:
            return False
        other = self.constants.get(next(name for name in node.input if name != value))
        return other is not None and other.dtype == np.float32 and other.ndim <= 1


def _of_rank(values: Array, rank: int) -> Array:
    """``values`` [channels], with axes of one in front where there are more than two axes."""
    return values.reshape((1,) * (rank - 1) + (-1,)) if rank > 2 else values
