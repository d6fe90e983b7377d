"""A second implementation of programs of vectors: Python integers, one word after another.

Written from ``instructions/isa.py`` and docs/ARRAY_ISA.md alone. Every place of a memory holds
what was put there, with its kind: a vector ``(integers, scale)``, an ``int`` sum or a NumPy
``float32``; taking one for another fails.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from array_slow_interpreter import SlowInterpreter, sequential_order

from motet.targets.systolic.instructions.isa import Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram


class SlowVectors:
    """Memories of all pods; ``gated`` counts pairs whose scales' product is 0."""

    def __init__(self, program: SystolicProgram) -> None:
        made = program.number_format.vectors
        assert made is not None
        self.program, self.words = program, made
        self.scratchpad: dict[tuple[int, int], Any] = {}
        self.sums: dict[tuple[int, int], Any] = {}
        self.dram: dict[int, Any] = defaultdict(dict)
        self.gated = 0
        name, tensors, views = "int8", program.tensors, program.views
        self._views = SlowInterpreter(name, tensors, views, 1, 1, 1)

    def run(self, arguments: Sequence[Any]) -> list[Any]:
        given = iter(arguments)
        for number, tensor in enumerate(self.program.tensors):
            if tensor.role not in (Role.INPUT, Role.WEIGHT):
                continue
            array = next(given)
            if tensor.element in (Element.WORD, Element.WEIGHT):
                words = array.reshape(tensor.elements, self.words.length)
                self.dram[number] = [[int(v) for v in word] for word in words]
            elif tensor.element is Element.SCALE:
                scales = [int(v) for v in array.reshape(-1)]
                self.dram[number - 1] = list(zip(self.dram[number - 1], scales, strict=True))
            else:
                self.dram[number] = list(array.reshape(-1))
        for number in sequential_order(self.program):
            self._execute(self.program.instructions[number])
        kinds = {Element.FP32: np.float32, Element.INT64: np.int64}
        return [
            np.array([self.dram[n][i] for i in range(t.elements)], kinds[t.element]).reshape(
                t.shape
            )
            for n, t in enumerate(self.program.tensors)
            if t.role is Role.OUTPUT
        ]

    def _execute(self, one: Any) -> None:
        opcode = Opcode(one["opcode"])
        if opcode not in (Opcode.WAIT, Opcode.SIGNAL):
            getattr(self, f"_{opcode.name.lower()}")(one)

    def _places(self, one: Any) -> tuple[int, Any]:
        view = self.program.views[one["operand"]]
        rows, columns = int(one["rows"]), int(one["columns"])
        at = self._views._addresses(view, one, rows, columns)
        return view.tensor, at.T.reshape(-1)

    def _load(self, one: Any) -> None:
        tensor, at = self._places(one)
        in_sums = bool(one["flags"] & Flag.ACCUMULATORS)
        to = int(one["accumulator_address" if in_sums else "address"])
        nothing = ([0] * self.words.length, 0)
        for pod in range(int(one["target_pod"]), int(one["target_pod"]) + int(one["target_pods"])):
            for i, place in enumerate(at):
                memory = self.sums if in_sums else self.scratchpad
                memory[pod, to + i] = nothing if place < 0 else self.dram[tensor][place]

    def _matmul(self, one: Any) -> None:
        rows, depth, columns = (int(one[name]) for name in ("rows", "depth", "columns"))
        pod, left, right = int(one["pod"]), int(one["address"]), int(one["second_address"])
        at = int(one["accumulator_address"])
        for c in range(columns):
            for r in range(rows):
                place = (pod, at + c * rows + r)
                total = self.sums[place] if one["flags"] & Flag.ACCUMULATE else 0
                assert isinstance(total, int)
                for k in range(depth):
                    x, s = self.scratchpad[pod, left + k * rows + r]
                    w, t = self.scratchpad[pod, right + c * depth + k]
                    total += self._scale(s * t) * sum(a * b for a, b in zip(x, w, strict=True))
                half = 1 << (self.words.sum_bits - 1)
                self.sums[place] = (total + half) % (2 * half) - half

    def _scale(self, product: int) -> int:
        kept = self.words.product_bits
        full = self.words.weights.scale_bits + self.words.inputs.scale_bits
        if kept is not None:
            step = 1 << (full - kept)
            whole, rest = divmod(product, step)
            whole += 2 * rest > step or (2 * rest == step and whole % 2)
            product = min(whole, 2**kept - 1)
        self.gated += product == 0
        return product

    def _vector(self, one: Any) -> None:
        rows, columns, pod = int(one["rows"]), int(one["columns"]), int(one["pod"])
        at, third = int(one["accumulator_address"]), int(one["third_address"])
        assert one["activation"] == 0
        for c in range(columns):
            s = self.sums[pod, third + c]
            assert isinstance(s, np.float32)
            for r in range(rows):
                value = self.sums[pod, at + c * rows + r]
                if one["function"] == Function.DEQUANTISE:
                    assert isinstance(value, int)
                    made = np.float32(np.int64(value)) * s
                else:
                    assert one["function"] == Function.COLUMN_ADD
                    assert isinstance(value, np.float32)
                    made = value + s
                self.sums[pod, at + c * rows + r] = np.float32(made)

    def _store(self, one: Any) -> None:
        tensor, at = self._places(one)
        kind = int if self.program.tensors[tensor].element is Element.INT64 else np.float32
        for i, place in enumerate(at):
            value = self.sums[int(one["pod"]), int(one["accumulator_address"]) + i]
            assert isinstance(value, kind)
            assert place not in self.dram[tensor]
            limited = min(max(value, one["low"]), one["high"])
            self.dram[tensor][int(place)] = value if kind is int else limited
