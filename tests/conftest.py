"""Fixtures that tests of several rooms share."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def kernel_library(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A shared object of small kernels made by TVM alone, without the project's compiler.

    float32: ``add(a, b, out)`` and ``double(a, out)`` over vectors of any length;
    ``sum_rows(a, out)`` from [rows, 4] to [4]; ``any_positive(a, out)`` from a vector to
    a boolean of shape [1].
    """
    import tvm
    from tvm.script import ir as I
    from tvm.script import tirx as T

    # Names bound here are looked up by TVM's parser where the kernels are defined.
    @I.ir_module
    class Kernels:
        @T.prim_func
        def add(left: T.handle, right: T.handle, out: T.handle):
            n = T.int64()
            A = T.match_buffer(left, (n,), "float32")
            B = T.match_buffer(right, (n,), "float32")
            C = T.match_buffer(out, (n,), "float32")
            for i in range(n):
                C[i] = A[i] + B[i]

        @T.prim_func
        def double(source: T.handle, out: T.handle):
            n = T.int64()
            A = T.match_buffer(source, (n,), "float32")
            C = T.match_buffer(out, (n,), "float32")
            for i in range(n):
                C[i] = A[i] + A[i]

        @T.prim_func
        def sum_rows(source: T.handle, out: T.handle):
            rows = T.int64()
            A = T.match_buffer(source, (rows, 4), "float32")
            C = T.match_buffer(out, (4,), "float32")
            for j in range(4):
                C[j] = T.float32(0)
                for i in range(rows):
                    C[j] = C[j] + A[i, j]

        @T.prim_func
        def any_positive(source: T.handle, out: T.handle):
            n = T.int64()
            A = T.match_buffer(source, (n,), "float32")
            C = T.match_buffer(out, (1,), "bool")
            C[0] = T.bool(False)
            for i in range(n):
                C[0] = C[0] or (A[i] > T.float32(0))

    path = Path(tmp_path_factory.mktemp("kernels")) / "kernels.so"
    tvm.compile(Kernels, target="llvm").export_library(str(path))
    return path.read_bytes()
