"""Rules of places: tiles inside their views, tensors of the right role, addresses in memories."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.instructions.isa import NO_OPERAND, Flag, Function, Opcode
from motet.targets.systolic.instructions.program import Element, Role
from motet.targets.systolic.instructions.rule_chunk import REDUCTIONS, SECOND_TILE, Chunk, Mask


class PlaceRules(Chunk):
    """``check_operands`` before ``check_addresses``."""

    def _view_width(self) -> NDArray[np.int64]:
        """Columns of the tile in the view, 0 where the instruction uses none."""
        field = self.field
        wide = np.zeros(len(field["opcode"]), np.int64)
        resident, named = self.has(Flag.RESIDENT), field["operand"] != NO_OPERAND
        plain = self.any_of(Opcode.LOAD, Opcode.STORE) | (self.is_[Opcode.TRANSFER] & named)
        plain |= self.is_[Opcode.VECTOR] & resident
        wide[plain] = field["columns"][plain]
        inputs = self.is_[Opcode.MATMUL] & resident
        wide[inputs] = field["depth"][inputs]
        lines = self.is_[Opcode.CONV1D] & resident
        wide[lines] = ((field["columns"] - 1) * field["value"] + field["depth"])[lines]
        return wide

    def check_operands(self) -> None:
        """Views that are there, tiles inside them, tensors that may be read or written."""
        field, views = self.field, self.program.views
        wide = self._view_width()
        uses = wide != 0
        self.refuse(
            uses & (field["operand"] >= len(views)),
            f"it names no view of the program's {len(views)}",
        )
        self.refuse(
            ~uses & (field["operand"] != NO_OPERAND),
            "it uses no view: its operand must be NO_OPERAND",
        )
        if self.first is not None or not views:
            return
        self._inside(uses, wide)
        self._roles(uses)

    def _inside(self, uses: Mask, wide: NDArray[np.int64]) -> None:
        field = self.field
        view = np.where(uses, field["operand"], 0)
        table = self.program.view_table
        group = table["group_extent"][view]
        rows, columns = (table[name].prod(axis=1)[view] for name in ("row_extent", "column_extent"))
        outside = (field["group"] >= group) | (field["row"] + field["rows"] > rows)
        outside |= field["column"] + wide > columns

        def message(index: int) -> str:
            size = "x".join(str(int(part[index])) for part in (rows, columns))
            return f"its tile leaves its view of {int(group[index])} groups of {size}"

        self.refuse(uses & outside, message)

    def _roles(self, uses: Mask) -> None:
        program = self.program
        tensors = [program.tensors[view.tensor] for view in program.views]
        view = np.where(uses, self.field["operand"], 0)

        def where(choose: Callable[[Any], bool]) -> Mask:
            chosen: Mask = np.array([choose(tensor) for tensor in tensors], bool)[view] & uses
            return chosen

        loads, stores = self.is_[Opcode.LOAD], self.is_[Opcode.STORE]
        sends, sums = self.is_[Opcode.TRANSFER], self.has(Flag.ACCUMULATORS)
        resident = where(lambda tensor: tensor.resident is not None)
        fixed = where(lambda tensor: tensor.role in (Role.INPUT, Role.WEIGHT))
        word = where(lambda tensor: tensor.element in (Element.WORD, Element.WEIGHT))
        writes = stores | sends
        self.refuse(writes & fixed, "it writes an input or weight: write another tensor")
        self.refuse(
            (loads | stores) & resident,
            "its tensor is resident: transfer it, or read it with +resident",
        )
        self.refuse(
            uses & ~(loads | stores) & ~resident, "its tensor lies in DRAM: load or store it"
        )
        self.refuse(
            uses & ~word & ((loads & ~sums) | resident),
            "a scratchpad holds words of the format: load other elements +accumulators",
        )
        padded = np.array([any(v.padding) for v in program.views], bool)[view] & uses
        self.refuse(writes & padded, "it writes through padding: give the view none")
        integer = program.number_format.is_integer
        wrong = Element.FP32 if integer else Element.INT32
        self.refuse(
            stores & where(lambda tensor: tensor.element is wrong),
            f"sums of {program.format} are not {wrong.name}: store words",
        )

    def check_addresses(self) -> None:
        """Sizes are multiplied as floats: exact where they matter, and nothing overflows."""
        field = {name: values.astype(np.float64) for name, values in self.field.items()}
        rows, columns, depth = field["rows"], field["columns"], field["depth"]
        address, second = field["address"], field["second_address"]
        third, place = field["third_address"], field["accumulator_address"]
        load, matmul, conv = (self.is_[o] for o in (Opcode.LOAD, Opcode.MATMUL, Opcode.CONV1D))
        vector, transfer = self.is_[Opcode.VECTOR], self.is_[Opcode.TRANSFER]
        sums, resident = self.has(Flag.ACCUMULATORS), self.has(Flag.RESIDENT)
        plain = transfer & (self.field["operand"] == NO_OPERAND)
        own, targets = self._capacities()
        tile = rows * columns
        wide = np.where(conv, (columns - 1) * field["value"] + depth, depth)
        weights = np.where(conv, rows, columns) * depth
        two = vector & self.within("function", SECOND_TILE) & ~resident

        def words(broken: Mask, what: str) -> None:
            self.refuse(broken, f"its {what} leaves the memory of its pod: use a lower address")

        products = matmul | conv
        words(load & ~sums & (address + tile > targets[0]), "tile in the scratchpad")
        words(load & sums & (place + tile > targets[1]), "tile in the accumulators")
        words(products & ~resident & (address + rows * wide > own[0]), "input tile")
        words(products & (second + weights > own[0]), "weight tile")
        bias = products & self.has(Flag.BIAS)
        words(bias & (third + np.where(conv, rows, columns) > own[1]), "bias")
        self_tile = products | vector | self.is_[Opcode.STORE] | (transfer & (sums | ~plain))
        words(self_tile & (place + tile > own[1]), "accumulator tile")
        words(two & (second + tile > np.where(sums, own[1], own[0])), "second tile")
        length = self._vector_length(rows, columns)
        words(vector & (length > 0) & (third + length > own[1]), "vector")
        words(plain & ~sums & (second + tile > own[0]), "source tile")
        words(plain & ~sums & (address + tile > targets[0]), "target tile")
        words(plain & sums & (third + tile > targets[1]), "target tile")
        if self.first is None:
            self._overlaps(length, two, plain)

    def _vector_length(self, rows: Any, columns: Any) -> Any:
        by_column = (
            Function.COLUMN_SCALE,
            Function.COLUMN_ADD,
            Function.REQUANTISE,
            Function.DEQUANTISE,
        )
        by_row = (
            *REDUCTIONS,
            Function.ROW_SUBTRACT,
            Function.ROW_MULTIPLY,
            Function.ROW_REQUANTISE,
        )
        by_columns = self.within("function", by_column)
        return np.where(by_columns, columns, np.where(self.within("function", by_row), rows, 0))

    def _capacities(self) -> tuple[list[Any], list[Any]]:
        """Words of (scratchpad, accumulators) of each one's pod, and of its smallest target."""
        field, description = self.field, self.description
        own = [np.zeros(len(field["pod"])) for _ in range(2)]
        targets = [np.full(len(field["pod"]), np.inf) for _ in range(2)]
        for kind, pod in enumerate(description.pods):
            first = description.first_of(kind)
            end = first + pod.count
            here = (field["pod"] >= first) & (field["pod"] < end)
            reached = (field["target_pod"] < end) & (
                field["target_pod"] + field["target_pods"] > first
            )
            sizes = (pod.scratchpad_words(self.program.format), pod.accumulator_words)
            for memory, size in enumerate(sizes):
                own[memory][here] = size
                targets[memory][reached] = np.minimum(targets[memory][reached], size)
        return own, targets

    def _overlaps(self, length: Any, two: Mask, plain: Mask) -> None:
        """What an instruction writes may overlap what it reads only where they are the same."""
        field, sums = self.field, self.has(Flag.ACCUMULATORS)
        tile = field["rows"] * field["columns"]
        place, second, third = (
            field[name] for name in ("accumulator_address", "second_address", "third_address")
        )
        bias = np.where(self.is_[Opcode.CONV1D], field["rows"], field["columns"])
        bias = np.where(self.has(Flag.BIAS), bias, 0)
        length = np.where(self.is_[Opcode.VECTOR], length, bias).astype(np.int64)
        self.refuse(
            (length > 0) & (third < place + tile) & (place < third + length),
            "its vector overlaps its accumulator tile: move one",
        )
        moved = two & sums & (second != place)
        self.refuse(
            moved & (second < place + tile) & (place < second + tile),
            "its two tiles overlap: move one, or make them the same",
        )
        source = np.where(sums, place, second)
        target = np.where(sums, third, field["address"])
        local = (field["target_pod"] <= field["pod"]) & (
            field["pod"] < field["target_pod"] + field["target_pods"]
        )
        self.refuse(
            plain
            & local
            & (source != target)
            & (source < target + tile)
            & (target < source + tile),
            "its target overlaps its source: move one",
        )
