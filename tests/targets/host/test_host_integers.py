"""Products and convolutions of bytes, summed in pairs: equal to numpy's int64, on every level."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from tvm import relax

from motet.targets.host.kernels import pairs
from motet.targets.host.machine import Machine, cpu_flags, machine_for

LEVELS = [
    "x86-64-v2", "x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-vnni", "portable",
]  # fmt: skip


@pytest.fixture(params=LEVELS)
def machine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Each level that this CPU has, and the form without an instruction for pairs."""
    if request.param == "portable":
        monkeypatch.setattr(pairs, "_INTRINSICS", {})
        monkeypatch.setattr(pairs, "_SUMS", {})
        return machine_for("native")
    level = machine_for(request.param)
    if not cpu_flags().issuperset(level.required_features):
        pytest.skip(f"this CPU is not of level {request.param}")
    return level


def bytes_of(shape: tuple[int, ...], seed: int, dtype: str) -> Array:
    limits = np.iinfo(dtype)
    rng = np.random.default_rng(seed)
    return rng.integers(limits.min, limits.max + 1, shape).astype(dtype)


def product(a: relax.Expr, b: relax.Expr) -> relax.Expr:
    return relax.op.matmul(a, b, out_dtype="int32")


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("left", "right", "shapes"),
    [
        ((37, 29), (29, 45), None),
        ((1, 64), (64, 3), None),
        ((29,), (29, 45), None),
        ((4, 7), (7,), None),
        ((2, 1, 7, 8), (1, 3, 8, 9), None),
        ((13, 1), (1, 20), None),
        ((13, 33), (33, 20), [("m", 33), (33, 20)]),
        ((2, 5, 9), (2, 9, 11), [("b", "m", "k"), ("b", "k", "n")]),
    ],
)
def test_product(left, right, shapes, constant: bool, machine: Machine, tmp_path: Path):
    if constant and shapes is not None and "k" in shapes[1]:
        pytest.skip("a constant has no open sizes")
    a, b = bytes_of(left, 1, "uint8"), bytes_of(right, 2, "int8")
    want = np.matmul(a.astype(np.int64), b.astype(np.int64)).astype(np.int32)
    options = {"shapes": shapes, "machine": machine}
    (y,) = run_unit(tmp_path, product, [a, b], [want], (1,) if constant else (), **options)
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("depth", [3, 1024, 1031])
@pytest.mark.parametrize("dtypes", [("uint8", "int8"), ("int8", "int8"), ("uint8", "int16")])
def test_sums_of_extremes(depth: int, dtypes: tuple[str, str], machine: Machine, tmp_path: Path):
    rng = np.random.default_rng(depth)
    a, b = (rng.choice([-128, 127], shape) for shape in ((9, depth), (depth, 35)))
    a = (a + 128 if dtypes[0] == "uint8" else a).astype(dtypes[0])
    a[0], b[:, 0], b[:, 1] = a.max(), -128, 127
    b = b.astype(dtypes[1])
    want = (a.astype(np.int64) @ b.astype(np.int64)).astype(np.int32)
    (y,) = run_unit(tmp_path, product, [a, b], [want], (1,), machine=machine)
    np.testing.assert_array_equal(y, want)


def convolved(x: Array, w: Array, stride: int, pad: int, groups: int) -> Array:
    """NCHW convolution in int64."""
    x = np.pad(x.astype(np.int64), [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    n, _, height, width = x.shape
    outer, inner, kh, kw = w.shape
    rows, columns = (height - kh) // stride + 1, (width - kw) // stride + 1
    y = np.zeros((n, outer, rows, columns), np.int64)
    for o in range(outer):
        first = o // (outer // groups) * inner
        for i, j in np.ndindex(kh, kw):
            part = x[:, first : first + inner, i : i + rows * stride : stride]
            part = part[..., j : j + columns * stride : stride][:, :, :rows, :columns]
            y[:, o] += np.einsum("nchw,c->nhw", part, w[o, :, i, j].astype(np.int64))
    return y


@pytest.mark.parametrize("constant", [False, True])
@pytest.mark.parametrize(
    ("x", "w", "stride", "pad", "groups"),
    [
        ((2, 5, 9, 7), (7, 5, 1, 1), 1, 0, 1),
        ((1, 6, 4, 3), (13, 6, 1, 1), 2, 0, 1),
        ((1, 7, 11, 14), (9, 7, 3, 3), 1, 1, 1),
        ((2, 6, 9, 8), (4, 3, 3, 2), 2, 1, 2),
        ((1, 5, 7, 7), (5, 1, 3, 3), 1, 1, 5),
        ((1, 3, 2, 2), (3, 3, 2, 2), 1, 0, 1),
    ],
)
def test_requantised_convolution(
    x, w, stride: int, pad: int, groups: int, constant: bool, machine: Machine, tmp_path: Path
):
    data, weight = bytes_of(x, 1, "uint8"), bytes_of(w, 2, "int8")
    scale = np.random.default_rng(3).uniform(1e-4, 1e-2, (1, w[0], 1, 1)).astype(np.float32)

    def build(data, weight, scale):
        op = relax.op
        centred = op.subtract(op.astype(data, "int16"), relax.const(np.int16(3), "int16"))
        padding = [pad] * 4
        sums = op.nn.conv2d(centred, weight, stride, padding, groups=groups, out_dtype="int32")
        real = op.multiply(op.astype(sums, "float32"), scale)
        return op.quantize(real, relax.const(1.0, "float32"), relax.const(5, "int8"))

    sums = convolved(data.astype(np.int64) - 3, weight, stride, pad, groups)
    real = np.rint(sums.astype(np.float32) * scale) + 5
    want = np.clip(real, -128, 127).astype(np.int8)
    inputs = [data, weight, scale]
    constants = (1, 2) if constant else ()
    (y,) = run_unit(tmp_path, build, inputs, [want], constants, machine=machine)
    np.testing.assert_array_equal(y, want)
