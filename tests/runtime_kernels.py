"""Small kernels made by TVM alone, for tests of the run time.

float32: ``add(a, b, out)`` and ``double(a, out)`` over vectors of any length;
``sum_rows(a, out)`` from [rows, 4] to [4]; ``any_positive(a, out)`` from a vector to a
boolean of shape [1]. For shapes that depend on data: ``truncate(a, out)`` from one float
to one int64, ``count_positive(a, out)`` from a vector to one int64, and
``keep_positive(a, out)``, whose output has room for just as many.
"""

from tvm.script import ir as I
from tvm.script import tirx as T


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

    @T.prim_func
    def truncate(source: T.handle, out: T.handle):
        n = T.int64()
        A = T.match_buffer(source, (n,), "float32")
        C = T.match_buffer(out, (n,), "int64")
        for i in range(n):
            C[i] = T.Cast("int64", A[i])

    @T.prim_func
    def count_positive(source: T.handle, out: T.handle):
        n = T.int64()
        A = T.match_buffer(source, (n,), "float32")
        C = T.match_buffer(out, (1,), "int64")
        C[0] = T.int64(0)
        for i in range(n):
            if A[i] > T.float32(0):
                C[0] = C[0] + T.int64(1)

    @T.prim_func
    def keep_positive(source: T.handle, out: T.handle):
        n = T.int64()
        m = T.int64()
        A = T.match_buffer(source, (n,), "float32")
        C = T.match_buffer(out, (m,), "float32")
        at = T.alloc_buffer((1,), "int64")
        at[0] = T.int64(0)
        for i in range(n):
            if A[i] > T.float32(0):
                C[at[0]] = A[i]
                at[0] = at[0] + T.int64(1)
