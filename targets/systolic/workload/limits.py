"""What every layer's sizes have to satisfy."""

from __future__ import annotations

from motet.runtime.errors import CompileError

MAX_ELEMENTS = 2**31 - 1


def require(condition: bool, layer: object, rule: str) -> None:
    """Raise ``CompileError`` with ``rule`` and the layer unless ``condition``."""
    if not condition:
        raise CompileError(f"{rule}: {layer}")


def require_size(elements: int, layer: object) -> None:
    """Raise ``CompileError`` where a tensor of ``layer`` has too many values."""
    require(elements <= MAX_ELEMENTS, layer, "a tensor may hold at most 2**31 - 1 values")
