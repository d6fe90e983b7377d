"""What the computed operands of products are like on calibration data."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np
import onnx

from motet.compiler.calibration.histograms import Magnitudes
from motet.compiler.calibration.values import ValueObserver
from motet.compiler.quantizing.products import computed_operands, require_finite_weights
from motet.runtime.device import Array

RunDone = Callable[[], None]


def nothing() -> None:
    """Nobody counts the runs."""


@dataclass
class Statistics:
    """Of the computed operands by tensor: magnitudes, and the shape in the last run."""

    magnitudes: dict[str, Magnitudes] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)

    def add(self, values: Mapping[str, Array]) -> None:
        """Remembers one run's values; those that are not float32 are left out."""
        for name, array in values.items():
            if array.dtype == np.float32:
                self.shapes[name] = array.shape
                axis = 1 if array.ndim > 1 else None
                self.magnitudes.setdefault(name, Magnitudes(f"value {name!r}", axis)).add(array)


def operands_of(
    model: onnx.ModelProto,
    shapes: Mapping[str, Sequence[int | str]] = MappingProxyType({}),
    more: Sequence[str] = (),
) -> ValueObserver:
    """The computed operands of ``model``'s products, and values ``more``, compiled to be run.

    Raises ``CompileError`` where weights are NaN or infinite, and what compiling raises.
    """
    require_finite_weights(model)
    return ValueObserver(model, list(dict.fromkeys([*computed_operands(model), *more])), shapes)


def statistics_of(
    model: onnx.ModelProto,
    data: Iterable[Mapping[str, Array]],
    shapes: Mapping[str, Sequence[int | str]] = MappingProxyType({}),
    run_done: RunDone = nothing,
    operands: ValueObserver | None = None,
) -> Statistics:
    """Statistics of ``model``'s products over the runs of ``data``.

    operands: as ``operands_of`` gives them, where they are compiled already.

    Raises ``CompileError`` for a value that is NaN or infinite on them, and what compiling and
    reading ``data`` raise.
    """
    found = Statistics()
    names = computed_operands(model)
    observer = operands or operands_of(model, shapes)
    for inputs in data if names else ():
        values = observer.run(inputs)
        found.add({name: values[name] for name in names})
        run_done()
    return found
