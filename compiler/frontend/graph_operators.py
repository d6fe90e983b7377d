"""Operators of the default domain that hold graphs, and who converts them."""

from __future__ import annotations

from collections.abc import Callable

from .control_flow import Site, Walk, choose
from .loops import loop, sequence_map
from .scans import scan
from .values import Value

CONVERTERS: dict[str, Callable[[Walk, Site], list[Value]]] = {
    "If": choose,
    "Loop": loop,
    "Scan": scan,
    "SequenceMap": sequence_map,
}
