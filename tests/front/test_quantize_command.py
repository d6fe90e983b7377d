"""``motet quantize`` and ``motet.quantize``: files, tables, metrics, mistakes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from front_outcome import Motet, assert_plain, rows_of
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.quantized_model import QuantizeOptions
from motet.quantizing import compare

LABELS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of a convolution, a depthwise one and a product, and data that it labels."""
    folder = tmp_path_factory.mktemp("quantize")
    rng = np.random.default_rng(0)
    shapes = {"w1": (16, 8, 3, 3), "w2": (16, 1, 3, 3), "w3": (16, LABELS)}
    weights = {name: rng.standard_normal(shape) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["a"], name="first", pads=[1] * 4),
        helper.make_node("Relu", ["a"], ["b"], name="relu"),
        helper.make_node("Conv", ["b", "w2"], ["c"], name="each", group=16),
        helper.make_node("GlobalAveragePool", ["c"], ["d"], name="pool"),
        helper.make_node("Flatten", ["d"], ["e"], name="flat"),
        helper.make_node("MatMul", ["e", "w3"], ["y"], name="head/product"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 8, 6, 6])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", LABELS])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "net.onnx")
    x = rng.standard_normal((48, 8, 6, 6)).astype(np.float32)
    (y,) = onnxruntime.InferenceSession(folder / "net.onnx").run(None, {"x": x})
    np.savez(folder / "data.npz", x=x, labels=y.argmax(-1))
    np.savez(folder / "bad.npz", x=np.where(x > 3, np.nan, x))
    return folder


def test_methods_are_options_that_the_report_tells(run_motet: Motet, folder: Path) -> None:
    plain = ("--no-fold", "--no-zero-points", "--no-correct-bias", "--method", "max")
    worse = quantized(run_motet, folder, "--setting", "4/8", *plain)
    assert worse["methods"] == {
        "ranges": "max", "zero_points": False, "correct_bias": False, "rounding": "nearest",
        "smooth": None,
    }  # fmt: skip
    better = quantized(run_motet, folder, "--setting", "4/8", "--rounding", "gptq",
                       "--smooth", "0.5")  # fmt: skip
    assert better["methods"]["correct_bias"] is True
    assert better["methods"]["rounding"] == "gptq"
    assert better["smoothed"] == {"first": "Mul", "head/product": "Mul"}
    assert better["outputs_sqnr_db"] > worse["outputs_sqnr_db"] + 2


def quantized(run_motet: Motet, folder: Path, *arguments: object) -> dict[str, Any]:
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "data.npz",
        "-o", folder / "out.onnx", "--json", *arguments,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    facts: dict[str, Any] = json.loads(done.out)
    return facts


def test_the_written_file_is_what_was_measured(run_motet: Motet, folder: Path) -> None:
    facts = quantized(run_motet, folder, "--setting", "4/8/6/10", "--vector", "8")
    assert [one["onnx_node"] for one in facts["products"]] == ["first", "each", "head/product"]
    assert facts["size_bytes"] == (folder / "out.onnx").stat().st_size
    x = np.load(folder / "data.npz")["x"]
    wanted, found = (
        onnxruntime.InferenceSession(folder / name).run(None, {"x": x})[0].astype(np.float64)
        for name in ("net.onnx", "out.onnx")
    )
    measured = 10 * math.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())
    assert facts["outputs_sqnr_db"] == pytest.approx(measured, abs=0.1)
    first = facts["products"][0]
    assert sum(first["weights_scale_histogram"]) == 16 * 1 * 9
    assert first["weights_sqnr_db"] > 15
    onnx.checker.check_model(folder / "out.onnx", full_check=True)


def test_more_bits_err_less(folder: Path) -> None:
    data = {"x": np.load(folder / "data.npz")["x"]}
    settings = [("8/8/6/10", "vector", 8), ("6/6/6/10", "vector", 8), ("4/4/4/4", "vector", 8)]
    floats, rows = compare(folder / "net.onnx", data, settings=settings)
    decibels = [row.sqnr_db for row in rows]
    assert decibels == sorted(decibels, reverse=True)
    assert decibels[0] > 35
    assert floats.sqnr_db == math.inf


def test_products_are_raised_until_the_drop_is_met(folder: Path) -> None:
    """A metric that only floats please: all products become floats, and the drop is met."""
    x = np.load(folder / "data.npz")["x"]
    (exact,) = onnxruntime.InferenceSession(folder / "net.onnx").run(None, {"x": x})

    def metric(run: Any) -> float:
        return -float(np.abs(run(x)["y"] - exact).max())

    options = QuantizeOptions(setting="2/2", max_drop=1e-3)
    made = motet.quantize(folder / "net.onnx", {"x": x}, evaluate=metric, options=options)
    assert made.met
    assert set(made.raised.values()) <= {"float32", "8/8 per channel"}
    assert "float32" in made.raised.values()
    loose = QuantizeOptions(setting="8/8", max_drop=1e6)
    assert not motet.quantize(
        folder / "net.onnx", {"x": x}, evaluate=metric, options=loose
    ).raised  # fmt: skip


def test_table_names_the_worst_first(run_motet: Motet, folder: Path) -> None:
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "data.npz", "-o",
        folder / "out.onnx", "--exclude", "head/*", "--evaluate", "accuracy",
    )  # fmt: skip
    assert done.code == 0
    assert "2 products in 8/8 per channel" in done.out
    assert "head/product" in done.out.partition("stay float32")[2]
    assert "metric" in done.out
    assert_plain(done.out)


def test_comparison_has_a_row_for_every_setting(run_motet: Motet, folder: Path) -> None:
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "data.npz", "--compare", "--csv",
        "--evaluate", "accuracy", "--plot", folder / "bits.svg",
    )  # fmt: skip
    assert done.code == 0, done.err
    rows = rows_of(done.out)
    assert [row["setting"] for row in rows][:3] == ["float32", "8/8 per tensor", "8/8 per channel"]
    assert len(rows) == 13
    assert float(rows[0]["metric"]) == 100
    assert "vectors of 64" in (folder / "bits.svg").read_text()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["-o", "net.onnx"], "overwrite the model"),
        (["-o", "x.motet"], "ends in .onnx"),
        (["-o", "x.onnx", "--setting", "4/9"], "4/9|bits"),
        (["-o", "x.onnx", "--exclude", "nobody"], "--exclude nobody: no product"),
        (["-o", "x.onnx", "--max-drop", "1"], "give --evaluate"),
        (["-o", "x.onnx", "--evaluate", "nothing.py"], "nothing.py"),
        ([], "give -o OUT.onnx, or --compare"),
        (["-o", "x.onnx", "--plot", "a.svg"], "--compare"),
        (["--compare", "--max-bits", "5"], "--max-bits chooses settings"),
    ],
)
def test_mistakes(
    run_motet: Motet, folder: Path, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = run_motet("quantize", "net.onnx", "--calibrate", "data.npz", *arguments)
    assert done.code == 2
    assert any(word in done.err for word in told.split("|"))
    assert not (folder / "x.onnx").exists()


def test_data_that_is_not_finite_is_named(run_motet: Motet, folder: Path) -> None:
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "bad.npz", "-o",
        folder / "x.onnx",
    )  # fmt: skip
    assert done.code == 2
    assert "NaN" in done.err
    assert not (folder / "x.onnx").exists()
