"""What a decision costs: one answer for placement, merging, scheduling, whoever gives it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Provenance = Literal["formula", "simulated", "measured", "predicted"]


@dataclass(frozen=True)
class Cost:
    """seconds: of one run. provenance: how they were found."""

    seconds: float
    provenance: Provenance
