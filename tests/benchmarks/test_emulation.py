"""What can be told of emulated kernels without an emulator: the disk, and what is missing."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from click.testing import CliRunner

from motet.benchmarks.emulated_kernels import main
from motet.benchmarks.emulation import emulator
from motet.benchmarks.emulation.image import BASE, PROGRAM, SECTOR, Call, Image
from motet.errors import EnvironmentLackError


def image() -> Image:
    arrays = [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4), np.int8)]
    return Image(b"code", PROGRAM, [Call(0, arrays), Call(1, arrays[:1])])


def test_the_disk_holds_program_calls_and_arrays():
    disk = image().to_bytes()
    assert len(disk) % SECTOR == 0
    magic, sectors, entry, calls, count, first, heap = struct.unpack_from("<8s6Q", disk)
    assert (magic[:5], sectors, entry, count) == (b"motet", len(disk) // SECTOR, PROGRAM, 2)
    assert disk[PROGRAM - BASE :][:4] == b"code"
    assert calls >= BASE + first * SECTOR
    assert heap >= BASE + len(disk)
    kernel, values, arguments, status = struct.unpack_from("<QQQq", disk, calls - BASE)
    assert (kernel, arguments, status) == (0, 2, -1)
    kind, _, tensor = struct.unpack_from("<IIQ", disk, values - BASE)
    data, _, _, rank, code, bits, lanes, shape, strides, _ = struct.unpack_from(
        "<QiiiBBHQQQ", disk, tensor - BASE
    )
    assert (kind, rank, code, bits, lanes) == (7, 2, 2, 32, 1)
    assert data % 64 == 0
    assert struct.unpack_from("<2q", disk, shape - BASE) == (2, 3)
    assert struct.unpack_from("<2q", disk, strides - BASE) == (3, 1)
    np.testing.assert_array_equal(np.frombuffer(disk, "<f4", 6, data - BASE), np.arange(6))


def test_results_are_read_from_the_disk_once_every_call_has_returned():
    made = image()
    disk = bytearray(made.to_bytes())
    with pytest.raises(RuntimeError, match="call 0 returned -1"):
        made.results(bytes(disk))
    calls = struct.unpack_from("<Q", disk, 24)[0] - BASE
    for number in range(2):
        struct.pack_into("<q", disk, calls + 32 * number + 24, 0)
    (first, empty), (second,) = made.results(bytes(disk))
    np.testing.assert_array_equal(first, np.arange(6, dtype=np.float32).reshape(2, 3))
    assert empty.shape == (0, 4)
    np.testing.assert_array_equal(second, first)


def test_a_missing_emulator_is_told(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BOCHS", "no-such-bochs")
    emulator.find_emulator.cache_clear()
    with pytest.raises(EnvironmentLackError, match="apt install bochs"):
        emulator.find_emulator()
    done = CliRunner().invoke(main, [])
    assert (done.exit_code, "apt install bochs" in " ".join(done.output.split())) == (0, True)
    assert CliRunner().invoke(main, ["--require"]).exit_code == 1
    emulator.find_emulator.cache_clear()
