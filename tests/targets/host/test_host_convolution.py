"""Convolutions of every kind against ONNX's reference implementation."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from kernel_runner import Array, run_unit
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from tvm import relax

from motet.targets.host.kernels.conv_weights import pack_weights
from motet.targets.host.machine import machine_for, native_machine


@dataclass(frozen=True)
class Case:
    x: tuple[int, ...]
    outs: int
    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    pads: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int = 1
    constant: bool = True
    symbolic: bool = False
    dtype: str = "float32"


ONE = (1, 1)
NO_PAD = (0, 0, 0, 0)
CASES = [
    Case((1, 8, 9, 11), 7, (3, 3), ONE, (1, 1, 1, 1), ONE),
    Case((2, 5, 9, 11), 13, (3, 2), (2, 1), (1, 0, 2, 1), ONE),
    Case((2, 6, 12, 11), 14, (3, 3), (2, 3), (1, 2, 0, 1), (2, 1), groups=2),
    Case((2, 6, 12, 11), 6, (3, 3), (2, 2), (1, 1, 1, 1), ONE, groups=6),
    Case((2, 6, 12, 11), 12, (5, 5), ONE, (2, 2, 2, 2), ONE, groups=6, symbolic=True),
    Case((3, 16, 12, 11), 12, (1, 1), ONE, NO_PAD, ONE, symbolic=True),
    Case((3, 16, 2, 2), 12, (1, 1), ONE, NO_PAD, ONE),
    Case((1, 16, 13, 14), 12, (1, 1), (2, 2), NO_PAD, ONE, constant=False),
    Case((1, 3, 32, 32), 16, (7, 7), (2, 2), (3, 3, 3, 3), ONE, constant=False),
    Case((2, 33, 17, 19), 65, (3, 3), ONE, (1, 1, 1, 1), (3, 2), symbolic=True),
    Case((2, 5, 33), 7, (3,), (2,), (1, 2), (2,)),
    Case((1, 4, 5, 9, 7), 6, (3, 1, 3), (1, 2, 1), (1, 0, 1, 1, 0, 0), (1, 1, 2)),
    Case((2, 3, 34, 41), 9, (16, 16), (16, 16), (3, 0, 2, 5), ONE, symbolic=True),  # patches
    Case((1, 2, 13, 20, 15), 5, (3, 3, 3), (3, 4, 4), (1,) * 6, (1, 1, 1)),
    Case((2, 8, 9, 9), 8, (3, 3), ONE, (1, 1, 1, 1), ONE, dtype="float16"),
    Case((1, 4, 9, 9), 3, (3, 3), ONE, (1, 1, 1, 1), ONE, dtype="float64"),
]
IDS = [str(i) for i in range(len(CASES))]


def arrays(case: Case) -> tuple[Array, Array, Array]:
    rng = np.random.default_rng(7)
    weights = (case.outs, case.x[1] // case.groups, *case.kernel)
    scale = 1 / np.sqrt(np.prod(weights[1:]))
    bias = (1, case.outs, *[1] * len(case.kernel))
    return (
        rng.standard_normal(case.x).astype(case.dtype),
        (scale * rng.standard_normal(weights)).astype(case.dtype),
        rng.standard_normal(bias).astype(case.dtype),
    )


def reference(op: str, x: Array, w: Array, b: Array, **attributes: object) -> Array:
    """relu(op(x, w) + b) in double precision."""
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    infos = [helper.make_tensor_value_info(n, TensorProto.DOUBLE, None) for n in "xwy"]
    graph = helper.make_graph([node], "g", infos[:2], infos[2:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    feeds = {"x": x.astype(np.float64), "w": w.astype(np.float64)}
    (y,) = ReferenceEvaluator(model).run(None, feeds)
    return np.maximum(y + b.astype(np.float64), 0)


def layer(case: Case):
    op = {1: relax.op.nn.conv1d, 2: relax.op.nn.conv2d, 3: relax.op.nn.conv3d}[len(case.kernel)]

    def build(x, w, b):
        y = op(
            x, w, strides=case.strides, padding=case.pads, dilation=case.dilations,
            groups=case.groups,
        )  # fmt: skip
        return relax.op.nn.relu(relax.op.add(y, b))

    return build


def expected_of(case: Case, x: Array, w: Array, b: Array) -> Array:
    return reference(
        "Conv", x, w, b, strides=case.strides, pads=case.pads, dilations=case.dilations,
        group=case.groups, kernel_shape=case.kernel,
    )  # fmt: skip


TOLERANCE = {"float16": 4e-3, "float32": 2e-5, "float64": 1e-12}


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_convolution_with_bias_and_activation(case: Case, tmp_path: Path):
    x, w, b = arrays(case)
    expected = expected_of(case, x, w, b)
    batch = "n" if case.symbolic else case.x[0]
    shapes = [(batch, *x.shape[1:]), w.shape, b.shape]
    constants = (1, 2) if case.constant else ()
    like = expected.astype(case.dtype)
    (y,) = run_unit(tmp_path, layer(case), [x, w, b], [like], constants, shapes)
    assert np.abs(y - expected).max() <= TOLERANCE[case.dtype]


def test_open_width_and_height(tmp_path: Path):
    case = CASES[1]
    x, w, b = arrays(case)
    expected = expected_of(case, x, w, b)
    shapes = [("n", 5, "h", "w"), w.shape, b.shape]
    like = expected.astype(np.float32)
    (y,) = run_unit(tmp_path, layer(case), [x, w, b], [like], (1,), shapes)
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("spatial", [(2, 8), (8, 2), (2,)])
def test_input_smaller_than_the_kernel_gives_an_empty_output(
    spatial: tuple[int, ...], tmp_path: Path
):
    ones = (1,) * len(spatial)
    case = Case((1, 4, *spatial), 6, (3,) * len(spatial), ones, (0,) * 2 * len(spatial), ones)
    like = np.zeros((1, 6, *(d - 2 for d in spatial)), np.float32)
    (y,) = run_unit(tmp_path, layer(case), list(arrays(case)), [like], (1,))
    assert y.shape == like.shape
    assert not y.size


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("strides", [(1, 1), (2, 3)])
def test_transposed_convolution(strides: tuple[int, int], groups: int, tmp_path: Path):
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 6, 5, 7)).astype(np.float32)
    w = rng.standard_normal((6, 4, 3, 3)).astype(np.float32)
    b = rng.standard_normal((1, 4 * groups, 1, 1)).astype(np.float32)
    extra = tuple(s - 1 for s in strides)
    by_group = [
        reference("ConvTranspose", *parts, strides=strides, pads=(1, 0, 0, 1), output_padding=extra)
        for parts in zip(
            np.split(x, groups, 1), np.split(w, groups), np.split(b, groups, 1), strict=True
        )
    ]
    expected = np.concatenate(by_group, 1)

    def build(x, w, b):
        y = relax.op.nn.conv2d_transpose(
            x, w, strides=strides, padding=(1, 0, 0, 1), output_padding=extra, groups=groups
        )
        return relax.op.nn.relu(relax.op.add(y, b))

    (y,) = run_unit(tmp_path, build, [x, w, b], [expected.astype(np.float32)], (1,))
    assert np.abs(y - expected).max() <= 5e-5


def test_activation_before_and_residual_after(tmp_path: Path):
    """relu(x) convolved, then a residual added: all of it one kernel."""
    case = CASES[0]
    x, w, b = arrays(case)
    residual = np.random.default_rng(1).standard_normal((1, 7, 9, 11)).astype(np.float32)
    expected = reference("Conv", np.maximum(x, 0), w, b + residual, pads=case.pads)

    def build(x, w, b, r):
        y = relax.op.nn.conv2d(relax.op.nn.relu(x), w, padding=case.pads)
        return relax.op.nn.relu(relax.op.add(relax.op.add(y, b), r))

    inputs = [x, w, b, residual]
    (y,) = run_unit(tmp_path, build, inputs, [expected.astype(np.float32)], (1, 2))
    assert np.abs(y - expected).max() <= 2e-5


@pytest.mark.parametrize("name", ["x86-64-v2", "x86-64-v3", "x86-64-v4"])
def test_every_register_width(name: str, tmp_path: Path):
    machine = machine_for(name)
    if machine.vector_bytes > native_machine().vector_bytes:
        pytest.skip(f"this CPU is below {name}")
    case = CASES[9]
    x, w, b = arrays(case)
    expected = expected_of(case, x, w, b)
    like = expected.astype(np.float32)
    (y,) = run_unit(tmp_path, layer(case), [x, w, b], [like], (1,), machine=machine)
    assert np.abs(y - expected).max() <= 2e-5


def test_packed_weights_by_hand():
    w = np.arange(3 * 1 * 2, dtype=np.float32).reshape(3, 1, 2)
    packed = pack_weights(w, groups=1, rows=2, transposed=False)
    assert packed.shape == (1, 2, 1, 2, 2)
    assert packed[0, 0, 0].tolist() == [[0, 2], [1, 3]]
    assert packed[0, 1, 0].tolist() == [[4, 0], [5, 0]]
