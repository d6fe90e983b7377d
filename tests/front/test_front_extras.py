"""Commands without a package that an extra brings: one line that says what to install."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == {package!r}:
            raise ModuleNotFoundError(f"No module named {{name!r}}", name=name)
sys.meta_path.insert(0, Absent())
sys.argv = ["motet", *{arguments!r}]
from motet import cli
cli.main()
"""


def without(package: str, folder: Path, *arguments: object) -> tuple[int, str]:
    """Exit code and stderr of ``motet ARGUMENTS`` where ``package`` is not installed."""
    code = WITHOUT.format(package=package, arguments=[*map(str, arguments)])
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stderr


@pytest.mark.parametrize(
    ("package", "extra", "arguments"),
    [
        ("numba", "simulate", "simulate layers.onnx"),
        ("numba", "simulate", "simulate small.motet"),
        ("numba", "simulate", "inspect layers.onnx --target tiny-4x4"),
        ("numba", "simulate", "compile layers.onnx --target tiny-4x4"),
        ("numba", "simulate", "run small.motet"),
        ("numba", "simulate", "explore layers.onnx --sweep size=4 --jobs 1"),
        ("joblib", "explore", "explore layers.onnx --sweep size=4"),
        ("matplotlib", "plot", "simulate layers.onnx --target tiny-4x4 --plot roofline.svg"),
    ],
)
def test_the_extra_is_named(
    inception: Path, models: Path, tmp_path: Path, package: str, extra: str, arguments: str
) -> None:
    (tmp_path / "layers.onnx").write_bytes((models / "layers.onnx").read_bytes())
    (tmp_path / "small.motet").write_bytes(inception.read_bytes())
    code, error = without(package, tmp_path, *arguments.split())
    assert code == 3, error
    assert error.count("\n") == 1
    assert f"pip install 'motet[{extra}]'" in error


@pytest.mark.parametrize("command", ["simulate", "explore", "inspect", "compile"])
def test_help_needs_no_extra(tmp_path: Path, command: str) -> None:
    assert without("numba", tmp_path, command, "--help") == (0, "")


def test_assembly_text_needs_no_extra(inception: Path, tmp_path: Path) -> None:
    assert without("numba", tmp_path, "inspect", inception, "--asm") == (0, "")
