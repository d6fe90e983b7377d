"""Objects of many kernels: equal whoever makes them, kept, and no process left behind."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from kernel_runner import unit_of
from tvm import relax, tirx
from tvm.error import InternalError

from motet.runtime.errors import CompileError, EnvironmentLackError, SpecError
from motet.targets.host import kernel_objects, worker_pool
from motet.targets.host.build import build_library, link
from motet.targets.host.kernel_cache import KernelCache
from motet.targets.host.kernel_objects import KernelObjects
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import machine_for, native_machine
from motet.targets.host.object_code import compile_kernel, encoded, object_key

MACHINE = native_machine()


def relu(size: int) -> Any:
    unit = unit_of([("n", size)], ["float32"], relax.op.nn.relu)
    return lower_unit(unit, frozenset(), MACHINE).func


@pytest.fixture(scope="module")
def kernels() -> dict[str, Any]:
    product = unit_of([(8, 16), (16, 24)], ["float32"] * 2, relax.op.matmul)
    made = {f"relu_{size}": relu(size) for size in (5, 3, 4)}
    return {"product": lower_unit(product, frozenset(), MACHINE).func, **made}


@pytest.fixture
def eager_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes start for the first kernel that is missing."""
    monkeypatch.setattr(kernel_objects, "KERNELS_PER_WORKER", 1)


def objects_of(objects: KernelObjects, kernels: dict[str, Any]) -> dict[str, bytes]:
    with objects:
        for symbol, kernel in kernels.items():
            objects.add(symbol, kernel)
        while objects._pool.size and not objects._pool.has_room():
            assert objects._pool.answers(wait=True) == []
        return objects.finish()


def without_code() -> Any:
    """A kernel with an operation that TVM has no CPU code for."""
    x = tirx.decl_buffer([1], "float32", "x")
    numbers = [tirx.const(number, "int32") for number in range(5)]
    value = tirx.call_intrin("float32", "tirx.tvm_warp_shuffle", *numbers)
    return tirx.PrimFunc([x], tirx.BufferStore(x, value, [tirx.const(0, "int32")]))


@pytest.mark.usefixtures("eager_workers")
def test_same_bytes_with_any_jobs_and_any_cache(kernels: dict[str, Any], tmp_path: Path):
    alone = objects_of(KernelObjects(MACHINE, jobs=1), kernels)
    assert list(alone) == sorted(kernels)
    assert alone == {s: compile_kernel(s, k, MACHINE) for s, k in sorted(kernels.items())}
    cache = KernelCache(tmp_path)
    parallel = KernelObjects(MACHINE, jobs=3, cache=cache)
    assert objects_of(parallel, kernels) == alone
    assert (parallel._pool.size, parallel.hits, parallel.count) == (2, 0, 4)
    warm = KernelObjects(MACHINE, jobs=3, cache=cache)
    turned = dict(reversed(kernels.items()))
    assert objects_of(warm, turned) == alone
    assert (warm._pool.size, warm.hits) == (0, 4)
    assert link(alone) == link(dict(reversed(alone.items()))) == build_library(kernels, MACHINE)
    last = cache.last_compile()
    assert last is not None
    assert (last.kernels, last.hits) == (4, 4)


def test_a_damaged_entry_is_made_again(kernels: dict[str, Any], tmp_path: Path):
    cache = KernelCache(tmp_path)
    first = objects_of(KernelObjects(MACHINE, jobs=1, cache=cache), kernels)
    victim = min((tmp_path / "kernels").iterdir())
    good = victim.read_bytes()
    victim.write_bytes(good[:-9])
    again = KernelObjects(MACHINE, jobs=1, cache=cache)
    assert objects_of(again, kernels) == first
    assert again.hits == len(kernels) - 1
    assert victim.read_bytes() == good


def test_few_kernels_start_no_process(kernels: dict[str, Any]):
    objects = KernelObjects(MACHINE, jobs=8)
    objects_of(objects, kernels)
    assert objects._pool.size == 0


