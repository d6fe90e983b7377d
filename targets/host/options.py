"""What a specification asks of all kernels of a bundle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelOptions:
    """reassociate: kernels may compute by another formula with a stated error bound
    (Winograd's convolution).
    """

    reassociate: bool = True
