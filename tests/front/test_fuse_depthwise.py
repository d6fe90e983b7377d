"""``motet fuse-depthwise`` and ``motet.replace_depthwise``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner, Result

import motet
from motet.cli import motet as command
from motet.errors import CompileError, SpecError
from motet.passes.decisions import Decided, Decisions, Kept, NotReplaced, write_decisions

EXAMPLES = Path(__file__).parents[2] / "examples"
DIGITS = EXAMPLES / "models" / "digits_mobile.onnx"


def invoke(*arguments: Any) -> Result:
    return CliRunner().invoke(command, ["fuse-depthwise", *map(str, arguments)])


@pytest.fixture(scope="module")
def images() -> Any:
    data = np.load(EXAMPLES / "data" / "digits_heldout.npz")
    return (data["images"][:32] / np.float32(255)).astype(np.float32)[:, None]


def test_a_model_and_its_decisions(tmp_path: Path, images: Any) -> None:
    np.savez(tmp_path / "data.npz", image=images)
    out, told = tmp_path / "out.onnx", tmp_path / "told.json"
    given = ("--which", 6, "--which", "block8/depthwise/conv", "--calibrate", tmp_path / "data.npz")
    result = invoke(DIGITS, *given, "-o", out, "--decisions", told, "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert [one["index"] for one in facts] == list(range(8))
    assert [one["reason"] for one in facts] == ["not chosen"] * 6 + [""] * 2
    assert all(0 < one["relative_error"] < 0.6 for one in facts[6:])
    assert {one["error_of"] for one in facts[6:]} == {"outputs"}
    again = tmp_path / "again.onnx"
    assert invoke(DIGITS, "--apply", told, "-o", again).exit_code == 0
    assert again.read_bytes() == out.read_bytes()
    session = onnxruntime.InferenceSession(str(out), providers=["CPUExecutionProvider"])
    (wanted,) = session.run(None, {"image": images})
    settings = (
        "passes.replace_depthwise.enabled=true",
        f"passes.replace_depthwise.decisions={told}",
    )
    (mine,) = motet.load(motet.compile(DIGITS, settings=settings)).values()
    np.testing.assert_allclose(mine.run(None, {"image": images})[0], wanted, atol=1e-4)


def test_python(tmp_path: Path) -> None:
    made = motet.replace_depthwise(DIGITS, "full50", evaluate=lambda run: 7.0)
    assert (made.before, made.after) == (7.0, 7.0)
    assert len(made.decided.decisions.replacements) == 4
    made.save(tmp_path / "x.onnx")
    onnx.checker.check_model(str(tmp_path / "x.onnx"), full_check=True)
    with pytest.raises(SpecError, match="replace_depthwise: Invalid enum value 'fuller'"):
        motet.replace_depthwise(DIGITS, "fuller")  # type: ignore[arg-type]


def test_nothing_to_replace(tmp_path: Path) -> None:
    inception, out = EXAMPLES / "models" / "digits_inception.onnx", tmp_path / "q.onnx"
    why = "digits_inception.onnx: nothing to replace: it has no depthwise convolution"
    result = invoke(inception)
    assert result.exit_code == 0
    assert why in result.output
    result = invoke(inception, "-o", out)
    assert isinstance(result.exception, CompileError)
    assert str(result.exception) == why
    assert not out.exists()


def test_reasons_why_nothing_was_replaced(tmp_path: Path) -> None:
    told, out = tmp_path / "told.json", tmp_path / "q.onnx"
    kept = [
        NotReplaced(model="digits_mobile", index=n, nodes=(f"d{n}",), reason="not chosen")
        for n in range(5)
    ]
    write_decisions(Decided(Decisions(decisions=tuple(kept))), told)
    result = invoke(DIGITS, "--apply", told, "-o", out)
    assert str(result.exception).endswith("d2: not chosen; d3: not chosen; and 1 more")
    assert not out.exists()


def test_decisions_of_merges_are_refused(tmp_path: Path) -> None:
    told, out = tmp_path / "merged.json", tmp_path / "q.onnx"
    kept = Kept(model="digits_mobile", block=0, nodes=("stem/conv",), reason="activation")
    write_decisions(Decided(Decisions(decisions=(kept,))), told)
    result = invoke(DIGITS, "--apply", told, "-o", out)
    assert isinstance(result.exception, SpecError)
    assert "these are decisions of motet merge: give them to motet merge --apply" in str(
        result.exception
    )
    assert not out.exists()
    settings = (
        "passes.replace_depthwise.enabled=true",
        f"passes.replace_depthwise.decisions={told}",
    )
    with pytest.raises(SpecError, match="these are decisions of motet merge"):
        motet.compile(DIGITS, settings=settings)


def test_mistakes(tmp_path: Path) -> None:
    for arguments, message in [
        ((tmp_path / "x.toml",), "takes an .onnx file"),
        ((DIGITS, "-o", DIGITS), "would overwrite"),
        ((DIGITS, "--which", "nowhere"), "no depthwise convolution 'nowhere'"),
        ((DIGITS, "--apply", tmp_path / "none.json"), "none.json"),
        ((DIGITS, "--apply", "x.json", "--which", "1"), "leave out the others"),
    ]:
        result = invoke(*arguments)
        assert result.exit_code != 0
        assert message in f"{result.output}{result.exception}"
