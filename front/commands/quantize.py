"""``motet quantize``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, ClassVar

import click

from motet.commands.common import (
    Format,
    evaluate_option,
    format_options,
    model_argument,
    print_as,
    shape_option,
)
from motet.commands.quantize_tables import (
    comparison_facts,
    not_met,
    print_comparison,
    print_quantized,
    product_facts,
    quantized_facts,
)
from motet.console import print_json, progress, warn
from motet.extras import naming_extras
from motet.opening import check_model_destination, check_picture
from motet.quantized_model import QuantizeOptions
from motet.quantizing import COMPARED, compare
from motet.quantizing import quantize as quantized_model
from motet.runtime.errors import SpecError
from motet.tensors import parse_shapes


class ByteSize(click.ParamType[int]):
    """A number of bytes: 500000, 500KB, 1.5 MB, 64KiB."""

    name = "size"
    _UNITS: ClassVar = {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "ki": 2**10, "mi": 2**20, "gi": 2**30}

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The bytes that ``value`` says."""
        found = re.fullmatch(r"([0-9.]+)\s*((?:[kmg]i?)?)b?", str(value).strip().lower())
        try:
            size = int(float(found[1]) * self._UNITS[found[2]]) if found else 0
        except ValueError:
            size = 0
        if size < 1:
            self.fail(f"{value!r} is no size: write bytes, as in 500KB or 1.5MB", param, ctx)
        return size


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet quantize faces.onnx --calibrate faces.npz -o faces_int8.onnx\n"
    "  motet quantize faces.onnx --calibrate images/ --setting 4/8/6/10 --vector 16 -o small.onnx\n"
    "  motet quantize faces.onnx --calibrate faces.npz --evaluate accuracy --max-drop 1 -o q.onnx\n"
    "  motet quantize faces.onnx --calibrate faces.npz --max-size 500KB -o q.onnx\n"
    "  motet quantize faces.onnx --calibrate faces.npz --compare --plot bits.svg\n"
    "\n"
    "Weights become integers of 2 to 8 bits, and so does what each product reads. Without "
    "vectors (8/8) weights have a scale per output channel, and what is computed one per tensor, "
    "from calibration. With vectors (4/8/6/10: bits of weights, activations, and of both scales) "
    "every --vector elements along the sum share a scale of few bits, which for computed values "
    "is found as the model runs (VS-Quant). The written file is plain ONNX of opset 21.\n"
    "\n"
    "--calibrate takes a .npz with an array for each input (samples along the first axis; an "
    "array labels is for --evaluate accuracy), or a folder of .npy or .npz files. --evaluate "
    "takes a Python file with metric(run), larger is better. With --max-drop the products that "
    "lose most get 8 bits, and then floats, until the metric has dropped by no more.\n"
    "\n"
    "Mixed precision: with --max-size, --max-bits or --min-sqnr, or several settings and "
    "--max-drop, each product gets a setting of its own out of those of --setting (4/4, 4/8, 8/8 "
    "and float32 where it has one). Every product is tried alone under each, and what it errs "
    "the outputs by is weighed against the bytes of its weights.\n"
)  # fmt: skip
@model_argument
@click.option(
    "--calibrate", "calibrate", metavar="DATA", required=True, multiple=True,
    help="Samples of the inputs: .npz files, or a folder of .npy or .npz files.",
)  # fmt: skip
@click.option("-o", "--output", "out", metavar="OUT.onnx", help="The quantised model.")
@click.option(
    "--setting", default="8/8", show_default=True, metavar="W/A[/ws/as][,...]",
    help="Bits of weights and activations, and of their vectors' scales (- for float32 scales); "
    "several, or float32, to choose from under a budget.",
)  # fmt: skip
@click.option(
    "--granularity", type=click.Choice(["channel", "tensor"]), default="channel",
    show_default=True, help="What shares a scale of the weights where there are no vectors.",
)  # fmt: skip
@click.option(
    "--vector", type=click.IntRange(4, 128), default=16, show_default=True,
    help="Elements of a vector.",
)  # fmt: skip
@click.option(
    "--method", type=click.Choice(["max", "percentile", "mse"]), default="mse", show_default=True,
    help="How the range of computed values is found: all of it, a share, least square error.",
)  # fmt: skip
@click.option(
    "--percentile", type=click.FloatRange(50, 100), default=99.99, show_default=True,
    help="Share of magnitudes that --method percentile keeps.",
)  # fmt: skip
@click.option(
    "--paper", is_flag=True,
    help="Round as the VS-Quant paper does: integers from the scale before it is rounded.",
)  # fmt: skip
@click.option(
    "--fold/--no-fold", default=True, show_default=True,
    help="Batch-norm, scales and shifts behind products go into their weights first.",
)  # fmt: skip
@click.option(
    "--zero-points/--no-zero-points", default=True, show_default=True,
    help="Values of lopsided range have an integer for 0, where no vectors are.",
)  # fmt: skip
@click.option(
    "--correct-bias/--no-correct-bias", default=True, show_default=True,
    help="The mean shift that integers cause is taken off the biases.",
)  # fmt: skip
@click.option(
    "--rounding", type=click.Choice(["nearest", "gptq"]), default="nearest", show_default=True,
    help="Of weights: to the nearest, or so that products err least on the data (GPTQ).",
)  # fmt: skip
@click.option(
    "--smooth", type=click.FloatRange(0, 1), metavar="ALPHA",
    help="How much of the spread of values over channels goes into weights (SmoothQuant).",
)  # fmt: skip
@click.option(
    "--exclude", multiple=True, metavar="NAME-OR-PATTERN",
    help="ONNX node that stays float32; * and ? stand for others.",
)  # fmt: skip
@evaluate_option
@click.option(
    "--max-drop", type=click.FloatRange(0), metavar="X",
    help="Most that the metric may drop; products that lose most are raised until it is met.",
)  # fmt: skip
@click.option(
    "--max-size", type=ByteSize(), metavar="SIZE",
    help="Mixed precision: most bytes of the file, such as 500KB; the outputs err least.",
)  # fmt: skip
@click.option(
    "--max-bits", type=click.FloatRange(0, min_open=True), metavar="BITS",
    help="Mixed precision: most bits a weight, scales included; the outputs err least.",
)  # fmt: skip
@click.option(
    "--min-sqnr", type=float, metavar="DB",
    help="Mixed precision: least signal to noise of the outputs; the file is smallest.",
)  # fmt: skip
@click.option(
    "--compare", "comparing", is_flag=True,
    help="A table over settings: bits, scales per tensor, channel and vector; writes no model.",
)  # fmt: skip
@click.option("--plot", metavar="FILE.svg", help="With --compare: accuracy against bits.")
@shape_option
@format_options
@naming_extras()
def quantize(
    file: str,
    calibrate: tuple[str, ...],
    out: str | None,
    evaluate: str | None,
    comparing: bool,
    plot: str | None,
    shapes: tuple[str, ...],
    form: Format,
    **options: Any,
) -> None:
    """Quantise an ONNX model to integers of 2 to 8 bits."""
    if plot and not comparing:
        raise click.UsageError("--plot draws a comparison: give --compare too")
    if comparing == bool(out):
        raise click.UsageError("give -o OUT.onnx, or --compare for a table over settings")
    if Path(file).suffix.lower() != ".onnx":
        raise SpecError(f"{file}: motet quantize takes an .onnx file")
    destination = check_model_destination(Path(out), Path(file), "--output") if out else None
    budgets = [key for key in ("max_size", "max_bits", "min_sqnr", "max_drop") if options[key]]
    if comparing and budgets:
        name = f"--{budgets[0].replace('_', '-')}"
        raise click.UsageError(f"{name} chooses settings, and --compare has its own: leave one out")
    wanted = QuantizeOptions(**options)
    given: Any = {
        "shapes": parse_shapes(shapes),
        "evaluate": evaluate,
        "options": wanted,
    }
    if comparing:
        _compared(file, calibrate, given, plot, form)
        return
    with progress("quantise", None) as show:
        made = quantized_model(file, list(calibrate), show=show, **given)
    assert destination is not None
    made.save(destination)
    if form is Format.JSON:
        print_json(quantized_facts(made))
    else:
        print_as(form, product_facts(made), lambda: print_quantized(made, destination))
    if made.outcome.setting.startswith(("8/8 per", "8/7 per", "8/6 per")) and _saturates():
        warn(
            "onnxruntime's own 8-bit kernels saturate on CPUs without VNNI, as this one: run the "
            "file there with session.x64quantprecision=1, or take weights of 7 bits (7/8)"
        )
    if not made.met:
        warn(not_met(made))


def _saturates() -> bool:
    from motet.targets.host.machine import native_machine

    return not native_machine().multiplies_bytes


def _compared(
    file: str, calibrate: tuple[str, ...], given: Any, plot: str | None, form: Format
) -> None:
    picture = check_picture(Path(plot)) if plot else None
    with progress("compare", len(COMPARED) + 2) as show:
        floats, rows = compare(file, list(calibrate), show=show, **given)
    if picture is not None:
        from motet.quantization_pictures import draw_comparison

        draw_comparison(picture, floats, rows, Path(file).stem)
    print_as(form, comparison_facts(floats, rows), lambda: print_comparison(floats, rows))
