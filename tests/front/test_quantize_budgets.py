"""``motet quantize`` under a budget: mixed precision, from the estimate to the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from front_outcome import Motet, assert_plain
from onnx import TensorProto, helper, numpy_helper

import motet
from motet.commands.quantize import ByteSize
from motet.quantized_model import QuantizeOptions

LAYERS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Convolutions in a row; the first sees values of which one channel is far larger."""
    folder = tmp_path_factory.mktemp("budgets")
    rng = np.random.default_rng(0)
    nodes, weights, value = list[onnx.NodeProto](), list[onnx.TensorProto](), "x"
    for layer in range(LAYERS):
        w = rng.standard_normal((16, 16, 3, 3)).astype(np.float32) / 12
        weights.append(numpy_helper.from_array(w, f"w{layer}"))
        nodes.append(helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], f"conv{layer}"))
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"], f"relu{layer}"))
        value = f"r{layer}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["y"], "pool"))
    graph = helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 16, 14, 14])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 1, 1])], weights,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, folder / "net.onnx")
    x = rng.standard_normal((16, 16, 14, 14)).astype(np.float32)
    np.savez(folder / "data.npz", x=x)
    return folder


def facts_of(run_motet: Motet, folder: Path, *arguments: object) -> dict[str, Any]:
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "data.npz",
        "-o", folder / "out.onnx", "--json", *arguments,
    )  # fmt: skip
    assert (done.code, done.err) == (0, "")
    facts: dict[str, Any] = json.loads(done.out)
    return facts


def test_a_size_is_kept_and_better_than_one_setting(run_motet: Motet, folder: Path) -> None:
    facts = facts_of(run_motet, folder, "--max-size", "14 KB")
    size = (folder / "out.onnx").stat().st_size
    assert facts["size_bytes"] == size
    assert 12_000 < size <= 14_000  # what the budget allows is used
    mixed = facts["mixed"]
    assert mixed["estimated_outputs_sqnr_db"] == pytest.approx(facts["outputs_sqnr_db"], abs=2)
    settings = {row["setting"] for row in mixed["products"]}
    assert len(settings) > 1
    low = motet.quantize(
        folder / "net.onnx", folder / "data.npz", options=QuantizeOptions(setting="4/8")
    )
    assert facts["outputs_sqnr_db"] > low.outcome.sqnr_db + 2
    for row in mixed["products"]:
        by_rung = {rung["setting"]: rung for rung in row["rungs"]}
        assert by_rung[row["setting"]]["weights_bytes"] == row["weights_bytes"]
        assert by_rung["float32"]["weights_bytes"] == 4 * 16 * 16 * 9
    assert sum(row["noise_share"] for row in mixed["products"]) == pytest.approx(1)
    x = np.load(folder / "data.npz")["x"]
    wanted, found = (
        onnxruntime.InferenceSession(folder / name).run(None, {"x": x})[0]
        for name in ("net.onnx", "out.onnx")
    )
    measured = 10 * np.log10((wanted**2).sum() / ((wanted - found) ** 2).sum())
    assert facts["outputs_sqnr_db"] == pytest.approx(measured, abs=0.2)


def test_bits_a_weight(run_motet: Motet, folder: Path) -> None:
    facts = facts_of(run_motet, folder, "--setting", "3/8,5/8,8/8", "--max-bits", "5.5")
    assert facts["mixed"]["weight_bits"] <= 5.5
    stored = sum(row["weights_bytes"] for row in facts["mixed"]["products"])
    assert facts["mixed"]["weight_bits"] == pytest.approx(8 * stored / (LAYERS * 16 * 16 * 9))


def test_an_error_is_kept_by_the_real_model(folder: Path) -> None:
    found = {}
    for least in (15, 25):
        options = QuantizeOptions(min_sqnr=least)
        made = motet.quantize(folder / "net.onnx", folder / "data.npz", options=options)
        assert made.met
        assert made.outcome.sqnr_db >= least
        found[least] = made
    assert found[15].outcome.size_bytes < found[25].outcome.size_bytes
    four = QuantizeOptions(setting="3/3,4/4", min_sqnr=60)
    beyond = motet.quantize(folder / "net.onnx", folder / "data.npz", options=four)
    assert not beyond.met
    assert set(beyond.raised.values()) == {"4/4 per channel"}


def test_a_drop_bounds_a_ladder(folder: Path) -> None:
    """The metric is the error itself: the mix is between the least and the most."""
    x = np.load(folder / "data.npz")["x"]
    (exact,) = onnxruntime.InferenceSession(folder / "net.onnx").run(None, {"x": x})

    def metric(run: Any) -> float:
        return -float(np.abs(run(x)["y"] - exact).mean() / np.abs(exact).mean())

    options = QuantizeOptions(setting="4/4,4/8,8/8,float32", max_drop=0.05)
    made = motet.quantize(folder / "net.onnx", folder / "data.npz", evaluate=metric,
                          options=options)  # fmt: skip
    assert made.met
    assert made.float_metric is not None
    assert made.outcome.metric is not None
    assert made.float_metric - made.outcome.metric <= 0.05
    assert made.mixed is not None
    assert made.mixed.weight_bits < 32
    assert set(made.raised.values()) != {"4/4 per channel"}


def test_the_table_says_what_each_was_chosen_by(run_motet: Motet, folder: Path) -> None:
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "data.npz", "-o",
        folder / "out.onnx", "--max-bits", "6",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert "at most 6 bits a weight" in done.out
    head = next(line for line in done.out.splitlines() if "noise, %" in line)
    assert [rung in head for rung in ("4/4", "4/8", "8/8")] == [True] * 3
    assert_plain(done.out)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--max-size", "lots"], "is no size"),
        (["--max-size", "1KB"], "the smallest mix takes about"),
        (["--max-bits", "1"], "the smallest mix takes 4."),
        (["--max-bits", "5", "--min-sqnr", "20"], "--max-bits and --min-sqnr: give one budget"),
        (["--setting", "4/8,8/8"], "several settings are a ladder"),
        (["--setting", "4/8,4/8", "--max-bits", "5"], "each once"),
        (["--setting", "4/8,9/8", "--max-bits", "5"], "9"),
    ],
)
def test_budgets_that_cannot_be(
    run_motet: Motet, folder: Path, arguments: list[str], told: str
) -> None:
    out = folder / "never.onnx"
    done = run_motet(
        "quantize", folder / "net.onnx", "--calibrate", folder / "data.npz", "-o", out, *arguments
    )
    assert done.code == 2
    assert told in " ".join(done.err.split())
    assert not out.exists()


def test_sizes() -> None:
    texts = {"500000": 500_000, "500KB": 500_000, "1.5 MB": 1_500_000, "64KiB": 65536, "2k": 2000}
    assert {text: ByteSize().convert(text, None, None) for text in texts} == texts
