"""Pictures as files: whole or not at all, and equal for equal drawings."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from motet.runtime.atomic import write_atomically

DOTS_PER_INCH = 150
PICTURES = ("svg", "png", "pdf", "eps", "ps", "svgz", "jpg", "jpeg", "tif", "tiff", "webp", "gif")
"""Ends of files that matplotlib writes as pictures that others read."""


def kind_of(path: Path) -> str:
    """The format that the end of ``path`` says; without one it is a PNG."""
    return path.suffix.lower().removeprefix(".") or "png"


def save_picture(figure: Any, path: Path) -> None:
    """Write a matplotlib ``figure`` in the format that the end of ``path`` says.

    Without the date, so that equal runs give equal files. Raises ``ValueError`` for a format
    that is none of ``PICTURES``, ``OSError`` where the file cannot be written.
    """
    made, kind = io.BytesIO(), kind_of(path)
    figure.savefig(
        made, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None
    )
    write_atomically(path, [made.getbuffer()])
