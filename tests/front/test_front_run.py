"""``motet run``: what goes in, what comes out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_outcome import Motet, assert_plain

import motet

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_run_shows_every_model(run_motet: Motet, small: Path) -> None:
    outcome = run_motet("run", small)
    assert (outcome.code, outcome.err) == (0, "")
    assert_plain(outcome.out)
    for model in ("affine", "half", "counts", "picture", "logarithm"):
        assert f"{model} (first run " in outcome.out


def test_run_json(run_motet: Motet, small: Path) -> None:
    given = ("--input", "a=5,-6,7", "--input", "b=1,1,1")
    [report] = json.loads(run_motet("run", small, "--model", "counts", *given, "--json").out)
    assert report["model"] == "counts"
    assert report["seconds"] > 0
    assert report["outputs"]["sum"] == {
        "dtype": "int64", "shape": [3], "first": [6, -5, 8],
        "min": -5, "max": 8, "mean": 3.0, "argmax": 2,
    }  # fmt: skip
    assert report["outputs"]["more"]["first"] == [True, False, True]


def test_json_has_null_for_what_is_no_number(run_motet: Motet, small: Path) -> None:
    outcome = run_motet("run", small, "--model", "logarithm", "--input", "x=1,0,-1,inf", "--json")
    [report] = json.loads(outcome.out, parse_constant=pytest.fail)
    assert report["outputs"]["y"]["first"] == [0.0, None, None, None]


def test_random_inputs_follow_the_seed(run_motet: Motet, mobile: Path) -> None:
    def logits(*more: str) -> Any:
        [report] = json.loads(run_motet("run", mobile, "--json", *more).out)
        return report["outputs"]["logits"]["first"]

    assert logits() == logits("--seed", "0") != logits("--seed", "1")


def test_run_reads_and_writes_arrays(run_motet: Motet, mobile: Path) -> None:
    images = np.random.default_rng(1).random((3, 1, 32, 32), "float32")
    np.save("images.npy", images)
    np.savez("images.npz", image=images)
    expected = motet.load(mobile).run(None, {"image": images})["logits"]
    for given in ("image=@images.npy", "@images.npy", "@images.npz"):
        for written in ("@out.npz", "out.npz", "@out.npy", "out.npy", "logits=@out.npy"):
            outcome = run_motet("run", mobile, "--input", given, "--output", written)
            assert outcome.code == 0, outcome.err
            found = np.load(written.rpartition("@")[2], allow_pickle=False)
            found = found["logits"] if written.endswith(".npz") else found
            np.testing.assert_array_equal(found, expected)


def test_run_of_several_models_takes_dotted_names(run_motet: Motet, small: Path) -> None:
    outcome = run_motet(
        "run", small, "--input", "counts.a=1,2,3", "--input", "counts.b=4,5,6",
        "--output", "@all.npz", "--output", "counts.sum=@sum.npy",
    )  # fmt: skip
    assert outcome.code == 0, outcome.err
    assert np.load("sum.npy").tolist() == [5, 7, 9]
    with np.load("all.npz") as everything:
        assert sorted(everything) == [
            "affine.y", "counts.more", "counts.sum", "half.y", "logarithm.y", "picture.same",
        ]  # fmt: skip


def test_run_reads_images(run_motet: Motet, small: Path) -> None:
    from PIL import Image

    pixels = np.random.default_rng(0).integers(0, 256, (8, 6, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("image.png")
    outcome = run_motet(
        "run", small, "--model", "picture", "--input", "image=@image.png", "--output", "@y.npy"
    )
    assert outcome.code == 0, outcome.err
    expected = pixels.transpose(2, 0, 1)[None].astype("float32") / np.float32(255)
    np.testing.assert_array_equal(np.load("y.npy"), expected)


def test_run_reads_a_digit(run_motet: Motet, mobile: Path) -> None:
    digit = EXAMPLES / "data" / "digit_3_11.png"
    [report] = json.loads(run_motet("run", mobile, "--input", f"@{digit}", "--json").out)
    assert report["outputs"]["logits"]["argmax"] == 3


@pytest.fixture
def wired(models: Path, tmp_path: Path) -> Path:
    """A specification whose second model reads the first one's output."""
    (tmp_path / "wired.toml").write_text(
        f"[models.first]\npath = '{models}/affine.onnx'\n"
        f"[models.second]\npath = '{models}/negative.onnx'\ninputs = {{ y = 'first.y' }}\n"
    )
    return tmp_path / "wired.toml"


def test_run_follows_the_wires(run_motet: Motet, wired: Path) -> None:
    outcome = run_motet("run", wired, "--input", "first.x=1,2,3,4", "--output", "@o.npz")
    assert outcome.code == 0, outcome.err
    with np.load("o.npz") as found:
        assert np.abs(found["first.y"]).max() > 0
        np.testing.assert_array_equal(found["second.z"], -found["first.y"])


def test_a_wired_input_may_be_given_to_the_model_alone(run_motet: Motet, wired: Path) -> None:
    np.save("y.npy", np.array([[1, 2, 3]], "float32"))
    outcome = run_motet("run", wired, "--input", "second.y=@y.npy")
    assert outcome.code == 2
    assert "input 'y' is wired to 'first.y': leave it out, or run the model alone" in outcome.err
    alone = ("--model", "second", "--input", "y=@y.npy", "--output", "@z.npy")
    assert run_motet("run", wired, *alone).code == 0
    assert np.load("z.npy").tolist() == [[-1, -2, -3]]


def test_check_takes_wired_inputs_for_it_runs_models_alone(run_motet: Motet, wired: Path) -> None:
    np.save("y.npy", np.zeros((1, 4), "float32"))
    outcome = run_motet("check", wired, "--input", "second.y=@y.npy")
    assert outcome.code == 2
    assert "input 'y' has shape 1 x 4; the model takes 1 x 3" in outcome.err
