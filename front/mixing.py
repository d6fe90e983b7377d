"""Mixed precision: the mix that a budget asks for, and whether the real model keeps to it.

Mixes are chosen by estimates (noises of single products add up); what is chosen is quantised
and measured. Where that is beyond the budget, the estimate's bound is moved by as much and
another mix is chosen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from motet.mix_options import Budget, Options, ladder, rung_name
from motet.runtime.errors import SpecError

if TYPE_CHECKING:
    from motet.compiler.quantizing.mixing import Mix, Mixer, Rung
    from motet.compiler.quantizing.products import Product
    from motet.compiler.quantizing.quantizer import Quantizer

ATTEMPTS = 6
"""Mixes that are quantised and measured at most, while a size or an error is not kept to."""

BISECTIONS = 6
"""Mixes that are measured in search of the smallest that keeps a metric."""


class Measured(Protocol):
    """What a quantised model turned out to be."""

    @property
    def sqnr_db(self) -> float:
        """Of the outputs."""

    @property
    def size_bytes(self) -> int:
        """Of the file."""

    @property
    def metric(self) -> float | None:
        """The user's, where there is one."""


Measure = Callable[[Mapping[str, "Rung"]], Measured]
"""Quantises with a setting for each product, and measures."""
Size = Callable[[Mapping[str, "Rung"]], int]
"""Bytes of the file with a setting for each product."""


def mixer_of(quantizer: Quantizer, options: Options) -> Mixer:
    """What mixes are chosen from: every product tried under every setting of the ladder."""
    from motet.compiler.quantizing.mixing import Mixer
    from motet.compiler.quantizing.sensitivity import sensitivities

    rungs = ladder(options)
    found = sensitivities(
        quantizer, rungs, method=options.method, percentile=options.percentile,
        paper=options.paper, corrected=options.correct_bias,
    )  # fmt: skip
    return Mixer(found, rungs)


@dataclass(frozen=True)
class MixedProduct:
    """What a product got, and what it was chosen by.

    bytes: of its weights and scales. noise_share: its part of the estimated noise of all.
    alone_db: by rung, the outputs' signal to noise with only this product quantised, and
    rung_bytes the bytes that it would take.
    """

    product: Product
    setting: str
    bytes: int
    noise_share: float
    alone_db: dict[str, float]
    rung_bytes: dict[str, int]


@dataclass(frozen=True)
class Mixed:
    """A mix of settings.

    estimated_db: the outputs' signal to noise by adding up; samples: that trials were made on.
    weight_bits: a weight, scales included. settings: by product. rows: in the graph's order.
    """

    budget: Budget
    settings: Mapping[str, Rung]
    estimated_db: float
    weight_bits: float
    samples: int
    rows: tuple[MixedProduct, ...]
    met: bool


def under_budget(
    mixer: Mixer, budget: Budget, measure: Measure, size_of: Size, float_metric: float | None
) -> Mixed:
    """The mix that ``budget`` asks for. Raises ``SpecError`` where nothing is so small."""
    if budget.drop is not None:
        return _under_drop(mixer, budget, lambda mix: _drop(float_metric, measure(mix).metric))
    if budget.sqnr is not None:
        return _under_error(mixer, budget, measure)
    return _under_size(mixer, budget, size_of, measure)


def _drop(before: float | None, now: float | None) -> float:
    return 0.0 if before is None or now is None else before - now


def _under_size(mixer: Mixer, budget: Budget, size_of: Size, measure: Measure) -> Mixed:
    """The least noise that a size, or a number of bits a weight, allows."""
    if budget.bits is not None:
        bound = math.floor(budget.bits * mixer.weights / 8)
        mix = mixer.under_size(bound)
        if mix is None:
            least = 8 * mixer.sizes[0] / max(mixer.weights, 1)
            raise SpecError(f"--max-bits {budget.bits:g}: the smallest mix takes {least:.2f}")
        return described(mixer, mix, budget, met=True)
    assert budget.size is not None
    rest, mixer = _costed(mixer, size_of)
    for _ in range(ATTEMPTS):
        mix = mixer.under_size(budget.size - rest)
        if mix is None:
            break
        settings = mixer.settings(mix)
        beyond = size_of(settings) - budget.size
        if beyond <= 0:  # the written file may be larger yet by what correcting it adds
            beyond = measure(settings).size_bytes - budget.size
        if beyond <= 0:
            return described(mixer, mix, budget, met=True)
        rest += beyond
    raise SpecError(
        f"--max-size: the smallest mix takes about {mixer.sizes[0] + rest} bytes, {rest} of them "
        "for what is no product; give settings of fewer bits"
    )