def test_the_key_is_of_all_that_matters(monkeypatch: pytest.MonkeyPatch):
    text = encoded("a", relu(8))
    other = replace(MACHINE, mcpu="x86-64", vector_bytes=16)
    keys = [
        object_key(text, MACHINE),
        object_key(encoded("b", relu(8)), MACHINE),
        object_key(encoded("a", relu(9)), MACHINE),
        object_key(text, other),
        object_key(text, replace(MACHINE, cores=MACHINE.cores + 1)),
    ]
    monkeypatch.setattr("motet.targets.host.object_code.code_version", lambda: "another TVM")
    keys.append(object_key(text, MACHINE))
    assert len(set(keys)) == len(keys)
    assert encoded("a", relu(8)) == text


def test_a_folder_that_cannot_be_written_is_said_once(kernels: dict[str, Any], tmp_path: Path):
    (tmp_path / "file").write_text("")
    said: list[str] = []
    objects = KernelObjects(MACHINE, 1, KernelCache(tmp_path / "file"), warn=said.append)
    assert len(objects_of(objects, kernels)) == len(kernels)
    [line] = said
    assert str(tmp_path / "file") in line
    assert "MOTET_CACHE_DIR" in line


def test_progress_counts_kernels(kernels: dict[str, Any]):
    said: list[str] = []
    objects_of(KernelObjects(MACHINE, 1, progress=said.append), kernels)
    assert said == [f"{n} of 4 kernels compiled" for n in (1, 2, 3, 4)]


@pytest.mark.usefixtures("eager_workers")
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_kernel_that_cannot_be_compiled_is_an_error_here(jobs: int):
    with pytest.raises(InternalError, match=r"unknown intrinsic.*tvm_warp_shuffle"):
        objects_of(KernelObjects(MACHINE, jobs), {"wrong": without_code()})


@pytest.mark.usefixtures("eager_workers")
@pytest.mark.parametrize(
    ("program", "how"),
    [("print('ready', flush=True); input(); os.kill(os.getpid(), 9)",
      "kernel 'product': a process that compiles kernels was killed by signal 9"),
     ("raise SystemExit(7)", "kernels: a process that compiles kernels ended with code 7")],
)  # fmt: skip
def test_a_process_that_dies_is_named_by_its_kernel(
    program: str, how: str, kernels: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(worker_pool, "_PROGRAM", f"import os; {program}")
    objects = KernelObjects(MACHINE, jobs=2)
    with pytest.raises(CompileError, match=f"{how}.*--jobs 1"):
        objects_of(objects, kernels)
    assert_gone(objects)


@pytest.mark.usefixtures("eager_workers")
def test_an_interrupt_leaves_no_process_and_no_file(kernels: dict[str, Any]):
    objects = KernelObjects(MACHINE, jobs=2)
    with pytest.raises(KeyboardInterrupt):
        interrupted(objects, kernels["product"])
    assert_gone(objects)


def interrupted(objects: KernelObjects, kernel: Any) -> None:
    """What happens where the user interrupts while processes work."""
    with objects:
        objects.add("product", kernel)
        [worker] = objects._pool._workers
        assert worker.process.poll() is None
        raise KeyboardInterrupt


def assert_gone(objects: KernelObjects) -> None:
    [worker] = objects._pool._workers
    assert worker.process.returncode is not None
    with pytest.raises(ChildProcessError):
        os.waitpid(worker.process.pid, os.WNOHANG)
    assert not objects._pool._folder.exists()


def test_no_process_cannot_compile():
    with pytest.raises(SpecError, match="jobs is 0"):
        KernelObjects(MACHINE, jobs=0)


def test_a_linker_for_another_cpu_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    other = "aarch64" if MACHINE.arch == "x86_64" else "x86-64-v2"
    machine = machine_for(other)
    content = compile_kernel("f", relu(3), machine)
    with pytest.raises(EnvironmentLackError) as caught:
        link({"f": content})
    assert f"the kernels are for {machine.arch}" in str(caught.value)
    assert f"CC={machine.arch}-linux-gnu-gcc" in str(caught.value)
