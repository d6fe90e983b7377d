"""What a quantised model is made with, and what comes of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from motet.mixing import Mixed

if TYPE_CHECKING:
    import onnx

    from motet.compiler.calibration.histograms import Method
    from motet.compiler.quantizing.quantizer import ProductFigures
    from motet.targets.quantized.types import Granularity


@dataclass(frozen=True)
class QuantizeOptions:
    """How to quantise.

    setting: W/A/ws/as as in 4/8/6/10, or W/A; several, with commas between, are a ladder that
    each product's is chosen from (``motet.mixing``). granularity: of W/A: a scale per weight
    "channel" or "tensor". vector: V. method: how clipping limits of computed values are found;
    percentile: for that method. exclude: nodes, or patterns with * and ?, that stay floats.
    max_drop: how much less the metric may be than the float model's; None: any. max_size (bytes
    of the file), max_bits (a weight), min_sqnr (dB of the outputs): budgets of a mix. paper: scales
    rounded as in the VS-Quant paper. fold: scales and shifts behind products, such as
    batch-norm, go into their weights first. zero_points: values of lopsided range have an
    integer for 0, where no vectors are. correct_bias: the mean shift that integers cause is
    taken off the biases. rounding: of weights, to the "nearest" or as in GPTQ ("gptq"). smooth:
    how much of the spread of values over channels goes into weights, 0 to 1 (SmoothQuant).
    """

    setting: str = "8/8"
    granularity: Granularity = "channel"
    vector: int = 16
    method: Method = "mse"
    percentile: float = 99.99
    exclude: tuple[str, ...] = ()
    max_drop: float | None = None
    max_size: int | None = None
    max_bits: float | None = None
    min_sqnr: float | None = None
    paper: bool = False
    fold: bool = True
    zero_points: bool = True
    correct_bias: bool = True
    rounding: Literal["nearest", "gptq"] = "nearest"
    smooth: float | None = None


@dataclass(frozen=True)
class Evaluated:
    """A setting's outcome: signal to noise of the outputs, the metric, bytes of the file."""

    setting: str
    sqnr_db: float
    metric: float | None
    size_bytes: int


@dataclass
class Quantized:
    """A quantised model and how good it is.

    model: ONNX, opset 21 or newer. products: in the order of the graph, with their figures.
    raised: nodes with another setting than the model's, all of a mix; mixed: what that was chosen
    by; refused: nodes that stayed floats, and why; folded: nodes that went into products' weights,
    and which. float_metric: of the original; float_bytes: of its file. smoothed: by product, the
    node that divides its data, or "Mul" where one was added. options: it was made with.
    """

    model: onnx.ModelProto
    outcome: Evaluated
    products: list[ProductFigures]
    refused: dict[str, str]
    raised: dict[str, str] = field(default_factory=dict)
    float_metric: float | None = None
    float_bytes: int = 0
    beside: bool = False
    met: bool = True
    folded: dict[str, str] = field(default_factory=dict)
    mixed: Mixed | None = None
    smoothed: dict[str, str] = field(default_factory=dict)
    options: QuantizeOptions = field(default_factory=QuantizeOptions)

    @property
    def worst_first(self) -> list[ProductFigures]:
        """The products whose operands lose most, first."""
        return sorted(self.products, key=lambda one: one.sqnr_db)

    def save(self, path: str | PathLike[str]) -> None:
        """Write the model; whole or not at all."""
        from motet.compiler.onnx_files import write_whole

        write_whole(self.model, Path(fspath(path)), self.beside)
