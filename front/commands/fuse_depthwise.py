"""``motet fuse-depthwise``."""

from __future__ import annotations

from pathlib import Path

import click

from motet.commands.common import (
    Format,
    apply_option,
    evaluate_option,
    format_options,
    model_argument,
    print_as,
    shape_option,
)
from motet.console import output, progress, table, warn, without_tvm_warnings
from motet.extras import naming_extras
from motet.opening import check_destination, check_files, check_model_destination
from motet.replacing import Replaced, facts_of, replace_depthwise
from motet.runtime.errors import SpecError
from motet.tensors import parse_shapes


@click.command(
    name="fuse-depthwise",
    epilog="Examples:\n\n"
    "\b\n"
    "  motet fuse-depthwise faces.onnx\n"
    "  motet fuse-depthwise faces.onnx --variant half -o faces_half.onnx\n"
    "  motet fuse-depthwise faces.onnx --calibrate faces.npz --evaluate metric.py -o out.onnx\n"
    "  motet fuse-depthwise faces.onnx --which 3 --which /block4/Conv -o out.onnx\n"
    "\n"
    "A K x K depthwise convolution becomes a 1 x K and a K x 1 one side by side, which an array "
    "computes in its spatial dataflow (FuSeConv). This is approximate: the table has each layer's "
    "error. Calibration samples let weights be refitted, without training. Without -o nothing is "
    "written. docs/DEPTHWISE_REPLACEMENT.md has the whole story.\n",
)
@model_argument
@click.option(
    "--variant", type=click.Choice(["full", "half", "full50", "half50"]), default="half",
    show_default=True, help="Rows and columns of all channels, or of one half each; 50: only in "
    "the half of the layers that cost most.",
)  # fmt: skip
@click.option(
    "--which", multiple=True, metavar="NUMBER|NODE",
    help="A depthwise convolution to replace, by number or ONNX node name; may be repeated.",
)  # fmt: skip
@click.option(
    "--fit", type=click.Choice(["least_squares", "rank_one"]), default="least_squares",
    show_default=True, help="Weights of least error, or the same of the nearest separable kernel.",
)  # fmt: skip
@click.option(
    "--calibrate", multiple=True, metavar="DATA",
    help="Samples of the inputs to refit weights to: .npz files, or a folder of .npy or .npz.",
)  # fmt: skip
@evaluate_option
@apply_option
@click.option("-o", "--output", "out", metavar="OUT.onnx", help="The replaced model.")
@click.option(
    "--decisions", metavar="FILE.json",
    help="Write what was decided, for [passes.replace_depthwise]; weights go to FILE.npz.",
)  # fmt: skip
@shape_option
@format_options
@naming_extras()
def fuse_depthwise(
    file: str,
    variant: str,
    which: tuple[str, ...],
    fit: str,
    calibrate: tuple[str, ...],
    evaluate: str | None,
    given: str | None,
    out: str | None,
    decisions: str | None,
    shapes: tuple[str, ...],
    form: Format,
) -> None:
    """Replace depthwise convolutions by rows and columns."""
    if Path(file).suffix.lower() != ".onnx":
        raise SpecError(f"{file}: motet fuse-depthwise takes an .onnx file")
    check_files([file])
    if given and (which or calibrate):
        raise click.UsageError("--apply brings its own choice and weights: leave out the others")
    destination = check_model_destination(Path(out), Path(file), "--output") if out else None
    written = check_destination(Path(decisions), "--decisions") if decisions else None
    with without_tvm_warnings(), progress("replace") as show:
        made = replace_depthwise(
            file,
            variant,  # type: ignore[arg-type]
            which=[int(one) if one.isdecimal() else one for one in which],
            fit=fit,  # type: ignore[arg-type]
            calibrate=list(calibrate) or None,
            decisions=given,
            evaluate=evaluate,
            shapes=parse_shapes(shapes),
            show=show,
        )
    if destination is not None:
        made.save(destination)
    if written is not None:
        made.save_decisions(written)
    if made.nothing:
        warn(made.nothing)
    print_as(form, facts_of(made), lambda: _print(file, made))


def _print(file: str, made: Replaced) -> None:
    rows = [
        [
            str(one["index"]),
            one["onnx_nodes"][0] if one["onnx_nodes"] else "",
            one["variant"] or "",
            one["kernel"] or "",
            "" if one["channels"] is None else str(one["channels"]),
            "" if one["relative_error"] is None else f"{one['relative_error']:.1%}",
            one["error_of"] or "",
            _change(one["macs_before"], one["macs_after"]),
            one["reason"],
        ]
        for one in facts_of(made)
    ]
    columns = (">", "node", "variant", "kernel", ">channels", ">error", "of", ">MACs", "stays as")
    output().print(table(f"depthwise convolutions of {file}", columns, rows))
    if made.before is not None and made.after is not None:
        output().print(f"metric: {made.before:.4g} before, {made.after:.4g} after")


def _change(before: int | None, after: int | None) -> str:
    return "" if before is None or after is None else f"{before:,} -> {after:,}"
