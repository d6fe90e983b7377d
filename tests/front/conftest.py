"""Bundles that the tests of the front door share, each compiled once per session."""

from __future__ import annotations

import sys
from pathlib import Path

import front_models
import pytest
from front_outcome import Motet, Outcome

import motet
from motet import cli

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def run_motet(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Motet:
    """``motet ARGUMENTS`` inside this process, through the console script's entry point."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MOTET_TRACEBACK", raising=False)

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["motet", *map(str, arguments)])
        capfd.readouterr()
        with pytest.raises(SystemExit) as left:
            cli.main()
        captured = capfd.readouterr()
        return Outcome(int(left.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models of ``front_models``."""
    folder = tmp_path_factory.mktemp("models")
    for make in ("affine", "half", "counts", "picture", "logarithm", "negative", "unsupported"):
        getattr(front_models, make)(folder / f"{make}.onnx")
    front_models.affine(folder / "open.onnx", "N")
    front_models.layers(folder / "layers.onnx")
    front_models.layers(folder / "open_layers.onnx", "N")
    return folder


@pytest.fixture(scope="session")
def small(models: Path) -> Path:
    """A host bundle of five small models."""
    names = ("affine", "half", "counts", "picture", "logarithm")
    return motet.compile([models / f"{name}.onnx" for name in names]).save(models / "small.motet")


@pytest.fixture(scope="session")
def mobile(models: Path) -> Path:
    """``digits_mobile`` for the host, any batch size."""
    return motet.compile(EXAMPLES / "models" / "digits_mobile.onnx").save(models / "mobile.motet")


@pytest.fixture(scope="session")
def inception(models: Path) -> Path:
    """``digits_inception`` for a 16 x 16 array, one image."""
    bundle = motet.compile(
        EXAMPLES / "models" / "digits_inception.onnx",
        target="gemmini-16x16",
        shapes={"image": (1, 1, 32, 32)},
    )
    return bundle.save(models / "inception.motet")
