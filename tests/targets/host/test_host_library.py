"""The library by itself: no TVM at run time, threads, equal bytes, a missing compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from kernel_runner import unit_of
from tvm import relax

from motet.runtime.errors import EnvironmentLackError, SpecError
from motet.targets.host.build import build_library
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import machine_for, native_machine

PROGRAM = """
import ctypes, os, sys, threading
import numpy as np, tvm_ffi
if sys.argv[2] == "with tvm":
    import tvm
kernel = tvm_ffi.load_module(sys.argv[1])["product"]

def aligned(shape):
    raw = np.zeros(4 * int(np.prod(shape)) + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)

wrong = []
def work(seed):
    rng = np.random.default_rng(seed)
    a, b, y = aligned((64, 256)), aligned((256, 512)), aligned((64, 512))
    a[...], b[...] = rng.integers(-8, 8, a.shape), rng.integers(-8, 8, b.shape)
    tensors = [tvm_ffi.from_dlpack(x) for x in (a, b, y)]
    expected = a @ b
    for _ in range(100):
        y[...] = 0
        kernel(*tensors)
        if not np.array_equal(y, expected):
            wrong.append(seed)

def check():
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong, wrong

library = ctypes.CDLL(sys.argv[1])
assert library.motet_get_threads() == len(os.sched_getaffinity(0))
for count in (1, 3, 2):
    library.motet_set_threads(count)
    assert library.motet_get_threads() == count
    check()
child = os.fork()
if child == 0:
    work(9)
    os._exit(len(wrong))
assert os.waitpid(child, 0)[1] == 0
loaded = "libtvm_runtime" in open("/proc/self/maps").read()
assert loaded == (sys.argv[2] == "with tvm")
print("fine")
"""


# Pools of several libraries, more threads than CPUs, callers at the same time, some on one CPU.
SEVERAL_POOLS = """
import os, sys, threading
import numpy as np, tvm_ffi
from pathlib import Path
from motet.runtime.kernels import KernelLibrary

if sys.argv[2] == "one CPU":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
data = Path(sys.argv[1]).read_bytes()
libraries = [KernelLibrary(data, threads) for threads in (2, 3, 5)]
def aligned(shape):
    raw = np.zeros(4 * int(np.prod(shape)) + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)

wrong = []
def work(seed, turn):
    rng = np.random.default_rng(seed)
    a, b, y = aligned((64, 256)), aligned((256, 512)), aligned((64, 512))
    a[...], b[...] = rng.integers(-8, 8, a.shape), rng.integers(-8, 8, b.shape)
    tensors, expected = [tvm_ffi.from_dlpack(x) for x in (a, b, y)], a @ b
    for i in range(60):
        y[...] = 0
        libraries[turn(i) % len(libraries)].function("product")(*tensors)
        if not np.array_equal(y, expected):
            wrong.append((seed, i))

work(0, lambda i: i)
turns = [lambda i, n=n: n + (i % 7 == 0) for n in (1, 2, 3)]
threads = [threading.Thread(target=work, args=pair) for pair in enumerate(turns)]
[t.start() for t in threads]
[t.join() for t in threads]
assert not wrong, wrong
del libraries[1:]
work(5, lambda i: 0)
print("fine" if not wrong else wrong)
"""


# 100 MB are left; the padded copy of the input takes 170.
NO_MEMORY = """
import resource, sys
import numpy as np, tvm_ffi
kernel = tvm_ffi.load_module(sys.argv[1])["convolution"]

def aligned(*shape):
    raw = np.zeros(4 * int(np.prod(shape)) + 64, np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + 4 * int(np.prod(shape))].view(np.float32).reshape(shape)

shapes = (200, 64, 56, 56), (8, 64, 3, 3), (200, 8, 56, 56)
tensors = [tvm_ffi.from_dlpack(aligned(*shape)) for shape in shapes]
used = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000,) * 2)
try:
    kernel(*tensors)
except MemoryError as error:
    print(error)
"""


# Where no key is left, key 0 is another library's: Python keeps its thread states there.
NO_KEYS = """
import ctypes, sys
import numpy as np, tvm_ffi
library, key = ctypes.CDLL(None), ctypes.c_uint()
while library.pthread_key_create(ctypes.byref(key), None) == 0:
    pass
kernel = tvm_ffi.load_module(sys.argv[1])["convolution"]
raw = np.zeros(4 * 200_704 * 3 + 64, np.uint8)
floats = raw[-raw.ctypes.data % 64 :][: 4 * 200_704 * 3].view(np.float32).reshape(3, -1)
tensors = [
    tvm_ffi.from_dlpack(part[: int(np.prod(shape))].reshape(shape))
    for part, shape in zip(floats, [(1, 64, 56, 56), (8, 64, 3, 3), (1, 8, 56, 56)])
]
kernel(*tensors)
kernel(*tensors)
print("fine")
"""


def product():
    unit = unit_of([(64, 256), (256, 512)], ["float32"] * 2, relax.op.matmul)
    return lower_unit(unit, frozenset(), native_machine()).func


@pytest.mark.parametrize("process", ["without tvm", "with tvm"])
def test_threads_and_forks(process: str, tmp_path: Path):
    path = tmp_path / "library.so"
    path.write_bytes(build_library({"product": product()}, native_machine()))
    command = [sys.executable, "-c", PROGRAM, str(path), process]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "fine", done.stderr


@pytest.mark.parametrize("where", ["all CPUs", "one CPU"])
def test_several_pools(where: str, tmp_path: Path):
    path = tmp_path / "library.so"
    path.write_bytes(build_library({"product": product()}, native_machine()))
    command = [sys.executable, "-c", SEVERAL_POOLS, str(path), where]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == "fine", done.stderr


@pytest.mark.parametrize(
    ("program", "said"),
    [(NO_MEMORY, "no memory left for a kernel's workspace"), (NO_KEYS, "fine")],
    ids=["memory", "keys"],
)
def test_a_process_that_has_nothing_left(program: str, said: str, tmp_path: Path):
    shapes = [("n", 64, 56, 56), (8, 64, 3, 3)]
    unit = unit_of(shapes, ["float32"] * 2, lambda x, w: relax.op.nn.conv2d(x, w, padding=(1, 1)))
    lowered = lower_unit(unit, frozenset(), native_machine())
    path = tmp_path / "library.so"
    path.write_bytes(build_library({"convolution": lowered.func}, native_machine()))
    command = [sys.executable, "-c", program, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.stdout.strip() == said, done.stderr


def test_same_bytes_whatever_the_order():
    relu = unit_of([("n", 8)], ["float32"], relax.op.nn.relu)
    first = lower_unit(relu, frozenset(), native_machine()).func
    second = product()
    one = build_library({"a": first, "b": second}, native_machine())
    other = build_library({"b": product(), "a": first}, native_machine())
    assert one == other
    assert one.startswith(b"\x7fELF")


@pytest.mark.parametrize("cc", [None, "no-such-compiler"])
def test_missing_compiler(cc: str | None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("PATH", str(tmp_path))
    if cc is None:
        monkeypatch.delenv("CC", raising=False)
    else:
        monkeypatch.setenv("CC", cc)
    with pytest.raises(EnvironmentLackError, match="apt install gcc") as error:
        build_library({}, native_machine())
    assert cc is None or cc in str(error.value)


def test_machines():
    assert machine_for("x86-64-v3").vector_bytes == 32
    assert "avx512f" in machine_for("x86-64-v4").required_features
    assert machine_for("native") == native_machine()
    with pytest.raises(SpecError, match="x86-64-v3"):
        machine_for("pentium")
