"""The register-level arrays against numpy's results, the closed forms and the intervals.

`pytest -m slow tests/targets/systolic/test_rtl_proof.py` runs 480 cases, 4x4 to 16x16.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from array_programs import machine, one, program

pytest.importorskip("amaranth", reason="the register-level model needs the package amaranth")

from motet.benchmarks.rtl.bench import OutputTile, StationaryTile, run_outputs, run_stationary
from motet.benchmarks.rtl.cases import DATAFLOWS, random_case
from motet.benchmarks.rtl.outputs import OutputArray
from motet.benchmarks.rtl.proof import GROUPS, KINDS, batch, differences, run_cases
from motet.benchmarks.rtl.stationary import StationaryArray
from motet.targets.systolic.instructions.isa import DATAFLOW_NAMES, Engine, Opcode
from motet.targets.systolic.simulation.timing import simulate


def assert_equal(cases):
    runs = run_cases(cases)
    found = {
        f"{case.kind} {number} of {case.dataflow} {case.rows}x{case.columns}": wrong
        for number, (case, run) in enumerate(zip(cases, runs, strict=True))
        if (wrong := differences(case, run))
    }
    assert not found


@pytest.mark.parametrize("size", [(4, 4), (3, 5), (1, 1), (1, 3), (5, 1)])
@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_results_and_cycles(dataflow, size):
    rng = np.random.default_rng(7)
    assert_equal([random_case(dataflow, *size, rng, kind) for kind in KINDS * 2])


@pytest.mark.slow
@pytest.mark.parametrize("number", range(len(GROUPS)))
def test_hundreds_of_cases(number):
    assert_equal(batch(number, 12, seed=0))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_a_cycle_or_a_value_too_many_is_found(dataflow):
    case = random_case(dataflow, 4, 4, np.random.default_rng(1), "sequence")
    (run,) = run_cases([case])
    assert not differences(case, run)
    assert differences(replace(case, cycles=case.cycles + 1), run)
    assert differences(replace(case, expected=case.expected + 1), run)
    late = (*run.finished[:-1], run.finished[-1] + 1)
    assert differences(case, replace(run, finished=late))


def short_tiles(rng, rows, columns):
    return [
        OutputTile(
            rng.integers(-9, 10, (2, rows)), rng.integers(-9, 10, (2, columns)), np.ones(2, bool)
        )
        for _ in range(3)
    ]


def test_tiles_of_outputs_cannot_follow_each_other_closer():
    """Ends R - 1 cycles apart: a sum takes the drain register of one that is still to leave."""
    tiles = short_tiles(np.random.default_rng(2), 4, 4)
    (run,) = run_outputs(OutputArray(4, 4), [tiles])
    assert not run.overrun
    for output, tile in zip(run.outputs, tiles, strict=True):
        np.testing.assert_array_equal(output, tile.a.T @ tile.b)
    with pytest.raises(AssertionError, match="stuck"):
        run_outputs(OutputArray(4, 4, drain_cycles=3), [tiles])


def test_weights_cannot_be_used_earlier():
    """Streaming a cycle before all rows are captured: the bottom row has another tile's weights."""
    rng = np.random.default_rng(3)
    tiles = [
        StationaryTile(rng.integers(-9, 10, (4, 4)), rng.integers(-9, 10, (2, 4))) for _ in range(3)
    ]
    for capture_cycles, right in ((4, True), (3, False)):
        (run,) = run_stationary(StationaryArray(4, 4, capture_cycles), [tiles])
        found = [
            np.array_equal(output, tile.streamed @ tile.held)
            for output, tile in zip(run.outputs, tiles, strict=True)
        ]
        assert all(found) is right


def as_instruction(dataflow, length, rows, columns):
    """A product that streams ``length`` cycles."""
    if dataflow == "spatial-output-stationary":
        fields = {"rows": rows, "columns": 1, "depth": length, "value": 1}
        return one(Opcode.CONV1D, dataflow=DATAFLOW_NAMES[dataflow], **fields)
    sizes = {"rows": rows, "depth": rows, "columns": columns}
    streamed = {
        "weight-stationary": "rows",
        "input-stationary": "columns",
        "output-stationary": "depth",
    }[dataflow]
    return one(Opcode.MATMUL, dataflow=DATAFLOW_NAMES[dataflow], **(sizes | {streamed: length}))


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_the_timing_view_has_the_cycles_of_the_registers(dataflow):
    rng = np.random.default_rng(11)
    cases = [random_case(dataflow, 4, 5, rng, kind) for kind in ("whole", "sequence") * 4]
    for case, run in zip(cases, run_cases(cases), strict=True):
        products = [as_instruction(dataflow, tile.length, 4, 5) for tile in case.tiles]
        timing = simulate(program({(0, Engine.ARRAY): products}), machine(rows=4, columns=5))
        assert timing.cycles == run.cycles
