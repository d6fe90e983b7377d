"""A step's output matrix in chunks, and which pod makes which.

Columns are outermost, so that vectors over columns are loaded once per pod and column
chunk; rows are dealt out to the pods in blocks of whole tiles.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

from motet.targets.systolic.mappings.mapping import Mapping


class Chunk(NamedTuple):
    """A part of a matrix, its pod, and its number among that pod's chunks."""

    pod: int
    number: int
    row: int
    column: int
    rows: int
    columns: int


def chunks(mapping: Mapping, rows: int, columns: int) -> Iterator[Chunk]:
    """Chunks of [rows, columns] of the mapping's tile size, pod after pod."""
    tiles = math.ceil(rows / mapping.tile_rows)
    per_pod = math.ceil(tiles / mapping.pods) * mapping.tile_rows
    for pod, begin in zip(mapping.pod_numbers, range(0, rows, per_pod), strict=False):
        end, number = min(rows, begin + per_pod), 0
        for column in range(0, columns, mapping.tile_columns):
            width = min(mapping.tile_columns, columns - column)
            for row in range(begin, end, mapping.tile_rows):
                height = min(mapping.tile_rows, end - row)
                yield Chunk(pod, number, row, column, height, width)
                number += 1
