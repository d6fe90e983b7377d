"""Quantisation after training, over settings: vectors against channels and tensors.

Claim (Dai et al., VS-Quant, MLSys 2021, tables 3 to 6): with 4 bits, scales per vector keep what
scales per channel lose, and 4-bit weights with 8-bit activations are near full precision.

    python -m motet.benchmarks.quantization [--methods] [--model NAME]... [--json]

With --methods: what each way of finding ranges, integers and biases gives, one after another.
A column is a trained model, a row a setting; cells are the signal to noise of the outputs
against the float model's, dB, on inputs that calibration has not seen, and in brackets accuracy
where there are labels. The files run in onnxruntime with its optimisations off, which computes
them as they are written. Models: those of ``examples``, and of the folder that MOTET_MODELS
names (magika over its labelled files, minifas, ultraface, yolox_nano on crops of a
photograph, ttm on sums of sines).
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import onnxruntime

from motet.benchmarks import magika_files
from motet.benchmarks.command_help import help_of
from motet.benchmarks.examples import examples
from motet.compiler.quantizing.figures import decibels
from motet.compiler.quantizing.quantizer import Quantizer
from motet.compiler.quantizing.refining import Refinement
from motet.console import output, print_json, progress, table
from motet.quantized_model import QuantizeOptions
from motet.runtime.device import Array
from motet.runtime.progress import Show
from motet.targets.quantized.notation import Setting, setting

SETTINGS: tuple[tuple[str, str, int], ...] = (
    ("8/8", "tensor", 16), ("8/8", "channel", 16), ("8/8/6/10", "vector", 16),
    ("4/8", "tensor", 16), ("4/8", "channel", 16),
    *(("4/8/6/10", "vector", v) for v in (16, 32, 64)),
    ("4/4", "tensor", 16), ("4/4", "channel", 16),
    *(("4/4/4/4", "vector", v) for v in (16, 32, 64)),
)  # fmt: skip
METHODS: tuple[tuple[str, QuantizeOptions], ...] = (
    ("nearest, range by max", QuantizeOptions(
        method="max", zero_points=False, correct_bias=False)),
    ("+ range by mse", QuantizeOptions(zero_points=False, correct_bias=False)),
    ("+ zero points", QuantizeOptions(correct_bias=False)),
    ("+ bias correction", QuantizeOptions()),
    ("+ GPTQ", QuantizeOptions(rounding="gptq")),
    ("+ SmoothQuant 0.5", QuantizeOptions(rounding="gptq", smooth=0.5)),
)  # fmt: skip
"""Each with what those before it have."""
DEFAULTS = QuantizeOptions()
TRIED: tuple[tuple[str, str, int], ...] = (
    ("8/8", "channel", 16), ("4/8", "channel", 16), ("4/8/6/10", "vector", 16),
)  # fmt: skip
"""Settings of the table of methods."""
Run = dict[str, Array]
Right = Callable[[list[Array]], list[bool]]


@dataclass(frozen=True)
class Trial:
    """A model, runs to calibrate on, others to judge by, and whether each answer is right."""

    path: Path
    calibration: Sequence[Run]
    held_out: Sequence[Run]
    right: Right | None = None


@dataclass(frozen=True)
class Cell:
    """A model under a setting."""

    model: str
    setting: str
    outputs_sqnr_db: float
    accuracy_percent: float | None
    size_bytes: int


def models_folder() -> Path | None:
    """The folder of trained models that the user has."""
    name = os.environ.get("MOTET_MODELS")
    return Path(name) if name else None


def digits(name: str) -> Trial:
    """A network of ``examples`` on its own digits."""
    seen = np.load(examples() / "data" / "digits_calibration.npz")["image"]
    held = np.load(examples() / "data" / "digits_heldout.npz")
    images = (held["images"].astype(np.float32) / 255)[:, None]
    labels = held["labels"]

    def right(outputs: list[Array]) -> list[bool]:
        return [bool(o.argmax() == label) for o, label in zip(outputs, labels, strict=True)]

    path = examples() / "models" / f"{name}.onnx"
    return Trial(path, _runs("image", seen[:64]), _runs("image", images), right)


def magika(folder: Path) -> Trial:
    """File types: calibrated on every other file, judged on all."""
    found = magika_files.samples(folder)

    def right(outputs: list[Array]) -> list[bool]:
        labels = [magika_files.label_of(o[0], found.config) for o in outputs]
        return [one == other for one, other in zip(labels, found.labels, strict=True)]

    runs = _runs("bytes", found.inputs)
    return Trial(folder / magika_files.MODEL, runs[::2], runs, right)


def photograph(folder: Path, name: str, scale: float, shift: float) -> Trial:
    """A vision network on crops of a photograph, as pixels 0 to 255 times scale plus shift."""
    path = folder / f"{name}.onnx"
    info = onnx.load(path, load_external_data=False).graph.input[0]
    sizes = [dim.dim_value or 1 for dim in info.type.tensor_type.shape.dim]
    normal = np.load(folder / "data" / "grace_hopper_1x3x224x224.npy")[0]
    mean, std = np.array([[0.485], [0.456], [0.406]]), np.array([[0.229], [0.224], [0.225]])
    pixels = 255 * (normal.reshape(3, -1) * std + mean).reshape(normal.shape)
    crops = [_crop(pixels, sizes[2], sizes[3], seed) * scale + shift for seed in range(16)]
    runs = _runs(info.name, np.stack(crops).astype(np.float32))
    return Trial(path, runs[:8], runs[8:])


def series(folder: Path) -> Trial:
    """A forecaster on sums of sines with noise."""
    rng, time = np.random.default_rng(0), np.arange(512)[:, None]
    waves = [
        sum(np.sin(time / p + rng.uniform(0, 6, 7)) for p in rng.uniform(3, 80, 3))
        + 0.1 * rng.standard_normal((512, 7))
        for _ in range(16)
    ]
    path = folder / "ttm.onnx"
    name = onnx.load(path, load_external_data=False).graph.input[0].name
    runs = _runs(name, np.stack(waves).astype(np.float32))
    return Trial(path, runs[:8], runs[8:])


TRIALS: dict[str, Callable[[Path], Trial]] = {
    "magika": magika,
    "minifas": lambda folder: photograph(folder, "minifas", 1 / 255, 0),
    "ultraface": lambda folder: photograph(folder, "ultraface_rfb320_simp", 1 / 128, -127 / 128),
    "yolox_nano": lambda folder: photograph(folder, "yolox_nano", 1, 0),
    "ttm": series,
}
DIGITS = ("digits_mobile", "digits_inception", "digits_transformer")


def measured(name: str, trial: Trial, show: Show) -> list[Cell]:
    """The float model, then every setting."""
    show(f"{name}: calibrating")
    quantizer = Quantizer(trial.path, trial.calibration)
    exact = _outputs(quantizer.model, trial.held_out)
    cells = [Cell(name, "float32", math.inf, _accuracy(trial, exact), trial.path.stat().st_size)]
    for text, granularity, vector in SETTINGS:
        wanted = setting(text, vector, granularity)  # type: ignore[arg-type]
        show(f"{name}: {wanted}")
        cells.append(_cell(name, str(wanted), trial, _made(quantizer, wanted), exact))
    return cells


def methods(name: str, trial: Trial, show: Show) -> list[Cell]:
    """Every setting of ``TRIED`` by every method."""
    show(f"{name}: calibrating")
    plain, smooth = (Quantizer(trial.path, trial.calibration, smooth=s) for s in (None, 0.5))
    exact = _outputs(plain.model, trial.held_out)
    cells = []
    for text, granularity, vector in TRIED:
        wanted = setting(text, vector, granularity)  # type: ignore[arg-type]
        for label, options in METHODS:
            show(f"{name}: {wanted}, {label}")
            model = _made(plain if options.smooth is None else smooth, wanted, options)
            cells.append(_cell(name, f"{wanted}: {label}", trial, model, exact))
    return cells


def _made(
    quantizer: Quantizer, wanted: Setting, options: QuantizeOptions = DEFAULTS
) -> onnx.ModelProto:
    """The model under ``wanted``, quantised as ``options`` say."""
    quantizer.zero_points = options.zero_points
    choices = quantizer.choices(wanted, method=options.method)
    how = Refinement(options.rounding, options.correct_bias)
    return quantizer.quantized(quantizer.refined(choices, how))


def _cell(
    name: str, row: str, trial: Trial, model: onnx.ModelProto, exact: list[list[Array]]
) -> Cell:
    found = _outputs(model, trial.held_out)
    signal = sum(float(np.square(x, dtype=np.float64).sum()) for run in exact for x in run)
    noise = sum(
        float(np.square(x.astype(np.float64) - y).sum())
        for run, other in zip(exact, found, strict=True)
        for x, y in zip(run, other, strict=True)
    )
    return Cell(name, row, decibels(signal, noise), _accuracy(trial, found), model.ByteSize())


def _outputs(model: onnx.ModelProto, runs: Sequence[Run]) -> list[list[Array]]:
    """Floats of every run, by onnxruntime, node by node as the file has them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [session.run(None, dict(run)) for run in runs]


