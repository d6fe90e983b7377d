"""How a vector step's tile ends: bias, residual, requantise, activation, limits, and out.

Everything from the last VECTOR's function on is one instruction where the ISA allows it.
"""

from __future__ import annotations

from collections.abc import Sequence

from motet.runtime.errors import CompileError
from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.epilogue import WITH_ALPHA
from motet.targets.systolic.emit.recorder import Recorder, Room, Spot, Tile, VectorOperation
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import Activation, Function
from motet.targets.systolic.instructions.program import Element


class ColumnVector:
    """A vector [n] of which each pod keeps the part that its tiles' columns need."""

    def __init__(self, recorder: Recorder, tensor: int, room: Room, columns: int) -> None:
        self._recorder, self._address = recorder, room.take(columns)
        held = recorder.context.workload.tensors[tensor]
        self._view = View(tensor, held.shape, Loop(1, 0), (Loop(1, 0),), (Loop(held.elements, 1),))
        self._kept: dict[int, tuple[int, int]] = {}

    def address(self, pod: int, column: int, columns: int) -> int:
        """Where values [column, column + columns) lie in the accumulators of ``pod``."""
        if self._kept.get(pod) != (column, columns):
            self._kept[pod] = (column, columns)
            tile = Tile(self._address, 1, columns)
            self._recorder.bring(pod, self._view, Spot(column=column), tile)
        return self._address


class TileEnd:
    """The end of every tile of a step.

    Parameters
    ----------
    recorder: where instructions go. accumulators, scratchpad: memory left for vectors and for
        residual tiles. columns, words: sizes of the largest tile.
    """

    def __init__(
        self, recorder: Recorder, accumulators: Room, scratchpad: Room, columns: int, words: int
    ) -> None:
        self._recorder = recorder
        self._step = recorder.context.step
        epilogue = self._step.epilogue
        self._bias = self._vector(epilogue.bias, accumulators, columns)
        scale = epilogue.requantise.scale if epilogue.requantise else None
        self._scale = self._vector(scale, accumulators, columns)
        self._residuals: tuple[int, ...] = ()
        self._tiles = 0
        if epilogue.residual is not None and epilogue.residual not in recorder.context.resident:
            slots = recorder.context.mapping.input_slots
            self._residuals = scratchpad.ring(slots, words)

    def _vector(self, tensor: int | None, room: Room, columns: int) -> ColumnVector | None:
        return None if tensor is None else ColumnVector(self._recorder, tensor, room, columns)

    def finish(
        self,
        pod: int,
        tile: Tile,
        view: View,
        spot: Spot,
        before: Sequence[VectorOperation] = (),
    ) -> None:
        """``before``, the epilogue, and the tile's way to (``view``, ``spot``) of the output."""
        operations = [*before, *self._operations(pod, tile, view, spot)]
        for operation in self._activated(operations):
            self._recorder.vector(pod, tile, operation)
        self._recorder.write(pod, view, spot, tile, self._step.epilogue.clamp)

    def _operations(self, pod: int, tile: Tile, view: View, spot: Spot) -> list[VectorOperation]:
        made = []
        if self._bias is not None:
            at = self._bias.address(pod, spot.column, tile.columns)
            made.append(VectorOperation(Function.COLUMN_ADD, third=at))
        if self._step.epilogue.residual is not None:
            made.append(self._residual(pod, tile, view, spot, self._step.epilogue.residual))
        if self._scale is not None and self._step.epilogue.requantise is not None:
            at = self._scale.address(pod, spot.column, tile.columns)
            zero = self._step.epilogue.requantise.zero_point & 0xFFFFFFFF
            made.append(VectorOperation(Function.REQUANTISE, third=at, value=zero))
        return made

    def _residual(
        self, pod: int, tile: Tile, view: View, spot: Spot, tensor: int
    ) -> VectorOperation:
        source = View(tensor, view.shape, view.group, view.rows, view.columns, offset=view.offset)
        if not self._residuals:
            return VectorOperation(Function.ADD, operand=source, spot=spot, alpha=1.0)
        address = self._residuals[self._tiles % len(self._residuals)]
        self._tiles += 1
        self._recorder.load(pod, source, spot, Tile(address, tile.rows, tile.columns))
        return VectorOperation(Function.ADD, second=address, alpha=1.0)

    def _activated(self, operations: list[VectorOperation]) -> list[VectorOperation]:
        """The operations with the activation in the last one, or behind it."""
        kind, alpha = self._step.epilogue.activation, self._step.epilogue.alpha
        if kind is Activation.NONE:
            return operations
        last = operations[-1] if operations else VectorOperation(Function.NONE)
        taken = last.function in (Function.ADD, Function.SCALE) and kind in WITH_ALPHA
        if taken or last.activation is not Activation.NONE or not operations:
            return [*operations, VectorOperation(Function.NONE, alpha=alpha, activation=kind)]
        alpha = last.alpha if last.function in (Function.ADD, Function.SCALE) else alpha
        return [*operations[:-1], last._replace(activation=kind, alpha=alpha)]


def require_words(context: StepContext, *tensors: int) -> None:
    """Raise ``CompileError`` where a tensor has another element type than the format's words."""
    for number in tensors:
        tensor = context.workload.tensors[number]
        if tensor.element is not Element.WORD:
            raise CompileError(
                f"step {context.step.name!r}: {tensor.name or number} is "
                f"{tensor.element.name}, the array takes words of {context.format.name} here; "
                "leave the step to the host"
            )


def require_floats(context: StepContext) -> None:
    """Raise ``CompileError`` where the program computes in integers."""
    activation = context.step.epilogue.activation
    if context.format.is_integer:
        what = activation.name if activation else context.step.kind
        raise CompileError(
            f"step {context.step.name!r}: {what} needs fp32 or bf16, not {context.format.name}; "
            "compile it in a float format or leave it to the host"
        )


def check_activation(context: StepContext) -> None:
    """Raise ``CompileError`` for an activation in an integer format."""
    if context.step.epilogue.activation is not Activation.NONE:
        require_floats(context)
