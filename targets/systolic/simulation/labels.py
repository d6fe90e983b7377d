"""Names of points in plots, put where they cover neither each other nor leave the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PLACES = (
    (7, 5, "left"), (-7, 5, "right"), (7, -12, "left"), (-7, -12, "right"),
    (0, 12, "center"), (0, -19, "center"), (7, 17, "left"), (-7, 17, "right"),
    (7, -24, "left"), (-7, -24, "right"),
)  # fmt: skip
"""Where a name may stand: points right of and above its mark, and how it is aligned."""


def place_labels(
    figure: Any, axes: Any, labels: Sequence[tuple[str, tuple[float, float]]], most: int
) -> int:
    """Name points of finished matplotlib axes; returns how many names found a place.

    labels: (name, place in data units), the most important first. The first ``most`` are tried;
    one that has no free place inside the axes gets no name.
    """
    figure.draw_without_rendering()
    taken = [text.get_window_extent() for text in axes.texts]
    inside = axes.get_window_extent()
    placed = 0
    for name, place in labels[:most]:
        for across, up, aligned in PLACES:
            text = axes.annotate(
                name, place, xytext=(across, up), textcoords="offset points", ha=aligned,
                fontsize=7, color="#374151", zorder=5,
            )  # fmt: skip
            box = text.get_window_extent()
            is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1
            is_inside &= inside.y0 <= box.y0 and box.y1 <= inside.y1
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                placed += 1
                break
            text.remove()
    return placed
