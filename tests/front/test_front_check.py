"""``motet check`` and the comparison behind it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from front_outcome import Motet, assert_plain, rows_of

from motet.check import Tolerance, compare, tolerance_for


def test_check_passes(run_motet: Motet, inception: Path, mobile: Path) -> None:
    for bundle, target in ((inception, "gemmini-16x16"), (mobile, "host")):
        outcome = run_motet("check", bundle, "--runs", "2")
        assert (outcome.code, outcome.err) == (0, "")
        assert outcome.out.startswith(f"{target} against onnxruntime\n")
        assert_plain(outcome.out)


def test_check_fails_beyond_the_tolerance(run_motet: Motet, mobile: Path) -> None:
    outcome = run_motet("check", mobile, "--atol", "0", "--json")
    assert (outcome.code, outcome.err) == (1, "")
    [difference] = json.loads(outcome.out)
    assert not difference["passed"]
    assert 0 < difference["absolute"] < 1e-4


def test_check_formats(run_motet: Motet, small: Path) -> None:
    rows = rows_of(run_motet("check", small, "--csv").out)
    assert [row["dtype"] for row in rows] == [
        "float32", "float16", "int64", "bool", "float32", "float32",
    ]  # fmt: skip
    assert {row["passed"] for row in rows} == {"True"}


def test_check_of_a_moved_bundle(run_motet: Motet, models: Path, tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes((models / "affine.onnx").read_bytes())
    assert run_motet("compile", "a.onnx", "-o", "a.motet").code == 0
    assert run_motet("check", "a.motet").code == 0
    (tmp_path / "a.onnx").rename("b.onnx")
    outcome = run_motet("check", "a.motet")
    assert outcome.code == 2
    assert f"there is no file {tmp_path / 'a.onnx'} (" in outcome.err
    assert "relative to the bundle's folder); say where it is with --onnx a=PATH" in outcome.err
    assert run_motet("check", "a.motet", "--onnx", "a=b.onnx").code == 0
    assert run_motet("check", "a.motet", "--onnx", "b.onnx").code == 0
    (tmp_path / "a.onnx").write_bytes((models / "half.onnx").read_bytes())
    outcome = run_motet("check", "a.motet")
    assert outcome.code == 2
    assert "a.onnx is not the file that was compiled (its SHA-256 differs)" in outcome.err


def passes(value: list[float], reference: list[float], dtype: str, **given: float) -> bool:
    tolerance = tolerance_for(dtype, **given)
    difference = compare(
        "m", "y", np.array(value).astype(dtype), np.array(reference).astype(dtype), tolerance
    )
    return difference.passed


@pytest.mark.parametrize(
    ("dtype", "value", "reference", "passed"),
    [
        ("float32", [1.0009], [1.0], True),
        ("float32", [1.002], [1.0], False),
        ("float32", [0.00009], [0.0], True),
        ("float32", [0.0002, 100.0], [0.0, 100.0], False),
        ("float16", [0.9, 100.0], [0.0, 100.0], True),
        ("float16", [1.5, 100.0], [0.0, 100.0], False),
        ("float16", [0.0], [0.0], True),
        ("int8", [3], [3], True),
        ("int8", [4], [3], False),
        ("bool", [True], [True], True),
        ("bool", [True], [False], False),
        ("float32", [np.nan, np.inf, -np.inf], [np.nan, np.inf, -np.inf], True),
        ("float32", [np.nan], [1.0], False),
        ("float32", [1.0], [np.nan], False),
        ("float32", [np.inf], [-np.inf], False),
        ("float32", [np.inf], [1.0], False),
        ("float32", [], [], True),
    ],
)
def test_default_tolerances(
    dtype: str, value: list[float], reference: list[float], passed: bool
) -> None:
    assert passes(value, reference, dtype) is passed


def test_a_tolerance_that_exceeds_the_output_is_noted(run_motet: Motet, small: Path) -> None:
    tiny, zeros = np.array([3e-5, 0], "float32"), np.zeros(2, "float32")
    difference = compare("m", "y", zeros, tiny, tolerance_for("float32"))
    assert (difference.passed, difference.note) == (True, "tolerance exceeds the output")
    assert compare("m", "y", tiny * 10, tiny * 10, tolerance_for("float32")).note == ""
    assert compare("m", "y", zeros, zeros, tolerance_for("float32")).note == ""
    arguments = ("check", small, "--model", "affine", "--atol", "1000")
    assert "ok tolerance exceeds the output" in run_motet(*arguments).out
    [fact] = json.loads(run_motet(*arguments, "--json").out)
    assert (fact["passed"], fact["note"]) == (True, "tolerance exceeds the output")


def test_given_tolerances_hold_for_every_dtype_but_bool() -> None:
    assert passes([4], [3], "int8", atol=1.0)
    assert not passes([5], [3], "int8", atol=1.0)
    assert not passes([1.00001], [1.0], "float32", atol=1e-6)
    assert not passes([0.9, 100.0], [0.0, 100.0], "float16", rtol=0.1)
    assert not passes([True], [False], "bool", atol=2.0)


def test_integers_that_are_the_same_float_still_differ() -> None:
    value, reference = np.array([2**53 + 1]), np.array([2**53])
    assert not compare("m", "y", value, reference, tolerance_for("int64")).passed


def test_another_shape_or_dtype_is_a_difference() -> None:
    one = np.zeros((1, 3), "float32")
    shape = compare("m", "y", one, np.zeros(3, "float32"), tolerance_for("float32"))
    dtype = compare("m", "y", one, one.astype("float64"), tolerance_for("float64"))
    assert not shape.passed
    assert shape.note == "float32 1 x 3, the reference has float32 3"
    assert not dtype.passed


@pytest.mark.parametrize(("apart", "noted"), [(0, False), (1, True), (2, False)])
def test_a_step_of_8_bits_is_called_one(apart: int, noted: bool) -> None:
    want = np.array([3, 200, 7], np.uint8)
    found = compare("m", "y", want + np.array([0, apart, 0], np.uint8), want, Tolerance())
    assert (found.passed, "one step of 8 bits" in found.note) == (apart == 0, noted)
