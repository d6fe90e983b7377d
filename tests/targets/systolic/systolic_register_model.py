"""A register-level model of a weight-stationary array with double-buffered weights.

Independent of the project's closed form: it steps a grid of processing elements
cycle by cycle and only knows local rules. Every element has an active and a shadow
weight, passes its input to the right and its partial sum down. Row j of a tile's
weights is captured into the shadows one row a cycle, skewed by one cycle a column;
an element moves its shadow into the active register when the first input of the
tile reaches it. A tile's first row may enter once all its weights are captured (the
capture of row r in that cycle's wave counts) and the tile before it has streamed.
"""

from __future__ import annotations

import numpy as np


class Element:
    """One processing element's registers."""

    def __init__(self) -> None:
        self.active = 0
        self.shadow = 0
        self.value: tuple[int, int, int] | None = None  # (tile, row, input)
        self.partial: tuple[int, int, int] | None = None  # (tile, row, sum)


def simulate(tiles, rows, columns):
    """Run ``tiles`` of (inputs [T, rows], weights [rows, columns]), integers.

    Returns (cycles until the last output is registered, outputs per tile [T, columns]).
    """
    grid = [[Element() for _ in range(columns)] for _ in range(rows)]
    outputs = [np.zeros((len(x), columns), np.int64) for x, _ in tiles]
    remaining = sum(out.size for out in outputs)
    entered: dict[tuple[int, int], int] = {}  # (tile, row) -> cycle at which it entered
    capture_tile, capture_row = 0, 0
    captures: dict[tuple[int, int], int] = {}  # (tile, weight row) -> cycle
    stream_tile, stream_row = 0, 0
    cycle = 0
    while remaining:
        # The controller: may the next input row enter?
        loaded = (stream_tile, rows - 1) in captures
        if stream_tile < len(tiles) and loaded:
            entered[stream_tile, stream_row] = cycle
            stream_row += 1
            if stream_row == len(tiles[stream_tile][0]):
                stream_tile, stream_row = stream_tile + 1, 0
        # May the next weight row be captured? Its shadows must have been handed over.
        if capture_tile < len(tiles):
            free = capture_tile == 0 or entered.get((capture_tile - 1, 0), cycle + 1) <= cycle
            if free:
                captures[capture_tile, capture_row] = cycle
                capture_row += 1
                if capture_row == rows:
                    capture_tile, capture_row = capture_tile + 1, 0
        remaining -= clock_edge(grid, tiles, outputs, entered, captures, cycle)
        cycle += 1
        assert cycle < 100_000, "the array is stuck"
    return cycle, outputs


def clock_edge(grid, tiles, outputs, entered, captures, cycle):
    """Advance all registers by a cycle; returns the outputs that were registered."""
    rows, columns = len(grid), len(grid[0])
    arriving_at = {at: key for key, at in entered.items()}
    captured_at = {at: key for key, at in captures.items()}
    finished = 0
    # From the last element to the first, so that neighbours still show their old state.
    for r in reversed(range(rows)):
        for c in reversed(range(columns)):
            element = grid[r][c]
            if c == 0:
                key = arriving_at.get(cycle - r)
                value = None if key is None else (*key, int(tiles[key[0]][0][key[1]][r]))
            else:
                value = grid[r][c - 1].value
            above = None if r == 0 else grid[r - 1][c].partial
            if value is not None and value[1] == 0:
                element.active = element.shadow
            key = captured_at.get(cycle - c)
            if key is not None and key[1] == r:
                element.shadow = int(tiles[key[0]][1][r][c])
            element.value, element.partial = value, None
            if value is None:
                continue
            tile, row, number = value
            assert r == 0 or above[:2] == (tile, row), "rows of different tiles met"
            total = number * element.active + (0 if r == 0 else above[2])
            element.partial = (tile, row, total)
            if r == rows - 1:
                outputs[tile][row, c] = total
                finished += 1
    return finished
