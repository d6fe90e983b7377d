"""The register-level arrays against numpy's results, the closed forms and the intervals.

`pytest -m slow tests/targets/systolic/test_rtl_proof.py` runs 480 cases, 4x4 to 16x16.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("amaranth", reason="the register-level model needs the package amaranth")

from motet.benchmarks.rtl.bench import OutputTile, run_outputs
from motet.benchmarks.rtl.cases import DATAFLOWS, random_case
from motet.benchmarks.rtl.outputs import OutputArray
from motet.benchmarks.rtl.proof import KINDS, batches, differences, run_cases


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
@pytest.mark.parametrize("cases", batches(480, seed=0), ids=lambda c: f"{c[0].dataflow}")
def test_hundreds_of_cases(cases):
    assert_equal(cases)


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
