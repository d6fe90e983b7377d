"""The rules that instructions keep each by itself, whatever the others do.

Every rule is a mask over all instructions of where it is broken, and a message with the
remedy. They come in stages (codes and shapes; operands; addresses), because a later one
relies on those before; within a stage the first instruction that breaks any rule is named.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.isa import (
    DATAFLOW_NAMES,
    ENGINE_OF,
    ENGINES,
    NO_OPERAND,
    Activation,
    Dataflow,
    Flag,
    Function,
    Opcode,
)
from motet.targets.systolic.instructions.program import Element, Role, SystolicProgram

Mask = NDArray[np.bool_]
Report = Callable[[int, str], Exception]
"""From an instruction's number and what is wrong with it to the error."""

FLAGS_OF: dict[Opcode, Flag] = {
    Opcode.LOAD: Flag.ACCUMULATORS | Flag.PAD_LOWEST,
    Opcode.MATMUL: Flag.ACCUMULATE | Flag.BIAS | Flag.RESIDENT | Flag.PAD_LOWEST,
    Opcode.CONV1D: Flag.ACCUMULATE | Flag.BIAS | Flag.RESIDENT | Flag.PAD_LOWEST,
    Opcode.VECTOR: Flag.ACCUMULATE | Flag.RESIDENT | Flag.ACCUMULATORS | Flag.PAD_LOWEST,
    Opcode.STORE: Flag.NONE,
    Opcode.TRANSFER: Flag.ACCUMULATORS,
    Opcode.SIGNAL: Flag.NONE,
    Opcode.WAIT: Flag.NONE,
}
"""The flags that mean something to each opcode."""

DATAFLOWS_OF: dict[Opcode, tuple[Dataflow, ...]] = {
    Opcode.MATMUL: (
        Dataflow.WEIGHT_STATIONARY,
        Dataflow.OUTPUT_STATIONARY,
        Dataflow.INPUT_STATIONARY,
    ),
    Opcode.CONV1D: (Dataflow.SPATIAL_OUTPUT_STATIONARY,),
}
SECOND_TILE = (Function.COPY, Function.ADD, Function.MULTIPLY, Function.MAXIMUM)
REDUCTIONS = (Function.ROW_MAXIMUM, Function.ROW_SUM, Function.ROW_SUM_SQUARES)


CHUNK = 2**15
"""Instructions looked at together: as many as caches hold."""


def check_rules(program: SystolicProgram, description: ArrayDescription, report: Report) -> None:
    """Raise ``report``'s error of the first instruction that breaks a rule of its own."""
    starts = program.queue_starts
    counted = np.concatenate([[0], np.cumsum(program.instructions["opcode"] == Opcode.SIGNAL)])
    signals = counted[starts[1:]] - counted[starts[:-1]]
    for begin in range(0, len(program.instructions), CHUNK):
        Rules(program, description, signals, begin).check(report)


