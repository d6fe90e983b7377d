"""Where the example models and their data are, for benchmarks that read them."""

from __future__ import annotations

from pathlib import Path

from motet.runtime.errors import SpecError


def examples() -> Path:
    """The folder of example models. Raises ``SpecError`` where it is not there."""
    folder = Path.cwd() / "examples"
    if not (folder / "models" / "digits_mobile.onnx").is_file():
        raise SpecError("this benchmark reads examples/: run it from the repository's root")
    return folder
