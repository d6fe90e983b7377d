"""Pictures as files: whole or not at all, and equal for equal drawings."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from motet.runtime.atomic import write_atomically

DOTS_PER_INCH = 150


def save_picture(figure: Any, path: Path) -> None:
    """Write a matplotlib ``figure`` in the format that the end of ``path`` says.

    Without the date, so that equal runs give equal files. Raises ``ValueError`` for a format
    that matplotlib does not have, ``OSError`` where the file cannot be written.
    """
    made, kind = io.BytesIO(), path.suffix.lower().removeprefix(".") or "png"
    figure.savefig(
        made, format=kind, dpi=DOTS_PER_INCH, metadata={"Date": None} if kind == "svg" else None
    )
    write_atomically(path, [made.getbuffer()])
