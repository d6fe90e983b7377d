"""``--help`` of a benchmark from its module's docstring."""

from __future__ import annotations

_AS_IT_IS = "\b\n"
"""What tells click to leave the lines of a paragraph alone."""


def help_of(docstring: str | None) -> str:
    """``docstring`` for click: paragraphs that are indented, commands, keep their lines."""
    paragraphs = (docstring or "").replace("``", "'").split("\n\n")
    return "\n\n".join(_AS_IT_IS + p if p.startswith("    ") else p for p in paragraphs)
