"""Files that appear whole or not at all."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


def write_atomically(target: Path, parts: Iterable[bytes | memoryview]) -> None:
    """Write ``parts``, one behind the other, to a file beside ``target``; then rename it.

    Raises ``OSError``; what was at ``target`` is then untouched and nothing is left behind.
    """
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(8)}")
    # The mode is what open() gives; the system takes the user's umask from it.
    try:
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except OSError as error:
        error.filename = str(target)  # nobody asked for the other name
        raise
    try:
        with os.fdopen(handle, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
