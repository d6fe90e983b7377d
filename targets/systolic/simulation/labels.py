"""Names of points in plots, put where they cover neither each other nor leave the axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

PLACES = (
    (7, 5, "left"), (-7, 5, "right"), (7, -12, "left"), (-7, -12, "right"),
    (0, 12, "center"), (0, -19, "center"), (7, 17, "left"), (-7, 17, "right"),
    (7, -24, "left"), (-7, -24, "right"),
    *((x, up, "center") for up in (-34, 30, -48, 44, -62, 58, -76) for x in (0, 40, -40)),
)  # fmt: skip
"""Where a name may stand: points right of and above its mark, and how it is aligned.

A far one is joined to its mark by a line.
"""
NEAR = 25
"""Points above or below a mark from which a name is far."""

_LINE = {"arrowstyle": "-", "color": "#9ca3af", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3}


def place_labels(
    figure: Any,
    axes: Any,
    labels: Sequence[tuple[str, tuple[float, float]]],
    most: int,
    radius: float = 4.0,
) -> int:
    """Name points of finished matplotlib axes; returns how many names found a place.

    labels: (name, place in data units), the most important first, of all marks, which have the
    ``radius`` in points. The first ``most`` are tried; one that has no free place inside the axes
    gets no name.
    """
    from matplotlib.text import Text

    figure.draw_without_rendering()
    taken = [text.get_window_extent() for text in axes.texts]
    taken += _marks(figure, axes, [place for _, place in labels], radius)
    inside = axes.get_window_extent()
    placed = 0
    for name, place in labels[:most]:
        for across, up, aligned in PLACES:
            text = axes.annotate(
                name, place, xytext=(across, up), textcoords="offset points", ha=aligned,
                fontsize=7, color="#374151", zorder=5, arrowprops=_LINE if abs(up) > NEAR else None,
            )  # fmt: skip
            text.get_window_extent()  # puts the text into its place; has the line in it
            box = Text.get_window_extent(text)
            is_inside = inside.x0 <= box.x0 and box.x1 <= inside.x1
            is_inside &= inside.y0 <= box.y0 and box.y1 <= inside.y1
            if is_inside and not any(box.overlaps(other) for other in taken):
                taken.append(box)
                placed += 1
                break
            text.remove()
    return placed


def _marks(figure: Any, axes: Any, places: Sequence[Any], radius: float) -> list[Any]:
    """The boxes of marks, in pixels."""
    from matplotlib.transforms import Bbox

    half = radius * figure.dpi / 72
    centres = axes.transData.transform(list(places)) if places else []
    return [Bbox([(x - half, y - half), (x + half, y + half)]) for x, y in centres]