def _accuracy(trial: Trial, outputs: list[list[Array]]) -> float | None:
    if trial.right is None:
        return None
    return 100 * float(np.mean(trial.right([run[0] for run in outputs])))


def _runs(name: str, samples: Array) -> list[Run]:
    return [{name: samples[i : i + 1]} for i in range(len(samples))]


def _crop(pixels: Array, height: int, width: int, seed: int) -> Array:
    """A random square of ``pixels`` [3, H, W], mirrored or not, at another size."""
    rng = np.random.default_rng(seed)
    side = int(rng.integers(96, pixels.shape[1] + 1))
    top, left = rng.integers(0, pixels.shape[1] - side + 1, 2)
    square = pixels[:, top : top + side, left : left + side][:, :, :: rng.choice((-1, 1))]
    rows = np.linspace(0, side - 1, height).round().astype(int)
    columns = np.linspace(0, side - 1, width).round().astype(int)
    return square[:, rows][:, :, columns]


@cache
def available() -> tuple[str, ...]:
    """Names of models that can be tried here."""
    folder = models_folder()
    return DIGITS if folder is None else (*DIGITS, *TRIALS)


def print_cells(cells: Sequence[Cell]) -> None:
    """Settings down, models across."""
    names = list(dict.fromkeys(cell.model for cell in cells))
    rows = list(dict.fromkeys(cell.setting for cell in cells))
    by_place = {(cell.setting, cell.model): cell for cell in cells}
    lines = [(row, *(_shown(by_place[row, name]) for name in names)) for row in rows]
    output().print(
        table("outputs, dB (right, %)", ["setting", *(f">{name}" for name in names)], lines)
    )


