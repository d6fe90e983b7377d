"""Instructions collected one by one, and memory handed out to a step's tiles.

For steps with thousands of instructions at most; products make theirs in bulk.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.instructions.addressing import View
from motet.targets.systolic.instructions.isa import (
    INSTRUCTION,
    Activation,
    Flag,
    Function,
    Instructions,
    Opcode,
    empty_instructions,
)
from motet.targets.systolic.mappings.memory import granules, slot_words

_DEFAULTS: dict[str, Any] = dict(
    zip(INSTRUCTION.names or (), empty_instructions(1)[0].item(), strict=True)
)


class Tile(NamedTuple):
    """A dense tile of ``rows`` x ``columns`` words in a memory."""

    address: int
    rows: int
    columns: int


class Spot(NamedTuple):
    """Where a tile lies in a view."""

    group: int = 0
    row: int = 0
    column: int = 0


class VectorOperation(NamedTuple):
    """A VECTOR on some tile: ``Function`` and its source.

    operand: view of a resident second source, at ``spot``. second: address of one in
    scratchpad (or, with Flag.ACCUMULATORS, in accumulators). third: of a vector.
    """

    function: Function
    second: int = 0
    third: int = 0
    operand: View | None = None
    spot: Spot = Spot()
    flags: Flag = Flag.NONE
    alpha: float = 0.0
    value: int = 0
    activation: Activation = Activation.NONE


class Recorder:
    """The instructions of one step, in order."""

    def __init__(self, context: StepContext) -> None:
        self.context = context
        self._records: list[dict[str, Any]] = []
        self._parts: list[Instructions] = []

    @property
    def instructions(self) -> Instructions:
        """All that was recorded."""
        self._collect()
        made = np.concatenate(self._parts) if self._parts else empty_instructions(0)
        made["step"] = self.context.number
        return made

    def extend(self, instructions: Instructions) -> None:
        """Record instructions made in bulk."""
        self._collect()
        self._parts.append(instructions)

    def _collect(self) -> None:
        """The single records so far as an array."""
        rows = [tuple({**_DEFAULTS, **record}.values()) for record in self._records]
        self._parts.append(np.array(rows, INSTRUCTION))
        self._records.clear()

    def add(self, opcode: Opcode, pod: int, tile: Tile, **fields: Any) -> None:
        """Record one instruction on a tile; its address goes where ``fields`` say."""
        made = {"opcode": opcode, "pod": pod, "target_pod": pod, **fields}
        self._records.append({**made, "rows": tile.rows, "columns": tile.columns})

    def load(self, pod: int, view: View, spot: Spot, tile: Tile, flags: Flag = Flag.NONE) -> None:
        """LOAD into the scratchpad, or with Flag.ACCUMULATORS into the accumulators."""
        field = "accumulator_address" if flags & Flag.ACCUMULATORS else "address"
        place = {field: tile.address, **self._place(view, spot)}
        self.add(Opcode.LOAD, pod, tile, flags=flags, **place)

    def vector(self, pod: int, tile: Tile, operation: VectorOperation) -> None:
        """VECTOR on an accumulator tile."""
        place = {} if operation.operand is None else self._place(operation.operand, operation.spot)
        self.add(
            Opcode.VECTOR,
            pod,
            tile,
            accumulator_address=tile.address,
            function=operation.function,
            activation=operation.activation,
            flags=operation.flags | (Flag.RESIDENT if place else Flag.NONE),
            second_address=operation.second,
            third_address=operation.third,
            alpha=operation.alpha,
            value=operation.value,
            **place,
        )

    def bring(self, pod: int, view: View, spot: Spot, tile: Tile, flags: Flag = Flag.NONE) -> None:
        """A tile of a tensor, resident or in DRAM, into the accumulators."""
        if self.is_resident(view):
            copy = VectorOperation(Function.COPY, operand=view, spot=spot, flags=flags)
            self.vector(pod, tile, copy)
        else:
            self.load(pod, view, spot, tile, flags | Flag.ACCUMULATORS)

    def write(
        self, pod: int, view: View, spot: Spot, tile: Tile, clamp: tuple[float, float] | None = None
    ) -> None:
        """An accumulator tile into the tensor of ``view``, wherever it lies."""
        low, high = (-np.inf, np.inf) if clamp is None else clamp
        fields: dict[str, Any] = {"accumulator_address": tile.address, "low": low, "high": high}
        fields |= self._place(view, spot)
        place = self.context.resident.get(view.tensor)
        if place is not None:
            fields |= {"target_pod": place.pods.start, "target_pods": len(place.pods)}
        self.add(Opcode.STORE if place is None else Opcode.TRANSFER, pod, tile, **fields)

    def is_resident(self, view: View) -> bool:
        """Whether the tensor of ``view`` lies in scratchpads, staged ones included."""
        staged = view.tensor >= len(self.context.workload.tensors)
        return staged or view.tensor in self.context.resident

    def _place(self, view: View, spot: Spot) -> dict[str, Any]:
        return {"operand": self.context.views.number(view), **spot._asdict()}


class Room:
    """Words of one memory, handed out from the start of what a step may use.

    Places begin at multiples of the granule that ``synchronise`` tells apart.
    """

    def __init__(self, context: StepContext, memory: str) -> None:
        words: range = getattr(context, memory)
        self._words = words
        self._name, self._step = memory, context.step.name
        self._next = self._words.start
        self._granule = granules(context.pod, context.format)[memory]
        self._reach = context.reach

    def take(self, words: int) -> int:
        """The address of ``words`` words that nothing else of the step uses."""
        address = self._next
        self._next += int(slot_words(words, self._granule))
        if self._next > self._words.stop:
            raise CompileError(
                f"step {self._step!r}: its tiles need {self._next - self._words.start} words of "
                f"{self._name}, {len(self._words)} are free; use smaller tiles or fewer slots "
                "in the mapping, or a larger memory"
            )
        self._reach.note(self._name, self._next)
        return address

    def ring(self, slots: int, words: int) -> tuple[int, ...]:
        """Addresses of ``slots`` places for ``words`` words each."""
        return tuple(self.take(words) for _ in range(slots))
