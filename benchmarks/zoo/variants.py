"""Variants as text: ``NAME``, ``@SIZE`` or ``NAME@SIZE``.

The size is the edge of the image, or the length of the sequence.
"""

from __future__ import annotations

from collections.abc import Iterable

from motet.runtime.errors import SpecError


def parse(
    family: str, variant: str | None, known: Iterable[str], default: str, size: int
) -> tuple[str, int]:
    """The variant's name, and the edge of its square image in pixels or its sequence's length.

    Parameters
    ----------
    family: for messages.
    variant: what the user wrote; None is ``default`` at ``size``.
    known: the names that the family has.
    default, size: what stands for the part that is not given.

    Raises
    ------
    SpecError
        For a name that is not in ``known``, or a size that is no positive number.
    """
    names = tuple(known)
    name, at, edge = (variant or "").partition("@")
    name = name or default
    if name not in names:
        raise SpecError(f"{family} has no variant {name!r}; it has {', '.join(names)}")
    if not at:
        return name, size
    if not edge.isdecimal() or not int(edge):
        raise SpecError(f"variant {variant!r} of {family}: write NAME@SIZE, as in {default}@64")
    return name, int(edge)
