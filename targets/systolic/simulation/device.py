"""The simulated array as the device that the VM runs array programs on.

``invoke`` may be called from many threads: every run in flight has on-chip memories of its
own, which later runs use again, of whatever program.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence

from motet.runtime.device import Array, ProgramCounts
from motet.runtime.errors import InputError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.encoding import decode
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.memories import MemoryPool
from motet.targets.systolic.simulation.timing import Timing, simulate
from motet.targets.systolic.slices import sliced


class SimulatedArray:
    """An ``Accelerator`` (see ``runtime.device``): values and costs of array programs.

    shares: by programs' names the number of pods that one has with the bandwidth that comes with
    them (``slices``); the others have the whole array.
    """

    def __init__(
        self, description: ArrayDescription, shares: Mapping[str, int] | None = None
    ) -> None:
        self.description = description
        self._shares = shares or {}
        self.clock_hz = description.clock_hz
        self._lock = threading.Lock()
        self._pool = MemoryPool()
        self._programs: dict[str, Interpreter] = {}
        self._counts: dict[str, ProgramCounts] = {}
        self._timings: dict[str, Timing] = {}

    def load(self, name: str, program: bytes) -> None:
        """Take an encoded program, in place of one of the same name.

        Raises
        ------
        BundleError: the bytes are damaged. ProgramError: it breaks a rule of this array.
        """
        decoded = decode(program)
        check_program(decoded, self.description)
        interpreter = Interpreter(decoded, self._pool)
        with self._lock:
            self._programs[name] = interpreter
            self._counts.pop(name, None)
            self._timings.pop(name, None)

    def program(self, name: str) -> SystolicProgram:
        """The program of that name; raises ``InputError`` for an unknown one."""
        return self._interpreter(name).program

    def invoke(self, name: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Run program ``name``: read ``inputs``, fill ``outputs`` in place.

        C-contiguous arrays in the order of ``SystolicProgram.arguments`` and ``results``, of
        as many values as those tensors have and of ``functional.tensor_dtype``: words are
        fp32 in fp32 and bf16 programs (bf16 rounds them on entry) and int8 in int8 and int4;
        vectors are their integers, and their scales the array behind those.

        Raises ``InputError`` for an unknown name or an array that does not fit.
        """
        self._interpreter(name).run(inputs, outputs)

    def counts(self, name: str) -> ProgramCounts:
        """Cost of one run of program ``name``; raises ``InputError`` for an unknown name.

        What of it depends on values (products of vectors that were gated) is that of the last run.
        """
        interpreter = self._interpreter(name)
        gated = interpreter.gated
        with self._lock:
            known, timing = self._counts.get(name), self._timings.get(name)
        if known is None or known.gated_products != gated:
            machine = sliced(self.description, self._shares.get(name, self.description.pod_count))
            timing = timing or simulate(interpreter.program, machine)
            known = program_counts(interpreter.program, machine, timing, gated)
            with self._lock:
                if self._programs.get(name) is interpreter:
                    self._counts[name] = known
                    if gated is not None:  # else its counts stay, and nothing is asked again
                        self._timings[name] = timing
        return known

    def _interpreter(self, name: str) -> Interpreter:
        with self._lock:
            if name not in self._programs:
                raise InputError(f"no array program {name!r} is loaded")
            return self._programs[name]