class Rules:
    """The rules for ``CHUNK`` instructions from ``begin`` on; signals: of each queue."""

    def __init__(
        self,
        program: SystolicProgram,
        description: ArrayDescription,
        signals: NDArray[np.int64],
        begin: int,
    ) -> None:
        self._program, self._description, self._begin = program, description, begin
        self._signals = signals
        code = program.instructions[begin : begin + CHUNK]
        self._field = {
            name: code[name].astype(np.float32 if code.dtype[name].kind == "f" else np.int64)
            for name in code.dtype.names or ()
        }
        self._is = {opcode: self._field["opcode"] == opcode for opcode in Opcode}
        self._first: tuple[int, str] | None = None

    def check(self, report: Report) -> None:
        """Raise the error of the first instruction that breaks a rule."""
        for stage in (self._codes, self._shapes, self._operands, self._addresses, self._waits):
            stage()
            if self._first is not None:
                raise report(self._begin + self._first[0], self._first[1])

    def _refuse(self, broken: Mask, message: str | Callable[[int], str]) -> None:
        if not broken.any():
            return
        index = int(np.argmax(broken))
        if self._first is None or index < self._first[0]:
            self._first = index, message if isinstance(message, str) else message(index)

    def _any(self, *opcodes: Opcode) -> Mask:
        return np.isin(self._field["opcode"], [int(opcode) for opcode in opcodes])

    def _flag(self, flag: Flag) -> Mask:
        return (self._field["flags"] & int(flag)) != 0

    def _of(self, name: str, values: Any) -> Mask:
        return np.isin(self._field[name], [int(value) for value in values])

    # -- codes --------------------------------------------------------------------------

    def _codes(self) -> None:
        field = self._field
        self._refuse(~self._of("opcode", Opcode), "the opcode is unknown: use one of isa.Opcode")
        numbers = np.arange(self._begin, self._begin + len(field["opcode"]))
        queue = np.searchsorted(self._program.queue_starts, numbers, "right") - 1
        engines = np.full(256, -1)
        for opcode, engine in ENGINE_OF.items():
            engines[opcode] = engine
        engine_of = engines[field["opcode"]]
        self._refuse(
            (engine_of >= 0) & (engine_of != queue % ENGINES),
            "it stands in another engine's queue: move it to its own",
        )
        self._refuse(field["pod"] != queue // ENGINES, "its pod is not that of its queue")
        self._refuse(field["reserved"] != 0, "the reserved byte must be 0")
        self._refuse(
            (field["step"] >= len(self._program.steps)) & (field["step"] > 0),
            "its step is none of the program's",
        )
        self._flags()
        self._functions()
        self._dataflows()
        self._limits()

    def _flags(self) -> None:
        allowed = np.zeros(256, np.int64)
        for opcode, flags in FLAGS_OF.items():
            allowed[opcode] = int(flags)
        flags = self._field["flags"]
        self._refuse(
            (flags & ~allowed[self._field["opcode"]]) != 0,
            "it has flags that mean nothing to its opcode: clear them",
        )
        product = self._any(Opcode.MATMUL, Opcode.CONV1D)
        self._refuse(
            product & self._flag(Flag.ACCUMULATE) & self._flag(Flag.BIAS),
            "sums start either from the tile (+acc) or from a vector (+bias), not from both",
        )
        self._refuse(
            self._flag(Flag.RESIDENT) & self._flag(Flag.ACCUMULATORS),
            "its source is either resident or in the accumulators, not both",
        )
        self._refuse(
            self._flag(Flag.PAD_LOWEST) & ~self._is[Opcode.LOAD] & ~self._flag(Flag.RESIDENT),
            "+lowest needs a view to read through",
        )

    def _functions(self) -> None:
        vector, field = self._is[Opcode.VECTOR], self._field
        integer = self._program.number_format.is_integer
        known = self._of("function", Function) & self._of("activation", Activation)
        self._refuse(~known, "its function or activation is unknown")
        self._refuse(
            ~vector & ((field["function"] != 0) | (field["activation"] != 0)),
            "only a vector instruction has a function or an activation",
        )
        second = self._of("function", SECOND_TILE)
        self._refuse(
            vector & ~second & (self._flag(Flag.RESIDENT) | self._flag(Flag.ACCUMULATORS)),
            "its function has no second tile: clear +resident and +accumulators",
        )
        self._refuse(
            vector & ~self._of("function", REDUCTIONS) & self._flag(Flag.ACCUMULATE),
            "only row reductions join to what their vector held: clear +acc",
        )
        if not integer:
            self._refuse(
                self._of("function", (Function.REQUANTISE, Function.ROW_REQUANTISE)),
                "requantise is for integer formats: use scale",
            )
            return
        self._refuse(
            field["activation"] != 0,
            "activations are for float formats: leave it to the host, or to a clamp",
        )
        self._refuse(
            vector & (field["function"] == Function.ADD) & (field["alpha"] != 1),
            "integers are added as they are: alpha must be 1",
        )

    def _dataflows(self) -> None:
        dataflow = self._field["dataflow"]
        product = self._any(*DATAFLOWS_OF)
        self._refuse(~product & (dataflow != 0), "only products have a dataflow")
        for opcode, allowed in DATAFLOWS_OF.items():
            names = ", ".join(name for name, code in DATAFLOW_NAMES.items() if code in allowed)
            self._refuse(
                self._is[opcode] & ~self._of("dataflow", allowed),
                f"its dataflow is not one of its opcode's ({names})",
            )

    def _limits(self) -> None:
        low, high, alpha = (self._field[name] for name in ("low", "high", "alpha"))
        self._refuse(~(low <= high), "its limits are not in order: low must not exceed high")
        self._refuse(np.isnan(alpha), "alpha is not a number")

    # -- shapes, pods -------------------------------------------------------------------

    def _shapes(self) -> None:
        field = self._field
        product = self._any(Opcode.MATMUL, Opcode.CONV1D)
        tiled = ~self._any(Opcode.SIGNAL, Opcode.WAIT)
        empty = tiled & ((field["rows"] == 0) | (field["columns"] == 0))
        self._refuse(empty | (product & (field["depth"] == 0)), "its tile is empty")
        self._refuse(
            self._is[Opcode.CONV1D] & (field["value"] == 0), "the stride (value) must be at least 1"
        )
        self._targets()
        self._pods()
        queues = len(self._program.queue_starts) - 1
        self._refuse(
            self._is[Opcode.WAIT] & (field["semaphore"] >= queues),
            f"it waits for a queue that is not there: the program has {queues}",
        )

    def _targets(self) -> None:
        field, pods = self._field, self._description.pod_count
        sends = self._any(Opcode.LOAD, Opcode.TRANSFER)
        beyond = field["target_pod"] + field["target_pods"] > pods
        self._refuse(
            sends & (beyond | (field["target_pods"] == 0)),
            f"its target pods are not among the {pods} of {self._description.name}",
        )

    def _pods(self) -> None:
        """What each kind of pod offers, and what fits its array."""
        field, name = self._field, self._program.format
        sends = self._any(Opcode.LOAD, Opcode.TRANSFER)
        for kind, pod in enumerate(self._description.pods):
            first = self._description.first_of(kind)
            here = (field["pod"] >= first) & (field["pod"] < first + pod.count)
            end = field["target_pod"] + field["target_pods"]
            reached = sends & (field["target_pod"] < first + pod.count) & (end > first)
            if name not in pod.formats:
                self._refuse(
                    here | reached,
                    f"its pod computes in {', '.join(pod.formats)}, not {name}",
                )
            offered = [0, *(DATAFLOW_NAMES[each] for each in pod.dataflows)]
            self._refuse(
                here & ~self._of("dataflow", offered),
                f"its pod offers no such dataflow, only {', '.join(pod.dataflows)}",
            )
            self._refuse(
                here & ~self._fits(pod.rows, pod.columns),
                f"its tile does not fit the {pod.rows}x{pod.columns} array in its dataflow: cut it",
            )

    def _fits(self, rows: int, columns: int) -> Mask:
        field = self._field
        dataflow = field["dataflow"]
        row_limits = {
            Dataflow.WEIGHT_STATIONARY: ("depth", "columns"),
            Dataflow.OUTPUT_STATIONARY: ("rows", "columns"),
            Dataflow.INPUT_STATIONARY: ("depth", "rows"),
            Dataflow.SPATIAL_OUTPUT_STATIONARY: ("rows", "columns"),
        }
        fits = np.ones(len(dataflow), bool)
        for code, (down, across) in row_limits.items():
            fits &= (dataflow != code) | ((field[down] <= rows) & (field[across] <= columns))
        return fits

    # -- operands -----------------------------------------------------------------------

    def _view_width(self) -> NDArray[np.int64]:
        """Columns of the tile in the view, 0 where the instruction uses none."""
        field = self._field
        wide = np.zeros(len(field["opcode"]), np.int64)
        resident, named = self._flag(Flag.RESIDENT), field["operand"] != NO_OPERAND
        plain = self._any(Opcode.LOAD, Opcode.STORE) | (self._is[Opcode.TRANSFER] & named)
        plain |= self._is[Opcode.VECTOR] & resident
        wide[plain] = field["columns"][plain]
        inputs = self._is[Opcode.MATMUL] & resident
        wide[inputs] = field["depth"][inputs]
        lines = self._is[Opcode.CONV1D] & resident
        wide[lines] = ((field["columns"] - 1) * field["value"] + field["depth"])[lines]
        return wide

    def _operands(self) -> None:
        field, views = self._field, self._program.views
        wide = self._view_width()
        uses = wide != 0
        self._refuse(
            uses & (field["operand"] >= len(views)),
            f"it names no view of the program's {len(views)}",
        )
        self._refuse(
            ~uses & (field["operand"] != NO_OPERAND),
            "it uses no view: its operand must be NO_OPERAND",
        )
        if self._first is not None or not views:
            return
        self._inside(uses, wide)
        self._roles(uses)

    def _inside(self, uses: Mask, wide: NDArray[np.int64]) -> None:
        field, views = self._field, self._program.views
        view = np.where(uses, field["operand"], 0)
        sizes = np.array([(v.group.extent, v.row_count, v.column_count) for v in views], np.int64)
        group, rows, columns = sizes[view].T
        outside = (field["group"] >= group) | (field["row"] + field["rows"] > rows)
        outside |= field["column"] + wide > columns

        def message(index: int) -> str:
            size = "x".join(str(int(part[index])) for part in (rows, columns))
            return f"its tile leaves its view of {int(group[index])} groups of {size}"

        self._refuse(uses & outside, message)

    def _roles(self, uses: Mask) -> None:
        program = self._program
        tensors = [program.tensors[view.tensor] for view in program.views]
        view = np.where(uses, self._field["operand"], 0)

        def where(choose: Callable[[Any], bool]) -> Mask:
            chosen: Mask = np.array([choose(tensor) for tensor in tensors], bool)[view] & uses
            return chosen

        loads, stores = self._is[Opcode.LOAD], self._is[Opcode.STORE]
        sends, sums = self._is[Opcode.TRANSFER], self._flag(Flag.ACCUMULATORS)
        resident = where(lambda tensor: tensor.resident is not None)
        fixed = where(lambda tensor: tensor.role in (Role.INPUT, Role.WEIGHT))
        output = where(lambda tensor: tensor.role is Role.OUTPUT)
        word = where(lambda tensor: tensor.element is Element.WORD)
        writes = stores | sends
        self._refuse(writes & fixed, "it writes an input or weight: write another tensor")
        self._refuse(uses & ~writes & output, "it reads an output: keep an internal tensor")
        self._refuse(
            (loads | stores) & resident,
            "its tensor is resident: transfer it, or read it with +resident",
        )
        self._refuse(
            uses & ~(loads | stores) & ~resident, "its tensor lies in DRAM: load or store it"
        )
        self._refuse(
            uses & ~word & ((loads & ~sums) | resident),
            "a scratchpad holds words of the format: load other elements +accumulators",
        )
        padded = np.array([any(v.padding) for v in program.views], bool)[view] & uses
        self._refuse(writes & padded, "it writes through padding: give the view none")
        integer = program.number_format.is_integer
        wrong = Element.FP32 if integer else Element.INT32
        self._refuse(
            stores & where(lambda tensor: tensor.element is wrong),
            f"sums of {program.format} are not {wrong.name}: store words",
        )

    # -- addresses ----------------------------------------------------------------------

    def _addresses(self) -> None:
        """Sizes are multiplied as floats: exact where they matter, and nothing overflows."""
        field = {name: values.astype(np.float64) for name, values in self._field.items()}
        rows, columns, depth = field["rows"], field["columns"], field["depth"]
        address, second = field["address"], field["second_address"]
        third, place = field["third_address"], field["accumulator_address"]
        load, matmul, conv = (self._is[o] for o in (Opcode.LOAD, Opcode.MATMUL, Opcode.CONV1D))
        vector, transfer = self._is[Opcode.VECTOR], self._is[Opcode.TRANSFER]
        sums, resident = self._flag(Flag.ACCUMULATORS), self._flag(Flag.RESIDENT)
        plain = transfer & (self._field["operand"] == NO_OPERAND)
        own, targets = self._capacities()
        tile = rows * columns
        wide = np.where(conv, (columns - 1) * field["value"] + depth, depth)
        weights = np.where(conv, rows, columns) * depth
        two = vector & self._of("function", SECOND_TILE) & ~resident

        def words(broken: Mask, what: str) -> None:
            self._refuse(broken, f"its {what} leaves the memory of its pod: use a lower address")

        products = matmul | conv
        words(load & ~sums & (address + tile > targets[0]), "tile in the scratchpad")
        words(load & sums & (place + tile > targets[1]), "tile in the accumulators")
        words(products & ~resident & (address + rows * wide > own[0]), "input tile")
        words(products & (second + weights > own[0]), "weight tile")
        bias = products & self._flag(Flag.BIAS)
        words(bias & (third + np.where(conv, rows, columns) > own[1]), "bias")
        self_tile = products | vector | self._is[Opcode.STORE] | (transfer & (sums | ~plain))
        words(self_tile & (place + tile > own[1]), "accumulator tile")
        words(two & (second + tile > np.where(sums, own[1], own[0])), "second tile")
        length = self._vector_length(rows, columns)
        words(vector & (length > 0) & (third + length > own[1]), "vector")
        words(plain & ~sums & (second + tile > own[0]), "source tile")
        words(plain & ~sums & (address + tile > targets[0]), "target tile")
        words(plain & sums & (third + tile > targets[1]), "target tile")
        if self._first is None:
            self._overlaps(length, two, plain)

    def _vector_length(self, rows: Any, columns: Any) -> Any:
        by_column = (Function.COLUMN_SCALE, Function.COLUMN_ADD, Function.REQUANTISE)
        by_row = (
            *REDUCTIONS,
            Function.ROW_SUBTRACT,
            Function.ROW_MULTIPLY,
            Function.ROW_REQUANTISE,
        )
        by_columns = self._of("function", by_column)
        return np.where(by_columns, columns, np.where(self._of("function", by_row), rows, 0))

    def _capacities(self) -> tuple[list[Any], list[Any]]:
        """Words of (scratchpad, accumulators) of each one's pod, and of its smallest target."""
        field, description = self._field, self._description
        own = [np.zeros(len(field["pod"])) for _ in range(2)]
        targets = [np.full(len(field["pod"]), np.inf) for _ in range(2)]
        for kind, pod in enumerate(description.pods):
            first = description.first_of(kind)
            end = first + pod.count
            here = (field["pod"] >= first) & (field["pod"] < end)
            reached = (field["target_pod"] < end) & (
                field["target_pod"] + field["target_pods"] > first
            )
            sizes = (pod.scratchpad_words(self._program.format), pod.accumulator_words)
            for memory, size in enumerate(sizes):
                own[memory][here] = size
                targets[memory][reached] = np.minimum(targets[memory][reached], size)
        return own, targets

    def _overlaps(self, length: Any, two: Mask, plain: Mask) -> None:
        """What an instruction writes may overlap what it reads only where they are the same."""
        field, sums = self._field, self._flag(Flag.ACCUMULATORS)
        tile = field["rows"] * field["columns"]
        place, second, third = (
            field[name] for name in ("accumulator_address", "second_address", "third_address")
        )
        bias = np.where(self._is[Opcode.CONV1D], field["rows"], field["columns"])
        bias = np.where(self._flag(Flag.BIAS), bias, 0)
        length = np.where(self._is[Opcode.VECTOR], length, bias).astype(np.int64)
        self._refuse(
            (length > 0) & (third < place + tile) & (place < third + length),
            "its vector overlaps its accumulator tile: move one",
        )
        moved = two & sums & (second != place)
        self._refuse(
            moved & (second < place + tile) & (place < second + tile),
            "its two tiles overlap: move one, or make them the same",
        )
        source = np.where(sums, place, second)
        target = np.where(sums, third, field["address"])
        local = (field["target_pod"] <= field["pod"]) & (
            field["pod"] < field["target_pod"] + field["target_pods"]
        )
        self._refuse(
            plain
            & local
            & (source != target)
            & (source < target + tile)
            & (target < source + tile),
            "its target overlaps its source: move one",
        )

    # -- semaphores ---------------------------------------------------------------------

    def _waits(self) -> None:
        waits = self._is[Opcode.WAIT]
        if not waits.any():
            return
        given = self._signals[np.where(waits, self._field["semaphore"], 0)]
        self._refuse(
            waits & (self._field["value"] > given),
            lambda i: (
                f"it waits for {int(self._field['value'][i])} signals of a queue that gives "
                f"{int(given[i])}: it would wait forever"
            ),
        )


def check_tables(program: SystolicProgram, description: ArrayDescription) -> str | None:
    """What is wrong with the program's format, tensors, views or queues, if anything is."""
    starts, count = program.queue_starts, len(program.instructions)
    if (len(starts) - 1) % ENGINES or starts[0] != 0 or starts[-1] != count:
        return "queue_starts must rise from 0 to the number of instructions, 4 queues a pod"
    if (np.diff(starts) < 0).any():
        return "queue_starts must rise"
    if program.pods > description.pod_count:
        return f"it has {program.pods} pods, {description.name} has {description.pod_count}"
    least = min(pod.scratchpad_words(program.format) for pod in description.pods)
    for number, tensor in enumerate(program.tensors):
        if tensor.resident is None:
            continue
        if tensor.role is not Role.INTERNAL or tensor.element is not Element.WORD:
            return f"tensor {number} ({tensor.name!r}) is resident, so it must be internal words"
        if not 0 <= tensor.resident <= least - tensor.elements:
            return (
                f"tensor {number} ({tensor.name!r}) leaves the scratchpad of {least} words: keep "
                "it in DRAM"
            )
    return next(filter(None, (_wrong_view(program, i) for i in range(len(program.views)))), None)


def _wrong_view(program: SystolicProgram, number: int) -> str | None:
    view = program.views[number]
    if not 0 <= view.tensor < len(program.tensors):
        return f"view {number} is of tensor {view.tensor}, which is not there"
    tensor = program.tensors[view.tensor]
    name = f"view {number} (of {tensor.name!r})"
    if min(loop.extent for loop in view.loops) < 1 or min(view.padding) < 0:
        return f"{name} has an empty loop or a negative padding"
    if math.prod(view.shape) > tensor.elements:
        return f"{name} sees more values than the {tensor.elements} of its tensor"
    if any(view.padding) and len(view.shape) < 2:
        return f"{name} has padding around fewer than two axes"
    size = math.prod(view.padded_shape)
    if view.first_address < 0 or view.last_address >= size or size >= 2**48:
        return (
            f"{name} reaches values {view.first_address} to {view.last_address} of "
            f"{size}: correct its offset or strides"
        )
    return None
