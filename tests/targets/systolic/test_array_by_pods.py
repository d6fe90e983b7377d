"""Cycles by the number of pods: one search for all numbers finds what a search for each does."""

import numpy as np
import pytest
from array_emission import machine
from test_array_chains import chain

from motet.runtime.errors import CompileError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import plan_workload
from motet.targets.systolic.estimate import with_pods
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.mappings.by_pods import workload_cycles
from motet.targets.systolic.mappings.choose import TOLERANCE
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import (
    Convolution,
    MatrixProduct,
    Pooling,
    TransposedConvolution,
)

COUNTS = (1, 2, 3, 4, 6, 8)
WORKLOADS = {
    "convolution": single(Convolution(1, 96, 64, 1, 14, 14, (3, 3)), bias=True, residual=True),
    "depthwise": single(Convolution(1, 64, 64, 64, 28, 28, (3, 3), padding=(1, 1, 1, 1))),
    "product": single(MatrixProduct(2, 100, 70, 300)),
    "transposed": single(TransposedConvolution(1, 16, 24, 1, 10, 10, (4, 4), (2, 2))),
    "pooling": single(Pooling("max", 1, 40, 30, 30, (3, 3), (2, 2))),
    "resident": chain(32, 16),
}


ARRAYS = {"sosa": load_architecture("sosa-256x32x32"), "small": machine(pods=8)}


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("array", ARRAYS)
def test_it_is_the_least_of_the_plans_for_each_number(array, name):
    description, number_format = ARRAYS[array], FORMATS["fp32"]
    found = workload_cycles(WORKLOADS[name], description, number_format, COUNTS)
    plans = [
        plan_workload(WORKLOADS[name], with_pods(description, pods), number_format).cycles
        for pods in range(1, COUNTS[-1] + 1)
    ]
    least = np.minimum.accumulate(plans)[[count - 1 for count in COUNTS]]
    of_all = np.array(COUNTS) != 6  # for which no mapping of five pods is looked for
    assert (found <= least * (1 + 1e-9))[of_all].all()
    if name != "resident":  # with many numbers of pods, other tensors may stay on chip
        assert (found >= least / TOLERANCE).all()


def test_what_does_not_fit_has_no_end():
    workload = single(Pooling("max", 1, 1, 3, 10**4, (3, 3)))
    with pytest.raises(CompileError, match="smallest tile does not fit"):
        plan_workload(workload, ARRAYS["small"], FORMATS["fp32"])
    assert np.isinf(workload_cycles(workload, ARRAYS["small"], FORMATS["fp32"], COUNTS)).all()
