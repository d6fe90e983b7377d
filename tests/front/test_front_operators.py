"""Operators of a user's own: the example, the registry, and kernels that do not fit."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import front_models
import numpy as np
import onnx
import pytest
from front_outcome import Motet
from onnx import TensorProto, helper
from tvm import relax
from tvm.script import tirx as T

import motet
from motet.compiler.frontend import registry

EXAMPLE = Path(__file__).parents[2] / "examples" / "custom_operator"
FILE = EXAMPLE / "operators.py"
FLOAT, DOMAIN = TensorProto.FLOAT, "org.example"


@pytest.fixture
def scope() -> Iterator[None]:
    """What a test registers is forgotten after it."""
    token = registry._LAYERS.set((registry.Layer("this test"),))
    yield
    registry._LAYERS.reset(token)


def example() -> Any:
    spec = importlib.util.spec_from_file_location("make_model", EXAMPLE / "make_model.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.model()


def custom(path: Path, op: str, shape: list[Any], outputs: int = 1, inputs: int = 1) -> Path:
    """One node of the domain ``org.example``."""
    reads, makes = [f"x{i}" for i in range(inputs)], [f"y{i}" for i in range(outputs)]
    node = helper.make_node(op, reads, makes, "own", domain=DOMAIN)
    return front_models.write(
        path,
        [node],
        [(name, FLOAT, shape) for name in reads],
        [(name, FLOAT, shape) for name in makes],
        (("", 17), (DOMAIN, 2)),
    )


@T.prim_func
def twice_and_half(x: T.Buffer((2, 3), "float32"), a: T.Buffer((2, 3), "float32"),
                   b: T.Buffer((2, 3), "float32")) -> None:  # fmt: skip
    for i, j in T.grid(2, 3):
        a[i, j] = x[i, j] * T.float32(2)
        b[i, j] = x[i, j] * T.float32(0.5)


@T.prim_func(s_tir=True)
def scaled_sum(x_: T.handle, y_: T.handle, z_: T.handle) -> None:
    n, m = T.int64(), T.int64()
    x = T.match_buffer(x_, (n, T.int64(3)), "float32")
    y = T.match_buffer(y_, (m, T.int64(3)), "float32")
    z = T.match_buffer(z_, (n, T.int64(3)), "float32")
    between = T.alloc_buffer((n, T.int64(3)), "float32")
    for i, j in T.grid(n, T.int64(3)):
        with T.sblock("scale"):
            a, b = T.axis.remap("SS", [i, j])
            between[a, b] = x[a, b] * T.float32(10)
    for i, j in T.grid(n, T.int64(3)):
        with T.sblock("sum"):
            a, b = T.axis.remap("SS", [i, j])
            z[a, b] = between[a, b] + y[T.min(a, m - T.int64(1)), b]


@T.prim_func
def calls_out(x: T.Buffer((2, 3), "float32"), y: T.Buffer((2, 3), "float32")) -> None:
    for i, j in T.grid(2, 3):
        y[i, j] = T.call_extern("float32", "secret", x[i, j])


def test_the_example(run_motet: Motet, tmp_path: Path) -> None:
    onnx.save(example(), str(tmp_path / "custom.onnx"))
    assert run_motet("compile", "custom.onnx", "--operator-file", FILE, "-o", "c.motet").code == 0
    assert "running_max_rows" in run_motet("inspect", "c.motet", "--operators").out
    assert run_motet("check", "c.motet").code == 0
    outcome = run_motet("check", "c.motet", "--bisect")
    assert outcome.code == 0
    assert "custom: 4 of 4 values compared" in outcome.out
    assert run_motet("run", "c.motet", "--operator-file", FILE).code == 2
    x = np.random.default_rng(0).standard_normal((3, 16)).astype("float32")
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", motet.load(tmp_path / "c.motet").run(inputs={"x": x})["y"])
    # Neither the compiler nor the user's file is there when the bundle runs.
    code = (
        "import sys; sys.modules['tvm'] = sys.modules['onnx'] = None\n"
        "import motet, numpy as np\n"
        "y = motet.load('c.motet').run(inputs={'x': np.load('x.npy')})['y']\n"
        "assert (y == np.load('y.npy')).all() and (np.diff(y) >= 0).all()"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_the_example_by_specification(run_motet: Motet, tmp_path: Path) -> None:
    onnx.save(example(), str(tmp_path / "custom.onnx"))
    (tmp_path / "own.py").write_bytes(FILE.read_bytes())
    spec = 'operators = ["own.py"]\n[models.custom]\npath = "custom.onnx"\n'
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "c.toml").write_text(spec.replace('"own', '"../own').replace(
        '"custom.onnx', '"../custom.onnx'
    ))  # fmt: skip
    first = motet.compile(tmp_path / "folder" / "c.toml")
    second = motet.compile(tmp_path / "custom.onnx", operators=[tmp_path / "own.py"])
    assert first.kernels == second.kernels
    without = motet.compile(tmp_path / "custom.onnx")
    kinds = [operator.kind for operator in without.programs["custom"].operators]
    assert "running_max_rows" not in kinds


@pytest.mark.usefixtures("scope")
def test_the_newest_version_that_fits_is_taken(tmp_path: Path) -> None:
    for since, factor in ((1, 2.0), (2, 3.0), (3, 4.0)):

        @motet.operators.register("Times", domain=DOMAIN, since=since)
        def convert(node: motet.operators.Node, factor: float = factor) -> relax.Expr:
            return relax.op.multiply(node.x(), node.scalar(factor))

    x = np.ones((2, 3), "float32")
    session = motet.load(motet.compile(custom(tmp_path / "m.onnx", "Times", [2, 3])))
    np.testing.assert_array_equal(session.run(inputs={"x0": x})["y0"], 3 * x)


@pytest.mark.usefixtures("scope")
def test_own_converters_go_before_motets(tmp_path: Path) -> None:
    @motet.operators.register("Relu", domain="")
    def relu(node: motet.operators.Node) -> relax.Expr:
        return relax.op.negative(node.x())

    path = front_models.picture(tmp_path / "picture.onnx", (1, 1, 2, 2))
    x = np.ones((1, 1, 2, 2), "float32")
    session = motet.load(motet.compile(path))
    np.testing.assert_array_equal(session.run(inputs={"image": x})["same"], -x)


@pytest.mark.usefixtures("scope")
def test_a_kernel_of_two_outputs(tmp_path: Path) -> None:
    @motet.operators.register("Both", domain=DOMAIN)
    def both(node: motet.operators.Node) -> list[relax.Expr]:
        dims = node.shape()
        return list(node.call_kernel(twice_and_half, [node.x()], [dims, dims], ["float32"] * 2))

    x = np.arange(6, dtype="float32").reshape(2, 3)
    bundle = motet.compile(custom(tmp_path / "m.onnx", "Both", [2, 3], 2))
    found = motet.load(bundle).run(inputs={"x0": x})
    np.testing.assert_array_equal(found["y0"], 2 * x)
    np.testing.assert_array_equal(found["y1"], x / 2)
    [operator] = bundle.programs["m"].operators
    assert (operator.kind, operator.onnx_nodes, operator.target) == (
        "twice_and_half", ("own",), "host",
    )  # fmt: skip


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize("same", [True, False])
def test_blocks_symbols_and_one_tensor_twice(tmp_path: Path, same: bool) -> None:
    @motet.operators.register("Scaled", domain=DOMAIN)
    def scaled(node: motet.operators.Node) -> Any:
        args = [node.x(), node.x(0 if same else 1)]
        return node.call_kernel(scaled_sum, args, node.shape(), "float32")

    path = custom(tmp_path / "m.onnx", "Scaled", ["N", 3], inputs=2)
    x, y = (np.random.default_rng(i).random((5, 3), "float32") for i in range(2))
    session = motet.load(motet.compile(path))
    found = session.run(inputs={"x0": x, "x1": y})["y0"]
    np.testing.assert_allclose(found, 10 * x + (x if same else y), rtol=1e-6)


@pytest.mark.usefixtures("scope")
@pytest.mark.parametrize(
    ("kernel", "shape", "dtype", "says"),
    [
        (twice_and_half, [2, 3], "float32", "takes 3 buffers, but is called with 1 inputs and 1"),
        (calls_out, [2, 4], "float32", "buffer 'y': axis 1 is 3, but is given 4"),
        (calls_out, [6], "float32", "buffer 'y': has rank 2, but is given rank 1"),
        (calls_out, [2, 3], "int32", "buffer 'y': is float32, but is given int32"),
        (calls_out, [2, 3], "float32", "kernel 'calls_out' uses call_extern, and so a function"),
        (None, [2, 3], "float32", "a kernel is a TVMScript prim_func, not a NoneType"),
    ],
)
def test_kernels_that_do_not_fit(
    tmp_path: Path, kernel: Any, shape: list[int], dtype: str, says: str
) -> None:
    @motet.operators.register("Own", domain=DOMAIN)
    def own(node: motet.operators.Node) -> Any:
        return node.call_kernel(kernel, [node.x()], shape, dtype)

    with pytest.raises(motet.errors.UnsupportedOperatorError, match="own") as caught:
        motet.compile(custom(tmp_path / "m.onnx", "Own", [2, 3]))
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import nothing_like_it", "own.py:1: ModuleNotFoundError: No module named"),
        ("x = 1\ny = 1 / 0", "own.py:2: ZeroDivisionError: division by zero"),
        ("x = 1", "own.py registers no operator: decorate a converter with"),
        ("import motet\nmotet.operators.register('A', domain=3)", "domain is a str, not 3"),
        ("def f(:", "SyntaxError"),
    ],
)
def test_files_that_fail(run_motet: Motet, tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "own.py").write_text(text)
    custom(tmp_path / "m.onnx", "Own", [2, 3])
    outcome = run_motet("compile", "m.onnx", "--operator-file", "own.py")
    assert outcome.code == 2
    assert says in outcome.err
    assert not (tmp_path / "m.motet").exists()


def test_two_files_that_register_one_operator(run_motet: Motet, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_bytes(FILE.read_bytes())
    custom(tmp_path / "m.onnx", "SoftClip", [2, 3])
    files = ("--operator-file", "own.py", "--operator-file", FILE)
    outcome = run_motet("compile", "m.onnx", *files)
    assert outcome.code == 2
    assert "both register org.example::RunningMax" in outcome.err


def test_what_a_file_registers_ends_with_the_compilation(tmp_path: Path) -> None:
    path = custom(tmp_path / "m.onnx", "SoftClip", [2, 3])
    motet.compile(path, operators=[FILE])
    with pytest.raises(motet.errors.UnsupportedOperatorError, match=r"org\.example::SoftClip"):
        motet.compile(path)


def test_bisect_compiles_own_operators_apart(run_motet: Motet, tmp_path: Path) -> None:
    onnx.save(example(), str(tmp_path / "custom.onnx"))
    wrong = FILE.read_text().replace("relax.op.abs(x)", "x")
    (tmp_path / "wrong.py").write_text(wrong)
    outcome = run_motet("check", "custom.onnx", "--operator-file", "wrong.py", "--bisect")
    assert outcome.code == 1
    assert "output 's' of node 'clip' (org.example::SoftClip)" in outcome.out
