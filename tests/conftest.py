"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session", autouse=True)
def own_kernel_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Kernels that tests compile are kept while the tests run, and not in the user's folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOTET_CACHE_DIR", str(tmp_path_factory.mktemp("kernel_cache")))
        patch.delenv("MOTET_CACHE", raising=False)
        patch.delenv("MOTET_CACHE_BYTES", raising=False)
        yield


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The shared object of ``runtime_kernels``, made without the project's compiler."""
    import tvm
    from runtime_kernels import Kernels

    path = Path(tmp_path_factory.mktemp("kernels")) / "kernels.so"
    tvm.compile(Kernels, target="llvm").export_library(str(path))
    return path.read_bytes()
