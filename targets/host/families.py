"""The kernel families that are measured and modelled, by name."""

from __future__ import annotations

from motet.targets.host.kernels.attending import family as attending
from motet.targets.host.kernels.blocked_conv import family as blocked_conv
from motet.targets.host.kernels.blocked_conv import integer_family
from motet.targets.host.kernels.matmul import family as matmul
from motet.targets.host.kernels.pooling import space as pooling
from motet.targets.host.kernels.recurrent import family as recurrent
from motet.targets.host.space import Family


def families() -> dict[str, Family]:
    """Name -> family."""
    every = (
        blocked_conv.FAMILY, integer_family.FAMILY, integer_family.TILED, matmul.FAMILY,
        pooling.FAMILY, recurrent.FAMILY, attending.FAMILY,
    )  # fmt: skip
    return {family.name: family for family in every}
