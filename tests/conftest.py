"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The shared object of ``runtime_kernels``, made without the project's compiler."""
    import tvm
    from runtime_kernels import Kernels

    path = Path(tmp_path_factory.mktemp("kernels")) / "kernels.so"
    tvm.compile(Kernels, target="llvm").export_library(str(path))
    return path.read_bytes()
