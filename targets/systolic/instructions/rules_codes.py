"""Rules of codes, flags, tile sizes and pods: what an instruction may say at all."""

from __future__ import annotations

import numpy as np

from motet.targets.systolic.instructions.isa import (
    DATAFLOW_NAMES,
    ENGINE_OF,
    ENGINES,
    Activation,
    Dataflow,
    Flag,
    Function,
    Opcode,
)
from motet.targets.systolic.instructions.rule_chunk import REDUCTIONS, SECOND_TILE, Chunk, Mask

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


class CodeRules(Chunk):
    """``check_codes`` before ``check_shapes``."""

    def check_codes(self) -> None:
        """Known codes, flags and functions, in the queue of the opcode's engine."""
        field = self.field
        self.refuse(~self.within("opcode", Opcode), "the opcode is unknown: use one of isa.Opcode")
        numbers = np.arange(self.begin, self.begin + len(field["opcode"]))
        queue = np.searchsorted(self.program.queue_starts, numbers, "right") - 1
        engines = np.full(256, -1)
        for opcode, engine in ENGINE_OF.items():
            engines[opcode] = engine
        engine_of = engines[field["opcode"]]
        self.refuse(
            (engine_of >= 0) & (engine_of != queue % ENGINES),
            "it stands in another engine's queue: move it to its own",
        )
        self.refuse(field["pod"] != queue // ENGINES, "its pod is not that of its queue")
        self.refuse(field["reserved"] != 0, "the reserved byte must be 0")
        self.refuse(
            (field["step"] >= len(self.program.steps)) & (field["step"] > 0),
            "its step is none of the program's",
        )
        self._flags()
        self._functions()
        self._dataflows()
        self._limits()

    def _flags(self) -> None:
        allowed = np.zeros(256, np.int64)
        for opcode, known in FLAGS_OF.items():
            allowed[opcode] = int(known)
        flags = self.field["flags"]
        self.refuse(
            (flags & ~allowed[self.field["opcode"]]) != 0,
            "it has flags that mean nothing to its opcode: clear them",
        )
        product = self.any_of(Opcode.MATMUL, Opcode.CONV1D)
        self.refuse(
            product & self.has(Flag.ACCUMULATE) & self.has(Flag.BIAS),
            "sums start either from the tile (+acc) or from a vector (+bias), not from both",
        )
        self.refuse(
            self.has(Flag.RESIDENT) & self.has(Flag.ACCUMULATORS),
            "its source is either resident or in the accumulators, not both",
        )
        self.refuse(
            self.has(Flag.PAD_LOWEST) & ~self.is_[Opcode.LOAD] & ~self.has(Flag.RESIDENT),
            "+lowest needs a view to read through",
        )

    def _functions(self) -> None:
        vector, field = self.is_[Opcode.VECTOR], self.field
        integer = self.program.number_format.is_integer
        known = self.within("function", Function) & self.within("activation", Activation)
        self.refuse(~known, "its function or activation is unknown")
        self.refuse(
            ~vector & ((field["function"] != 0) | (field["activation"] != 0)),
            "only a vector instruction has a function or an activation",
        )
        second = self.within("function", SECOND_TILE)
        self.refuse(
            vector & ~second & (self.has(Flag.RESIDENT) | self.has(Flag.ACCUMULATORS)),
            "its function has no second tile: clear +resident and +accumulators",
        )
        self.refuse(
            vector & ~self.within("function", REDUCTIONS) & self.has(Flag.ACCUMULATE),
            "only row reductions join to what their vector held: clear +acc",
        )
        if not integer:
            self.refuse(
                self.within("function", (Function.REQUANTISE, Function.ROW_REQUANTISE)),
                "requantise is for integer formats: use scale",
            )
            return
        self.refuse(
            field["activation"] != 0,
            "activations are for float formats: leave it to the host, or to a clamp",
        )
        self.refuse(
            vector & (field["function"] == Function.ADD) & (field["alpha"] != 1),
            "integers are added as they are: alpha must be 1",
        )

    def _dataflows(self) -> None:
        dataflow = self.field["dataflow"]
        product = self.any_of(*DATAFLOWS_OF)
        self.refuse(~product & (dataflow != 0), "only products have a dataflow")
        for opcode, allowed in DATAFLOWS_OF.items():
            names = ", ".join(name for name, code in DATAFLOW_NAMES.items() if code in allowed)
            self.refuse(
                self.is_[opcode] & ~self.within("dataflow", allowed),
                f"its dataflow is not one of its opcode's ({names})",
            )

    def _limits(self) -> None:
        low, high, alpha = (self.field[name] for name in ("low", "high", "alpha"))
        self.refuse(~(low <= high), "its limits are not in order: low must not exceed high")
        self.refuse(np.isnan(alpha), "alpha is not a number")

    def check_shapes(self) -> None:
        """Tiles that are not empty and fit their pod; pods and queues that are there."""
        field = self.field
        product = self.any_of(Opcode.MATMUL, Opcode.CONV1D)
        tiled = ~self.any_of(Opcode.SIGNAL, Opcode.WAIT)
        empty = tiled & ((field["rows"] == 0) | (field["columns"] == 0))
        self.refuse(empty | (product & (field["depth"] == 0)), "its tile is empty")
        self.refuse(
            self.is_[Opcode.CONV1D] & (field["value"] == 0), "the stride (value) must be at least 1"
        )
        self._targets()
        self._pods()
        queues = len(self.program.queue_starts) - 1
        self.refuse(
            self.is_[Opcode.WAIT] & (field["semaphore"] >= queues),
            f"it waits for a queue that is not there: the program has {queues}",
        )

    def _targets(self) -> None:
        field, pods = self.field, self.description.pod_count
        sends = self.any_of(Opcode.LOAD, Opcode.TRANSFER)
        beyond = field["target_pod"] + field["target_pods"] > pods
        self.refuse(
            sends & (beyond | (field["target_pods"] == 0)),
            f"its target pods are not among the {pods} of {self.description.name}",
        )

    def _pods(self) -> None:
        """What each kind of pod offers, and what fits its array."""
        field, name = self.field, self.program.format
        sends = self.any_of(Opcode.LOAD, Opcode.TRANSFER)
        for kind, pod in enumerate(self.description.pods):
            first = self.description.first_of(kind)
            here = (field["pod"] >= first) & (field["pod"] < first + pod.count)
            end = field["target_pod"] + field["target_pods"]
            reached = sends & (field["target_pod"] < first + pod.count) & (end > first)
            if name not in pod.formats:
                self.refuse(
                    here | reached,
                    f"its pod computes in {', '.join(pod.formats)}, not {name}",
                )
            offered = [0, *(DATAFLOW_NAMES[each] for each in pod.dataflows)]
            self.refuse(
                here & ~self.within("dataflow", offered),
                f"its pod offers no such dataflow, only {', '.join(pod.dataflows)}",
            )
            self.refuse(
                here & ~self._fits(pod.rows, pod.columns),
                f"its tile does not fit the {pod.rows}x{pod.columns} array in its dataflow: cut it",
            )

    def _fits(self, rows: int, columns: int) -> Mask:
        field = self.field
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
