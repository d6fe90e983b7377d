"""Fields of instructions as 64-bit integers: products of narrower ones would wrap or turn float."""

from __future__ import annotations

from typing import Any

import numpy as np

from motet.targets.systolic.simulation.compiled import kernel


@kernel
def wide(value: Any) -> int:
    """``value`` as int64."""
    return np.int64(value)  # type: ignore[return-value]
