"""``motet compile`` and ``motet inspect``: results, formats, warnings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from front_outcome import Motet, assert_plain

TRANSFORMER = Path(__file__).parents[2] / "examples" / "models" / "digits_transformer.onnx"


def test_compile_says_what_it_made(run_motet: Motet, tmp_path: Path) -> None:
    outcome = run_motet(
        "compile", TRANSFORMER, "--target", "tiny-4x4", "--shape", "image:1x1x32x32",
        "--time-passes",
    )  # fmt: skip
    assert (outcome.code, outcome.err) == (0, "")
    assert_plain(outcome.out)
    last = outcome.out.splitlines()[-1]
    assert last.startswith("digits_transformer.motet: digits_transformer for tiny-4x4, ")
    assert "100.0 % of MACs on the array" in last
    told = {line.partition("│")[0].strip() for line in outcome.out.splitlines()}
    assert told >= {"fold_batch_norm", "all passes", "kernels and array programs"}
    assert [path.name for path in tmp_path.iterdir()] == ["digits_transformer.motet"]


def test_compile_json(run_motet: Motet, models: Path) -> None:
    outcome = run_motet(
        "compile", models / "affine.onnx", models / "half.onnx", "-o", "two.motet", "--json",
        "--print-ir-after", "fuse", "--print-ir-after", "canonicalize", "--time-passes",
    )  # fmt: skip
    assert outcome.code == 0
    facts = json.loads(outcome.out)
    assert facts["path"] == "two.motet"
    assert facts["size_bytes"] == Path("two.motet").stat().st_size
    assert facts["models"] == ["affine", "half"]
    assert facts["kernel_count"] == 3  # one product is of float16, whose input is widened
    assert facts["macs"] == 12 + 24
    assert facts["compile_seconds"] > 0
    assert next(iter(facts["pass_seconds"])) == "join_vectors"
    assert 0 < facts["code_seconds"] < facts["compile_seconds"]
    assert [ir.splitlines()[0] for ir in facts["ir"]] == ["# after canonicalize", "# after fuse"]


def test_ir_goes_to_stdout_as_tvm_script(run_motet: Motet, models: Path) -> None:
    outcome = run_motet("compile", models / "affine.onnx", "--print-ir-after", "canonicalize")
    assert outcome.out.startswith("# after canonicalize\n")
    assert "@R.function" in outcome.out


def test_same_input_same_bytes(run_motet: Motet, models: Path) -> None:
    for name in ("one.motet", "two.motet"):
        assert run_motet("compile", models / "affine.onnx", "-o", name).code == 0
    assert Path("one.motet").read_bytes() == Path("two.motet").read_bytes()


@pytest.mark.parametrize("as_spec", [False, True])
def test_open_sizes_on_an_array_are_warned_of(
    as_spec: bool, run_motet: Motet, models: Path, tmp_path: Path
) -> None:
    (tmp_path / "two.toml").write_text(
        f"[models.open]\npath = '{models}/open.onnx'\n"
        f"[models.affine]\npath = '{models}/affine.onnx'\n"
    )
    files = ["two.toml"] if as_spec else [models / "open.onnx", models / "affine.onnx"]
    outcome = run_motet("compile", *files, "--target", "tiny-4x4", "-o", "x.motet", "--json")
    assert outcome.code == 0
    assert outcome.err.count("\n") == 1
    assert "of model 'open' runs on the array: its input 'x' (N x 4) has open sizes" in outcome.err
    assert "--shape open.x:1x4" in outcome.err
    assert ("[models.open]" in outcome.err) is as_spec
    remedied = run_motet(
        "compile", *files, "--target", "tiny-4x4", "-o", "x.motet", "--json",
        "--shape", "open.x:1x4",
    )  # fmt: skip
    assert (remedied.code, remedied.err) == (0, "")
    assert json.loads(remedied.out)["array_share"] == 1.0


def test_inspect(run_motet: Motet, inception: Path) -> None:
    outcome = run_motet("inspect", inception, "--operators")
    assert outcome.code == 0
    assert_plain(outcome.out)
    for expected in ("input  │ image", "output │ logits", "block1/single/reduce/conv", "place"):
        assert expected in outcome.out


def test_inspect_sums_kernels_up(run_motet: Motet, inception: Path) -> None:
    facts = json.loads(run_motet("inspect", inception, "--json").out)
    every = [one["symbol"] for one in facts["kernels"]]
    every += [one["name"] for one in facts["array_programs"]]
    short, long = run_motet("inspect", inception), run_motet("inspect", inception, "--kernels")
    assert all(name in long.out and name not in short.out for name in every)
    kind = facts["array_programs"][0]["name"].rpartition("_")[0]
    alike = [p for p in facts["array_programs"] if p["name"].rpartition("_")[0] == kind]
    calls = sum(one["calls"] for one in alike)
    row = [cell.strip() for cell in _line(short.out, f"{kind} ").split("│")]
    assert row == [kind, str(len(alike)), str(calls)]


def test_inspect_shows_the_schedule(run_motet: Motet, models: Path, tmp_path: Path) -> None:
    (tmp_path / "wired.toml").write_text(
        f"[models.first]\npath = '{models}/affine.onnx'\nrate_hz = 30\npriority = 2\n"
        f"[models.second]\npath = '{models}/negative.onnx'\ndeadline_ms = 12.5\n"
        "after = ['first']\ninputs = { y = 'first.y' }\n"
    )
    out = run_motet("inspect", "wired.toml").out
    assert "\nrate_hz 30; priority 2\n" in out
    assert "\ndeadline_ms 12.5; after first; wires y = first.y\n" in out


def _line(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.startswith(start))


def test_a_bundle_of_one_model_is_named_after_it(run_motet: Motet, models: Path) -> None:
    assert run_motet("compile", models / "affine.onnx", "-o", "other.motet").code == 0
    assert json.loads(run_motet("inspect", "other.motet", "--json").out)["name"] == "affine"


def test_a_name_that_is_set_goes_before_the_files(run_motet: Motet, models: Path) -> None:
    arguments = ("compile", models / "affine.onnx", "-o", "a.motet", "--set", "name=mine")
    assert run_motet(*arguments).code == 0
    assert json.loads(run_motet("inspect", "a.motet", "--json").out)["name"] == "mine"


def test_inspect_json(run_motet: Motet, inception: Path, mobile: Path) -> None:
    facts = json.loads(run_motet("inspect", inception, "--json").out)
    [model] = facts["models"]
    assert facts["target"] == facts["array"]["name"] == "gemmini-16x16"
    assert model["inputs"] == [{"name": "image", "dtype": "float32", "shape": [1, 1, 32, 32]}]
    assert model["array_macs"] <= model["macs"]
    assert model["arena_bytes"] > 0
    assert len(model["operator_list"]) == model["operators"] >= model["array_operators"] > 0
    called = sum(program["calls"] for program in facts["array_programs"])
    assert called == model["array_operators"]
    [symbolic] = json.loads(run_motet("inspect", mobile, "--json").out)["models"]
    assert symbolic["inputs"][0]["shape"] == ["N", 1, 32, 32]
    assert symbolic["macs"] is None


def test_inspect_of_one_model_shows_its_kernels_only(run_motet: Motet, small: Path) -> None:
    facts = json.loads(run_motet("inspect", small, "--model", "counts", "--json").out)
    assert [model["name"] for model in facts["models"]] == ["counts"]
    everything = json.loads(run_motet("inspect", small, "--json").out)
    assert 0 < len(facts["kernels"]) < len(everything["kernels"])
