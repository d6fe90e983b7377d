"""Settings as the literature writes them: W/A/ws/as, as in 4/8/6/10.

Bits of weights, of activations, of the weights' vector scales and of the activations' (Dai et
al., "VS-Quant", MLSys 2021, section 5). ``-`` or nothing in place of scale bits: scales are
float32 (one level). ``4/8`` alone says nothing of vectors: a scale per channel of the weights
and one per tensor of activations.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from motet.runtime.errors import SpecError
from motet.targets.quantized.types import Granularity, QuantType

_FORM = re.compile(r"(\d+)/(\d+)(?:/(\d+|-)/(\d+|-))?")


@dataclass(frozen=True)
class Setting:
    """Types of a product's operands.

    weights, activations: signed types; ``unsigned`` gives that of what is never negative.
    """

    weights: QuantType
    activations: QuantType

    def unsigned(self) -> QuantType:
        """The activations' type where they are never negative: one bit more of magnitude."""
        kind = self.activations
        return replace(kind, signed=False)

    def __str__(self) -> str:
        w, a = self.weights, self.activations
        bits = f"{w.bits}/{a.bits}"
        if w.granularity != "vector" and a.granularity != "vector":
            return bits + (" per tensor" if w.granularity == "tensor" else " per channel")
        return f"{bits}/{w.scale_bits or '-'}/{a.scale_bits or '-'} V={w.vector}"


def setting(text: str, vector: int = 16, granularity: Granularity = "channel") -> Setting:
    """The setting that ``text`` writes.

    Parameters
    ----------
    text: ``W/A/ws/as`` (vectors of ``vector`` elements), or ``W/A`` (weights of ``granularity``,
        activations per tensor, or both of vectors).

    Raises
    ------
    SpecError: for another form, and for bits that no type has.
    """
    found = _FORM.fullmatch(text.replace(" ", ""))
    if found is None:
        raise SpecError(
            f"{text!r} is no setting: write bits of weights/activations/weight scales/activation "
            "scales, as in 4/8/6/10, or 8/8 without vectors"
        )
    weights, activations = int(found[1]), int(found[2])
    if found[3] is None and granularity != "vector":
        return Setting(
            QuantType(weights, True, granularity), QuantType(activations, True, "tensor")
        )
    return Setting(
        QuantType(weights, True, "vector", vector, _scale_bits(found[3])),
        QuantType(activations, True, "vector", vector, _scale_bits(found[4])),
    )


def _scale_bits(text: str | None) -> int | None:
    return None if text is None or text == "-" else int(text)