def _shown(cell: Cell) -> str:
    text = "" if math.isinf(cell.outputs_sqnr_db) else f"{cell.outputs_sqnr_db:.1f}"
    if cell.accuracy_percent is None:
        return text or "exact"
    return f"{text} ({cell.accuracy_percent:.1f})".strip()


@click.command(help=help_of(__doc__))
@click.option("--model", "names", multiple=True, help="One of them; all where absent.")
@click.option("--methods", "by_method", is_flag=True, help="What each method gives.")
@click.option("--json", "as_json", is_flag=True)
def main(names: tuple[str, ...], by_method: bool, as_json: bool) -> None:
    """See the module; ``help`` is made of it."""
    wanted = names or available()
    unknown = [name for name in wanted if name not in available()]
    if unknown:
        raise click.UsageError(
            f"no model {unknown[0]!r} here; there are {', '.join(available())}"
            + ("" if models_folder() else " (more with MOTET_MODELS)")
        )
    cells: list[Cell] = []
    steps = len(TRIED) * len(METHODS) if by_method else len(SETTINGS)
    with progress("settings", len(wanted) * (steps + 1), lines=True) as show:
        for name in wanted:
            folder: Any = models_folder()
            trial = digits(name) if name in DIGITS else TRIALS[name](folder)
            cells += (methods if by_method else measured)(name, trial, show)
    if as_json:
        print_json([asdict(cell) for cell in cells])
    else:
        print_cells(cells)


if __name__ == "__main__":
    main()
