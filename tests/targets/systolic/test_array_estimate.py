"""estimate: formula and simulation agree, pods are a resource."""

import pytest
from array_emission import machine

from motet.runtime.errors import CompileError
from motet.targets.cost import Cost
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.estimate import estimate, with_pods
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct

CONVOLUTION = single(Convolution(1, 64, 64, 1, 28, 28, (3, 3), padding=(1, 1, 1, 1)), bias=True)


@pytest.mark.parametrize("array", ["tiny-4x4", "single-32x32", "gemmini-16x16"])
def test_formula_is_near_the_timing_view(array):
    description = load_architecture(array)
    number_format = description.formats[0]
    formula = estimate(CONVOLUTION, description, number_format)
    simulated = estimate(CONVOLUTION, description, number_format, simulated=True)
    assert formula.provenance == "formula"
    assert simulated.provenance == "simulated"
    assert formula.seconds == pytest.approx(simulated.seconds, rel=0.15)


@pytest.mark.parametrize("simulated", [False, True])
def test_more_pods_are_not_slower(simulated):
    description = load_architecture("sosa-256x32x32")
    workload = single(MatrixProduct(1, 2048, 256, 256))
    seconds = [
        estimate(workload, description, "int8", pods, simulated=simulated).seconds
        for pods in (1, 2, 8)
    ]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[2] < seconds[0] / 4


def test_seconds_are_cycles_over_the_clock():
    slow, fast = load_architecture("tiny-4x4"), load_architecture("single-32x32")
    assert isinstance(estimate(CONVOLUTION, fast, "fp32"), Cost)
    ideal = CONVOLUTION.macs / slow.elements / slow.clock_hz
    assert ideal < estimate(CONVOLUTION, slow, "fp32").seconds < 4 * ideal


def test_pods_that_are_not_there():
    with pytest.raises(CompileError, match="array 'test' has 4 pods; a workload can use 1 to 4"):
        estimate(CONVOLUTION, machine(pods=4), "fp32", 5)
    mixed = load_architecture("mixed-64x64-4x16x16")
    assert [pod.count for pod in with_pods(mixed, 2).pods] == [1, 1]
    assert with_pods(mixed, mixed.pod_count) == mixed
