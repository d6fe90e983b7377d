"""Inputs fixed when compiling: ``--value``, ``values`` in Python and in a specification."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from front_models import write
from front_outcome import Motet
from onnx import TensorProto, helper

import motet
from motet.errors import SpecError, ValueNeededError
from motet.tensors import parse_values

X = np.random.default_rng(0).random((3, 4), "float32")


@pytest.fixture
def summing(tmp_path: Path) -> Path:
    """y = the sum of x [3, 4] over axes."""
    return write(
        tmp_path / "summing.onnx",
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], "total")],
        [("x", TensorProto.FLOAT, [3, 4]), ("axes", TensorProto.INT64, ["n"])],
        [("y", TensorProto.FLOAT, ["a", "b"])],
    )


def test_without_a_value_the_error_offers_the_option(run_motet: Motet, summing: Path) -> None:
    outcome = run_motet("compile", summing)
    assert outcome.code == 2
    assert "'total' (ReduceSum) cannot be lowered" in outcome.err
    assert "fix it with --value axes=..." in outcome.err


@pytest.mark.parametrize("value", ["1", "-1", "@axes.npy"])
def test_a_value_on_the_command_line(run_motet: Motet, summing: Path, value: str) -> None:
    np.save("axes.npy", np.array([1]))
    np.save("x.npy", X)
    assert run_motet("compile", summing, "--value", f"axes={value}", "-o", "s.motet").code == 0
    done = run_motet("run", "s.motet", "--input", "x=@x.npy", "--output", "@y.npy")
    assert done.code == 0, done.err
    np.testing.assert_allclose(np.load("y.npy"), X.sum(1, keepdims=True), rtol=1e-6)
    checked = run_motet("check", "s.motet", "--json")
    assert checked.code == 0, checked.err
    inner = run_motet("check", "s.motet", "--outputs", "all", "--json")
    assert inner.code == 0, inner.err
    late = run_motet("run", "s.motet", "--value", "axes=1")
    assert "is compiled already: --target, --shape, --value" in late.err


def test_values_in_python_for_several_models(summing: Path) -> None:
    other = summing.with_name("other.onnx")
    other.write_bytes(summing.read_bytes())
    values = {"summing.axes": [0], "other.axes": np.array([0, 1])}
    session = motet.load(motet.compile([summing, other], values=values))
    assert [info.name for info in session["summing"].get_inputs()] == ["x"]
    np.testing.assert_allclose(
        session.run("summing", {"x": X})["y"], X.sum(0, keepdims=True), rtol=1e-6
    )
    assert session.run("other", {"x": X})["y"].shape == (1, 1)
    with pytest.raises(ValueNeededError) as caught:
        motet.compile(summing)
    assert caught.value.inputs == ("axes",)
    with pytest.raises(SpecError, match="one of summing, other"):
        motet.compile([summing, other], values={"axes": [0]})


def test_a_specification_has_values_and_files_beside_it(summing: Path) -> None:
    np.save(summing.with_name("axes.npy"), np.array([0]))
    spec = summing.with_name("spec.toml")
    for value in ("[0]", '"@axes.npy"'):
        spec.write_text(f'[models.m]\npath = "summing.onnx"\nvalues = {{ axes = {value} }}\n')
        bundle = motet.compile(spec)
        assert [info.name for info in bundle.programs["m"].inputs] == ["x"]
        assert bundle.manifest.models[0].fixed["axes"].shape == (1,)
    changed = motet.compile(spec, settings=["models.m.values.axes=[0, 1]"])
    assert changed.manifest.models[0].fixed["axes"].shape == (2,)


def test_a_value_of_infinity_survives_python(tmp_path: Path) -> None:
    path = write(
        tmp_path / "clip.onnx",
        [helper.make_node("Clip", ["x", "low", "high"], ["y"], "clip")],
        [(n, TensorProto.FLOAT, s) for n, s in (("x", [4]), ("low", []), ("high", []))],
        [("y", TensorProto.FLOAT, [4])],
    )
    values = {"low": np.float32(-np.inf), "high": 0.5}
    session = motet.load(motet.compile(path, values=values))
    np.testing.assert_array_equal(session.run(None, {"x": X[0]})["y"], np.minimum(X[0], 0.5))


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["axes"], "--value axes: write INPUT=1,2,3 or INPUT=@FILE.npy"),
        (["axes="], "--value axes=: write INPUT=1,2,3"),
        (["axes=1", "axes=2"], "--value axes=2: the value of 'axes' is given twice"),
        (["axes=one"], "--value axes=one: 'one' is no list of numbers"),
    ],
)
def test_values_that_are_no_values(texts: list[str], message: str) -> None:
    with pytest.raises(SpecError) as caught:
        parse_values(texts)
    assert str(caught.value).startswith(message)


def test_numbers_of_the_command_line() -> None:
    assert parse_values(["a=1,-2", "b=1.5,inf", "c=true,false", "d=@x.npy"]) == {
        "a": [1, -2],
        "b": [1.5, float("inf")],
        "c": [1, 0],
        "d": "@x.npy",
    }


def test_the_manifest_shows_what_is_fixed(run_motet: Motet, summing: Path) -> None:
    assert run_motet("compile", summing, "--value", "axes=0", "-o", "s.motet").code == 0
    (facts,) = json.loads(run_motet("inspect", "s.motet", "--json").out)["models"]
    assert facts["fixed"] == {"axes": {"dtype": "int64", "shape": [1], "values": [0]}}
    assert "fixed axes = [0]" in run_motet("inspect", "s.motet").out
