"""The simulated array as the VM's device: load, invoke with several outputs, threads, counts."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from array_builder import matrix, record, sequence
from array_random_programs import description

from motet.runtime.device import Accelerator
from motet.runtime.errors import BundleError, InputError, ProgramError
from motet.targets.systolic.instructions.encoding import encode
from motet.targets.systolic.instructions.isa import Dataflow, Function, Opcode
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.simulation.device import SimulatedArray


def two_outputs(rows=6, factor=1.0):
    """y = x w through an internal tensor, z = factor y."""
    tensors = (
        Tensor("x", (rows, 8), Role.INPUT),
        Tensor("w", (8, 4), Role.WEIGHT),
        Tensor("between", (rows, 4), Role.INTERNAL),
        Tensor("y", (rows, 4), Role.OUTPUT),
        Tensor("z", (rows, 4), Role.OUTPUT),
    )
    views = tuple(matrix(i, *t.shape) for i, t in enumerate(tensors))
    tile = {"rows": rows, "columns": 4}
    product = {"depth": 8, "second_address": 64, "dataflow": Dataflow.WEIGHT_STATIONARY, **tile}
    records = [
        record(Opcode.LOAD, operand=0, rows=rows, columns=8),
        record(Opcode.LOAD, operand=1, rows=8, columns=4, address=64),
        record(Opcode.MATMUL, **product),
        record(Opcode.STORE, operand=2, **tile),
        record(Opcode.LOAD, operand=2, address=100, **tile),
        record(Opcode.VECTOR, function=Function.COPY, second_address=100, **tile),
        record(Opcode.STORE, operand=3, **tile),
        record(Opcode.VECTOR, function=Function.SCALE, alpha=factor, **tile),
        record(Opcode.STORE, operand=4, **tile),
    ]
    return sequence("fp32", tensors, views, records)


@pytest.fixture
def device():
    made = SimulatedArray(description("fp32"))
    made.load("layer", encode(two_outputs()))
    return made


def run(device, name, x, w):
    y, z = (np.empty((len(x), 4), np.float32) for _ in range(2))
    device.invoke(name, [x, w], [y, z])
    return y, z


def arrays(seed, rows=6):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(shape).astype(np.float32) for shape in ((rows, 8), (8, 4))]


def test_a_program_of_two_outputs(device):
    as_protocol: Accelerator = device
    x, w = arrays(0)
    y, z = run(as_protocol, "layer", x, w)
    np.testing.assert_allclose(y, x @ w, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(z, y)


def test_runs_of_many_threads_and_programs_do_not_meet(device):
    device.load("other", encode(two_outputs(rows=3, factor=-2.0)))
    cases = [("layer", 6, 1.0), ("other", 3, -2.0)] * 100

    def once(seed):
        name, rows, factor = cases[seed]
        x, w = arrays(seed, rows)
        y, z = run(device, name, x, w)
        np.testing.assert_allclose(y, x @ w, rtol=1e-4, atol=1e-5)
        np.testing.assert_array_equal(z, y * np.float32(factor))
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(once, range(len(cases))))


def test_a_program_takes_the_place_of_one_of_its_name(device):
    x, w = arrays(1)
    before = device.counts("layer")
    device.load("layer", encode(two_outputs(factor=3.0)))
    y, z = run(device, "layer", x, w)
    np.testing.assert_array_equal(z, y * np.float32(3))
    assert device.counts("layer") == before
    assert device.counts("layer") is device.counts("layer")


def test_counts_are_those_of_the_timing_view(device):
    counts = device.counts("layer")
    assert counts.cycles > 0
    assert counts.dram_read_bytes == 4 * (6 * 8 + 8 * 4 + 6 * 4)
    assert counts.dram_write_bytes == 4 * 3 * (6 * 4)


def test_what_is_not_there_or_does_not_fit_is_refused(device):
    x, w = arrays(2)
    with pytest.raises(InputError, match="no array program 'none'"):
        run(device, "none", x, w)
    with pytest.raises(InputError, match="no array program 'none'"):
        device.counts("none")
    with pytest.raises(InputError, match="'x' must be float32 with 48 values"):
        run(device, "layer", x[:2], w)
    with pytest.raises(InputError, match="outputs"):
        device.invoke("layer", [x, w], [np.empty((6, 4), np.float32)])


def test_a_shape_of_as_many_values_serves(device):
    x, w = arrays(3)
    y, z = np.empty(24, np.float32), np.empty((2, 3, 4), np.float32)
    device.invoke("layer", [x.reshape(2, 3, 8), w], [y, z])
    np.testing.assert_allclose(z.reshape(6, 4), x @ w, rtol=1e-5, atol=1e-5)


def test_damaged_and_illegal_programs_are_refused_when_loaded(device):
    with pytest.raises(BundleError):
        device.load("bad", encode(two_outputs())[:-7])
    wide = SimulatedArray(description("int8"))
    too_large = two_outputs(rows=60)
    too_large.instructions["address"][0] = 1000
    with pytest.raises(ProgramError):
        wide.load("bad", encode(too_large))
    with pytest.raises(InputError, match="no array program 'bad'"):
        run(device, "bad", *arrays(4))
