"""Names in plots keep apart and inside the axes."""

import itertools

import pytest

from motet.targets.systolic.simulation.labels import place_labels


def test_names_keep_apart_and_inside():
    pytest.importorskip("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.text import Text

    figure = Figure(figsize=(5, 4))
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1))
    places = [(0.5, 0.5), (0.51, 0.5), (0.5, 0.51), (0.99, 0.99), (0.01, 0.01)]
    labels = [(f"a layer's name {i}", place) for i, place in enumerate(places)]
    assert place_labels(figure, axes, labels, 5) == len(axes.texts) == 5
    boxes = [Text.get_window_extent(text) for text in axes.texts]
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    inside = axes.get_window_extent()
    assert all(inside.contains(*box.min) and inside.contains(*box.max) for box in boxes)
    assert place_labels(figure, axes, labels, 2) <= 2
