"""First and second moments of columns, seen a piece at a time: memory does not grow with them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Reals64 = NDArray[np.float64]


@dataclass
class Moments:
    """Of columns [groups, depth, n].

    total, count: the sum of all columns, and how many. gram: the sum of c c^T over those that
    were sampled, [groups, depth, depth]; None: not wanted. sampled: their sum; samples: number.
    """

    groups: int
    depth: int
    with_gram: bool = False
    count: int = 0
    samples: int = 0
    total: Reals64 = field(init=False)
    sampled: Reals64 = field(init=False)
    gram: Reals64 | None = field(init=False)

    def __post_init__(self) -> None:
        self.total = np.zeros((self.groups, self.depth))
        self.sampled = np.zeros((self.groups, self.depth))
        whole = (self.groups, self.depth, self.depth)
        self.gram = np.zeros(whole) if self.with_gram else None

    def add_sum(self, total: Reals64, count: int) -> None:
        """Remembers the sum of ``count`` columns, [groups, depth]."""
        self.total += total
        self.count += count

    def add_sample(self, columns: NDArray[np.float32]) -> None:
        """Remembers a sample of columns, [groups, depth, n]."""
        assert self.gram is not None
        self.gram += columns @ columns.transpose(0, 2, 1)
        self.sampled += columns.sum(-1, dtype=np.float64)
        self.samples += columns.shape[-1]

    @property
    def mean(self) -> Reals64:
        """Of all columns, [groups, depth]; 0 where there were none."""
        return self.total / max(self.count, 1)

    def second(self, *, centred: bool) -> Reals64:
        """The mean of c c^T over the sample, less that of the mean column where ``centred``."""
        assert self.gram is not None
        mean = self.sampled / max(self.samples, 1)
        found = self.gram / max(self.samples, 1)
        return found - mean[:, :, None] * mean[:, None, :] if centred else found
