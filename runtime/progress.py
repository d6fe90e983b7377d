"""How slow work tells what it does: it calls a function with a line, and knows no more of it."""

from __future__ import annotations

from collections.abc import Callable

Show = Callable[[str], None]
"""Takes a line that says what is being done now, without its end; every call is a step."""


def silent(_line: str) -> None:
    """No progress wanted."""
