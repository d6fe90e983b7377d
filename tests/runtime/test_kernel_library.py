from __future__ import annotations

import ctypes
import gc
import pickle
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import tvm_ffi

from motet.runtime import kernels
from motet.runtime.errors import BundleError, EnvironmentLackError, InputError
from motet.runtime.kernels import KernelLibrary, cpu_features, require_features

POOL = """
static int threads = -1;
int motet_set_threads(int n) { threads = n; return 0; }
int motet_get_threads(void) { return threads; }
"""


@pytest.fixture(scope="module")
def pool_library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shared object without kernels that has a thread pool's entry point."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "the tests need a C compiler"
    folder = Path(tmp_path_factory.mktemp("pool"))
    (folder / "pool.c").write_text(POOL)
    command = [compiler, "-shared", "-fPIC", "pool.c", "-o", "pool.so"]
    subprocess.run(command, cwd=folder, check=True)
    return (folder / "pool.so").read_bytes()


def test_a_kernel_runs(kernel_library: bytes) -> None:
    function = KernelLibrary(kernel_library).function("double")
    source, out = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    function(tvm_ffi.from_dlpack(source), tvm_ffi.from_dlpack(out))
    np.testing.assert_array_equal(out, 2 * source)


def test_a_loaded_library_is_not_pickled(kernel_library: bytes) -> None:
    with pytest.raises(TypeError, match=r"load it with motet\.load in each process"):
        pickle.dumps(KernelLibrary(kernel_library))


def test_an_unknown_symbol_is_named(kernel_library: bytes) -> None:
    with pytest.raises(BundleError, match="no kernel 'nothing'"):
        KernelLibrary(kernel_library).function("nothing")


def test_no_library_has_no_kernels_and_takes_any_threads() -> None:
    library = KernelLibrary(b"", threads=3)
    with pytest.raises(BundleError, match="no kernel 'double'"):
        library.function("double")


def test_a_file_that_is_no_library() -> None:
    with pytest.raises(BundleError, match="kernel library cannot be loaded"):
        KernelLibrary(b"no shared object")


def test_a_disk_without_room(monkeypatch: pytest.MonkeyPatch, kernel_library: bytes) -> None:
    def full(_path: Path, _data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(BundleError, match=r"cannot be loaded: .*No space left"):
        KernelLibrary(kernel_library)


def test_threads_reach_the_library(pool_library: bytes) -> None:
    library = KernelLibrary(pool_library, threads=3)
    assert library._native.motet_get_threads() == 3
    library.set_threads(1)
    assert library._native.motet_get_threads() == 1


def test_two_libraries_keep_their_own_threads(pool_library: bytes) -> None:
    one, other = KernelLibrary(pool_library, threads=1), KernelLibrary(pool_library, threads=2)
    counts = [library._native.motet_get_threads() for library in (one, other)]
    assert counts == [1, 2]


def test_threads_below_one(pool_library: bytes) -> None:
    with pytest.raises(InputError, match="threads is 0"):
        KernelLibrary(pool_library, threads=0)


def test_threads_for_a_library_without_a_pool(kernel_library: bytes) -> None:
    with pytest.raises(BundleError, match=r"no thread pool .*without a number of threads"):
        KernelLibrary(kernel_library, threads=2)


def test_cpu_features_are_read_from_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = "processor : 0\nflags\t\t: sse2 avx2 fma\nFeatures : asimd\nmodel name : flags avx512f\n"
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(kernels, "_CPUINFO", tmp_path / "cpuinfo")
    assert cpu_features() == {"sse2", "avx2", "fma", "asimd"}
    require_features(("avx2", "fma"))
    with pytest.raises(EnvironmentLackError, match=r"a CPU with amx, avx512f, .*host\.cpu"):
        require_features(("avx512f", "fma", "amx"))


def test_a_system_that_does_not_tell(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(kernels, "_CPUINFO", tmp_path / "none")
    require_features(())
    with pytest.raises(EnvironmentLackError, match="sse2"):
        require_features(("sse2",))


def mapped(folder: str) -> bool:
    return folder in Path("/proc/self/maps").read_text()


def test_a_library_leaves_with_its_last_user(
    kernel_library: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    library = KernelLibrary(kernel_library)
    function = library.function("double")
    del library
    gc.collect()
    assert mapped(str(tmp_path))
    source, out = np.arange(16, dtype=np.float32), np.zeros(16, np.float32)
    function(tvm_ffi.from_dlpack(source), tvm_ffi.from_dlpack(out))
    np.testing.assert_array_equal(out, 2 * source)
    del function
    gc.collect()
    assert not mapped(str(tmp_path))


LEDGER = (
    POOL
    + """
static void *ledger;
static int first;
void *motet_join_ledger(void *shared) { return ledger = shared ? shared : &first; }
void *ledger_of(void) { return ledger; }
"""
)


def test_the_pools_of_a_process_share_a_ledger(tmp_path: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    assert compiler, "the tests need a C compiler"
    (tmp_path / "pool.c").write_text(LEDGER)
    command = [compiler, "-shared", "-fPIC", "pool.c", "-o", "pool.so"]
    subprocess.run(command, cwd=tmp_path, check=True)
    data = (tmp_path / "pool.so").read_bytes()
    ledger, addresses = kernels._Ledger(), set()
    libraries = [KernelLibrary(data) for _ in range(3)]
    for library in libraries:
        ledger.join(library._native)
        library._native.ledger_of.restype = ctypes.c_void_p
        addresses.add(library._native.ledger_of())
    assert len(addresses) == 1
    assert None not in addresses


def test_the_number_of_threads_is_told(pool_library: bytes) -> None:
    assert KernelLibrary(pool_library, threads=3).threads == 3
    assert KernelLibrary(b"").threads == 1
