"""What mixed precision is asked for: budgets, and ladders of settings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from motet.runtime.errors import SpecError

if TYPE_CHECKING:
    from motet.compiler.calibration.histograms import Method
    from motet.compiler.quantizing.mixing import Rung
    from motet.targets.quantized.notation import Setting
    from motet.targets.quantized.types import Granularity

FLOAT = "float32"


@dataclass(frozen=True)
class Budget:
    """What a mix keeps to; one of them is given.

    size: bytes of the file. bits: a weight, of those that are products', scales included.
    sqnr: the outputs' least signal to noise, dB. drop: of the metric, at most.
    """

    size: int | None = None
    bits: float | None = None
    sqnr: float | None = None
    drop: float | None = None

    def __post_init__(self) -> None:
        given = [name for name, value in _names(self).items() if value is not None]
        if len(given) > 1:
            raise SpecError(f"{' and '.join(given)}: give one budget")

    def __str__(self) -> str:
        if self.size is not None:
            return f"at most {self.size} bytes"
        if self.bits is not None:
            return f"at most {self.bits:g} bits a weight"
        if self.sqnr is not None:
            return f"outputs at {self.sqnr:g} dB at least"
        return f"a metric that drops by {self.drop:g} at most"


def _names(budget: Budget) -> dict[str, float | None]:
    return {
        "--max-size": budget.size,
        "--max-bits": budget.bits,
        "--min-sqnr": budget.sqnr,
        "--max-drop": budget.drop,
    }


class Options(Protocol):
    """What mixing reads of ``quantizing.QuantizeOptions``."""

    @property
    def setting(self) -> str:
        """One setting, or several with commas between."""

    @property
    def granularity(self) -> Granularity:
        """Of settings without vectors."""

    @property
    def vector(self) -> int:
        """Elements of a vector."""

    @property
    def method(self) -> Method:
        """How limits are found."""

    @property
    def percentile(self) -> float:
        """For that method."""

    @property
    def paper(self) -> bool:
        """Scales as the paper has them."""

    @property
    def correct_bias(self) -> bool:
        """Biases take up mean errors."""

    @property
    def max_size(self) -> int | None:
        """Bytes."""

    @property
    def max_bits(self) -> float | None:
        """A weight."""

    @property
    def min_sqnr(self) -> float | None:
        """Of the outputs, dB."""

    @property
    def max_drop(self) -> float | None:
        """Of the metric."""


def is_mixed(options: Options) -> bool:
    """Whether ``options`` ask for settings of more than one kind.

    Raises ``SpecError`` for a ladder without a budget, and for several budgets.
    """
    budget = budget_of(options)
    wanted = any((budget.size, budget.bits, budget.sqnr is not None))
    if "," in options.setting and not wanted and budget.drop is None:
        raise SpecError(
            f"--setting {options.setting}: several settings are a ladder to choose from; give a "
            "budget: --max-size, --max-bits, --min-sqnr or --max-drop"
        )
    return wanted or "," in options.setting


def budget_of(options: Options) -> Budget:
    """The budget that ``options`` give. Raises ``SpecError`` where there are several."""
    return Budget(options.max_size, options.max_bits, options.min_sqnr, options.max_drop)


def ladder(options: Options) -> list[Rung]:
    """The settings to choose from: those of ``options``, or 4/4, 4/8 and 8/8 of its one's form.

    float32 (None) is the last of the latter. Raises ``SpecError`` for what is no setting, and
    for fewer than two.
    """
    from motet.targets.quantized.notation import setting

    texts = [text.strip() for text in options.setting.split(",")]
    rungs: list[Rung] = [
        None if text == FLOAT else setting(text, options.vector, options.granularity)
        for text in texts
    ]
    if len(rungs) == 1 and rungs[0] is not None:
        given = rungs[0]
        usual = [_with_bits(given, *bits) for bits in ((4, 4), (4, 8), (8, 8))]
        rungs = [*([] if given in usual else [given]), *usual, None]
    if len(rungs) < 2 or len(set(rungs)) < len(rungs):
        raise SpecError(f"--setting {options.setting}: give two settings or more, each once")
    return rungs


def _with_bits(given: Setting, weights: int, activations: int) -> Setting:
    return replace(
        given,
        weights=replace(given.weights, bits=weights),
        activations=replace(given.activations, bits=activations),
    )


def rung_name(rung: Rung) -> str:
    """As in tables: 4/8 per channel, float32."""
    return FLOAT if rung is None else str(rung)
