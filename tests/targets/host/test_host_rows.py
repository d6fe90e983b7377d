"""Stages that share rows become one loop, and only where that keeps the meaning and pays."""

from __future__ import annotations

from typing import Any

import pytest
from kernel_runner import unit_of
from tvm import relax

from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import Machine

R = relax.op
TWO_CORES = Machine("x86-64-v3", 2, 32, ())


def parallel_loops(shape: tuple[int | str, ...], build: Any) -> int:
    func = lower_unit(unit_of([shape], ["float32"], build), frozenset(), TWO_CORES).func
    return str(func.script()).count("T.parallel(")


@pytest.mark.parametrize("shape", [(64, 1000), ("n", 1000), (8, 64, 100)])
def test_softmax_is_one_loop_over_rows(shape: tuple[int | str, ...]):
    assert parallel_loops(shape, lambda x: R.nn.softmax(x, axis=-1)) == 1


def test_rows_that_mix_stay_apart():
    assert parallel_loops((64, 1000), lambda x: R.nn.softmax(x, axis=0)) > 1


def test_one_long_row_keeps_all_cores_busy():
    assert parallel_loops((1, 50_000), lambda x: R.nn.softmax(x, axis=-1)) >= 1
    assert parallel_loops((2, 60_000), lambda x: R.nn.softmax(x, axis=-1)) > 1
