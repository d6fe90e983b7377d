"""bfloat16 and smaller types where users meet them: sessions, files, wires, both targets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import front_models
import ml_dtypes
import numpy as np
import pytest
from front_outcome import Motet
from onnx import TensorProto, helper

import motet
from motet.runtime.element_types import NARROW, is_raw, narrowed, numpy_dtype
from motet.runtime.session import Session

BF16, INT4, E5M2 = TensorProto.BFLOAT16, TensorProto.INT4, TensorProto.FLOAT8E5M2


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """``first``: h = x + x in bfloat16, and casts to smaller types; ``second``: y = h W."""
    folder = tmp_path_factory.mktemp("narrow")
    nodes = [
        helper.make_node("Add", ["x", "x"], ["h"], "twice"),
        helper.make_node("Cast", ["h"], ["few"], "less", to=E5M2),
        helper.make_node("Identity", ["i"], ["j"], "same"),
    ]
    first = front_models.write(
        folder / "first.onnx", nodes,
        [("x", BF16, [2, 4]), ("i", INT4, [3])],
        [("h", BF16, [2, 4]), ("few", E5M2, [2, 4]), ("j", INT4, [3])],
        opsets=[("", 21)],
    )  # fmt: skip
    weight = np.full((4, 3), 0.5).astype(ml_dtypes.bfloat16)
    second = front_models.write(
        folder / "second.onnx", [helper.make_node("MatMul", ["h", "w"], ["y"], "product")],
        [("h", BF16, [2, 4])], [("y", BF16, [2, 3])], opsets=[("", 21)], w=weight,
    )  # fmt: skip
    return [first, second]


@pytest.fixture(scope="module")
def bundle(paths: list[Path]) -> Any:
    return motet.compile(paths)


@pytest.fixture(scope="module")
def session(bundle: Any) -> Session:
    return motet.load(bundle, threads=1)


def test_types_are_called_as_in_onnxruntime(session: Session) -> None:
    first = session["first"]
    assert [arg.type for arg in first.get_inputs()] == ["tensor(bfloat16)", "tensor(int4)"]
    assert [arg.type for arg in first.get_outputs()] == [
        "tensor(bfloat16)", "tensor(float8e5m2)", "tensor(int4)"
    ]  # fmt: skip


def test_arrays_are_of_ml_dtypes(session: Session) -> None:
    x = np.arange(8).reshape(2, 4).astype(ml_dtypes.bfloat16)
    h, few, j = session["first"].run(None, {"x": x, "i": [-8, 7, -1]})
    np.testing.assert_array_equal(h, (2 * np.arange(8).reshape(2, 4)).astype(ml_dtypes.bfloat16))
    np.testing.assert_array_equal(few, h.astype(ml_dtypes.float8_e5m2))
    np.testing.assert_array_equal(j, np.array([-8, 7, -1], ml_dtypes.int4))
    assert (h.dtype, few.dtype, j.dtype) == tuple(
        map(numpy_dtype, ("bfloat16", "float8_e5m2", "int4"))
    )
    loaded = x.view(np.dtype("V2"))  # what np.load makes of a saved array
    np.testing.assert_array_equal(session["first"].run(["h"], {"x": loaded, "i": [0, 0, 0]})[0], h)


def test_other_arrays_are_refused(session: Session) -> None:
    inputs = {"x": np.zeros((2, 4), np.float32), "i": [0, 0, 0]}
    with pytest.raises(motet.errors.InputError, match=r"takes bfloat16: .*astype\('bfloat16'\)"):
        session["first"].run(None, inputs)
    with pytest.raises(motet.errors.InputError, match="no int4 array"):
        session["first"].run(None, {"x": np.zeros((2, 4), ml_dtypes.bfloat16), "i": [0.5, 0, 0]})


def test_random_inputs_have_their_types(session: Session) -> None:
    inputs = session["first"].random_inputs()
    assert inputs["x"].dtype == ml_dtypes.bfloat16
    assert inputs["i"].dtype == ml_dtypes.int4
    assert session["first"].simulate().layers


def test_wires_carry_the_bits(paths: list[Path], tmp_path: Path) -> None:
    (tmp_path / "both.toml").write_text(
        f'[models.first]\npath = "{paths[0]}"\n'
        f'[models.second]\npath = "{paths[1]}"\ninputs = {{ h = "first.h" }}\n'
    )
    session = motet.load(motet.compile(tmp_path / "both.toml"), threads=1)
    x = np.ones((2, 4), ml_dtypes.bfloat16)
    results = session.run_all({"first": {"x": x, "i": [0, 1, 2]}})
    np.testing.assert_array_equal(results["second"]["y"], np.full((2, 3), 4, ml_dtypes.bfloat16))
    assert results["second"]["y"].dtype == ml_dtypes.bfloat16


def test_an_input_fixed_to_a_value(paths: list[Path]) -> None:
    bundle = motet.compile(paths[0], values={"i": [1, -2, 3]})
    session = motet.load(bundle, threads=1)
    j = session.run("first", {"x": np.ones((2, 4), ml_dtypes.bfloat16)})["j"]
    np.testing.assert_array_equal(j, np.array([1, -2, 3], ml_dtypes.int4))
    with pytest.raises(motet.errors.SpecError, match="holds what int4 cannot hold"):
        motet.compile(paths[0], values={"i": [1, 8, 3]})


def test_files_hold_what_numpy_knows(run_motet: Motet, bundle: Any, tmp_path: Path) -> None:
    path = bundle.save(tmp_path / "b.motet")
    np.save(tmp_path / "x.npy", np.full((2, 4), 1.5, np.float32))
    given = ("--model", "first", "--input", "x=@x.npy", "--input", "i=-8,7,1")
    outcome = run_motet("run", path, *given, "--output", "@y.npz", "--json")
    assert outcome.code == 0, outcome.err
    [report] = json.loads(outcome.out)
    assert report["outputs"]["j"]["first"] == [-8, 7, 1]
    assert report["outputs"]["h"] | {"argmax": 0} == {
        "dtype": "bfloat16", "shape": [2, 4], "first": [3.0] * 8,
        "min": 3.0, "max": 3.0, "mean": 3.0, "argmax": 0,
    }  # fmt: skip
    written = np.load(tmp_path / "y.npz")
    assert {name: written[name].dtype.name for name in written} == {
        "h": "float32", "few": "float32", "j": "int8"
    }  # fmt: skip
    np.save(tmp_path / "x.npy", np.full((2, 4), 1.001, np.float32))
    outcome = run_motet("run", path, *given)
    assert outcome.code == 2
    assert "--input x: holds numbers that bfloat16 has not: round them" in outcome.err


def test_the_array_runs_bfloat16_as_float32(paths: list[Path]) -> None:
    h = np.random.default_rng(0).standard_normal((2, 4)).astype(ml_dtypes.bfloat16)
    host = motet.load(motet.compile(paths[1]), threads=1).run("second", {"h": h})["y"]
    array = motet.load(motet.compile(paths[1], target="tiny-4x4"), threads=1).run(
        "second", {"h": h}
    )["y"]
    assert array.dtype == host.dtype == ml_dtypes.bfloat16
    np.testing.assert_allclose(array.astype("f4"), host.astype("f4"), rtol=1 / 128)


@pytest.mark.parametrize("name", sorted(NARROW))
def test_plain_arrays_become_narrow_where_that_is_exact(name: str) -> None:
    dtype = numpy_dtype(name)
    numbers = [1, 2, 4] if name == "float8_e8m0fnu" else [1, 1, 0]
    values = np.array(numbers, np.float64 if NARROW[name].is_float else np.int64)
    exact = values.astype(dtype)
    assert narrowed(values, name).dtype == dtype
    np.testing.assert_array_equal(narrowed(values, name), exact)
    raw = exact.view(f"V{dtype.itemsize}")
    assert is_raw(raw, name)
    np.testing.assert_array_equal(narrowed(raw, name).astype("f4"), exact.astype("f4"))
    with pytest.raises(ValueError, match="holds numbers that"):
        narrowed(np.array([1.0009765625e9]), name)


def test_check_compares_with_onnxruntime(run_motet: Motet, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Cast", ["x"], ["wide"], "widen", to=TensorProto.FLOAT),
        helper.make_node("Cast", ["i"], ["whole"], "count", to=TensorProto.FLOAT),
        helper.make_node("Mul", ["wide", "whole"], ["product"], "product"),
        helper.make_node("Cast", ["product"], ["few"], "less", to=E5M2),
        helper.make_node("Cast", ["product"], ["half"], "narrow", to=BF16),
    ]
    front_models.write(
        tmp_path / "m.onnx", nodes, [("x", BF16, [2, 4]), ("i", INT4, [4])],
        [("few", E5M2, [2, 4]), ("half", BF16, [2, 4]), ("product", TensorProto.FLOAT, [2, 4])],
        opsets=[("", 21)],
    )  # fmt: skip
    given = ("--input", "i=-8,3,7,2")
    outcome = run_motet("check", "m.onnx", *given, "--json")
    assert outcome.code == 0, outcome.err + outcome.out
    assert '"float8_e5m2"' in outcome.out
    assert '"bfloat16"' in outcome.out
