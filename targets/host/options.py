"""What a specification asks of all kernels of a bundle."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class KernelOptions:
    """reassociate: kernels may compute by another formula with a stated error bound
    (Winograd's convolution). compute: format of what convolutions and matrix products multiply,
    ``"fp32"`` or ``"bf16"``; in the latter the graph has rounded their operands already.
    """

    reassociate: bool = True
    compute: str = "fp32"
