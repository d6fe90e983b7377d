"""Results and cycles of the register-level arrays against numpy, closed forms and intervals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from motet.benchmarks.rtl.bench import Run, StationaryTile, run_outputs, run_stationary
from motet.benchmarks.rtl.cases import DATAFLOWS, Case, Tile, random_case
from motet.benchmarks.rtl.outputs import OutputArray, SpatialArray
from motet.benchmarks.rtl.stationary import StationaryArray
from motet.targets.systolic.array_intervals import capture_cycles, drain_cycles, interval
from motet.targets.systolic.instructions.isa import DATAFLOW_NAMES

KINDS = ("whole", "sequence", "late")
SIZES = (
    (4, 4), (4, 7), (7, 4), (5, 6), (8, 8), (4, 16), (16, 4), (11, 9), (12, 12), (16, 16),
)  # fmt: skip
GROUPS = tuple((size, dataflow) for size in SIZES for dataflow in DATAFLOWS)
"""What can be run in one simulation."""


def run_cases(cases: Sequence[Case]) -> list[Run]:
    """Run cases of one dataflow and array size in one simulation."""
    first = cases[0]
    jobs = [case.tiles for case in cases]
    if first.dataflow == "output-stationary":
        return run_outputs(OutputArray(first.rows, first.columns), jobs)
    if first.dataflow == "spatial-output-stationary":
        return run_outputs(SpatialArray(first.rows, first.columns), jobs)
    return run_stationary(StationaryArray(first.rows, first.columns), jobs)


def predicted_finish(case: Case) -> list[int]:
    """Cycle at which ``array_intervals`` has each tile complete."""
    flow, size = int(DATAFLOW_NAMES[case.dataflow]), (case.rows, case.columns)
    finished: list[int] = []
    start, length = 0, 0
    for number, tile in enumerate(case.tiles):
        held, streamed = _ready(tile)
        earliest = max(streamed, start + interval(flow, length, tile.length, *size))
        if number == 0:
            earliest = streamed
        captured = max(held, start) + capture_cycles(flow, *size)
        start, length = max(captured, earliest), tile.length
        finished.append(start + length + drain_cycles(flow, *size))
    return finished


def differences(case: Case, run: Run) -> list[str]:
    """What a run has otherwise than it should; empty if nothing."""
    found = []
    if not np.array_equal(case.result(run), case.expected):
        found.append("results differ")
    if case.cycles is not None and run.cycles != case.cycles:
        found.append(f"{run.cycles} cycles, closed form {case.cycles}")
    predicted = predicted_finish(case)
    if list(run.finished) != predicted:
        found.append(f"tiles end at {list(run.finished)}, intervals say {predicted}")
    if run.overrun:
        found.append("a sum met a drain register in use")
    return found


def batch(number: int, count: int, seed: int) -> list[Case]:
    """``count`` random cases of the ``number``-th of ``GROUPS``, kinds in turns."""
    (rows, columns), dataflow = GROUPS[number]
    rng = np.random.default_rng([seed, number])
    kinds = [KINDS[(at + number) % len(KINDS)] for at in range(count)]
    return [random_case(dataflow, rows, columns, rng, kind) for kind in kinds]


def batches(cases: int, seed: int) -> list[list[Case]]:
    """At least ``cases`` random cases, as many of each group."""
    each = -(-cases // len(GROUPS))
    return [batch(number, each, seed) for number in range(len(GROUPS))]


def _ready(tile: Tile) -> tuple[int, int]:
    if isinstance(tile, StationaryTile):
        return max(0, tile.held_ready), max(0, tile.streamed_ready)
    return 0, max(0, tile.ready)
