"""The kernel families that declare a schedule space, by name."""

from __future__ import annotations

from motet.targets.host.kernels.attending import family as attention
from motet.targets.host.kernels.blocked_conv import family as blocked_conv
from motet.targets.host.kernels.matmul import family as matmul
from motet.targets.host.kernels.pooling import space as pooling
from motet.targets.host.kernels.recurrent import family as recurrent
from motet.targets.host.space import Family


def families() -> dict[str, Family]:
    """Name -> family."""
    every = (attention.FAMILY, blocked_conv.FAMILY, matmul.FAMILY, pooling.FAMILY, recurrent.FAMILY)
    return {family.name: family for family in every}