def _costed(mixer: Mixer, size_of: Size) -> tuple[int, Mixer]:
    """Bytes of the file without products, and the mixer with what each rung adds in nodes."""
    from motet.compiler.quantizing.mixing import Mixer

    rest = size_of(mixer.floats()) - mixer.float_bytes
    count = len(mixer.found.rows)
    uniform = [mixer.uniform(rung) for rung in range(len(mixer.rungs))]
    more = [size_of(mixer.settings(mix)) - mix.size - rest for mix in uniform]
    return rest, Mixer(mixer.found, mixer.rungs, [max(0, -(-bytes_ // count)) for bytes_ in more])


def _under_error(mixer: Mixer, budget: Budget, measure: Measure) -> Mixed:
    """The fewest bytes whose outputs are as near as is asked for, measured."""
    assert budget.sqnr is not None
    wanted_db = budget.sqnr
    for _ in range(ATTEMPTS):
        mix = mixer.under_noise(_noise(mixer, wanted_db)) or mixer.quietest
        short = budget.sqnr - measure(mixer.settings(mix)).sqnr_db
        if short <= 0 or mix == mixer.quietest:
            return described(mixer, mix, budget, met=short <= 0)
        wanted_db += 1.5 * short + 0.2
    return described(mixer, mix, budget, met=False)


def _under_drop(mixer: Mixer, budget: Budget, drop: Callable[[Mapping[str, Rung]], float]) -> Mixed:
    """The fewest bytes of mixes, ordered by their estimated noise, that keep the metric."""
    assert budget.drop is not None
    least, _ = mixer.sizes
    smallest = mixer.under_size(least)
    assert smallest is not None
    if drop(mixer.settings(smallest)) <= budget.drop:
        return described(mixer, smallest, budget, met=True)
    kept: Mix | None = None
    low, high = mixer.sqnr_db(smallest.noise), _best_db(mixer)
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        mix = mixer.under_noise(_noise(mixer, middle)) or mixer.quietest
        if drop(mixer.settings(mix)) <= budget.drop:
            kept, high = mix, middle
        else:
            low = middle
    if kept is None:
        kept = mixer.quietest
        return described(mixer, kept, budget, drop(mixer.settings(kept)) <= budget.drop)
    return described(mixer, kept, budget, met=True)


def _best_db(mixer: Mixer) -> float:
    """The signal to noise of the quietest mix; where that is exact, of the best one that is not."""
    quietest = mixer.sqnr_db(mixer.quietest.noise)
    if math.isfinite(quietest):
        return quietest
    rows = mixer.found.rows
    return mixer.sqnr_db(min(n for row in rows for n in row.noises if n > 0)) + 1


def _noise(mixer: Mixer, sqnr_db: float) -> float:
    return float(mixer.found.signal * 10 ** (-sqnr_db / 10))


def described(mixer: Mixer, mix: Mix, budget: Budget, met: bool) -> Mixed:
    """A mix with what it was chosen by."""
    return Mixed(
        budget,
        mixer.settings(mix),
        mixer.sqnr_db(mix.noise),
        8 * mix.size / max(mixer.weights, 1),
        mixer.found.samples,
        tuple(_rows(mixer, mix)),
        met,
    )


def _rows(mixer: Mixer, mix: Mix) -> list[MixedProduct]:
    from motet.compiler.quantizing.mixing import stored_bytes

    names = [rung_name(rung) for rung in mixer.rungs]
    made = []
    for row, chosen in zip(mixer.found.rows, mix.rungs, strict=True):
        sizes = [stored_bytes(row.product, choice) for choice in row.choices]
        alone = [mixer.sqnr_db(float(noise)) for noise in row.noises]
        share = float(row.noises[chosen]) / mix.noise if mix.noise else 0.0
        made.append(
            MixedProduct(
                row.product, names[chosen], sizes[chosen], share,
                dict(zip(names, alone, strict=True)), dict(zip(names, sizes, strict=True)),
            )
        )  # fmt: skip
    return made
