"""``motet merge``."""

from __future__ import annotations

from pathlib import Path

import click

from motet.commands.common import (
    Format,
    apply_option,
    evaluate_option,
    finite,
    format_options,
    model_argument,
    print_as,
    shape_option,
)
from motet.commands.merge_tables import csv_rows, print_merged
from motet.console import progress, warn, without_tvm_warnings
from motet.extras import naming_extras
from motet.merge_result import Merged
from motet.merging import merge as merged_model
from motet.opening import check_destination, check_files, check_model_destination
from motet.runtime.errors import SpecError
from motet.tensors import parse_shapes


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet merge faces.onnx\n"
    "  motet merge faces.onnx -o merged.onnx\n"
    "  motet merge faces.onnx --remove-activations 6 --calibrate faces.npz -o merged.onnx\n"
    "  motet merge faces.onnx --latency-budget 2.5 --calibrate faces.npz --target edge-64x64 \\\n"
    "      --shape image:1x3x224x224 -o merged.onnx\n"
    "  motet merge faces.onnx --calibrate faces.npz --evaluate metric.py --max-drop 0.5 \\\n"
    "      -o merged.onnx\n"
    "  motet merge faces.onnx --apply merged.json -o again.onnx\n"
    "\n"
    "Convolutions in a row without an activation between them merge exactly, where that is "
    "estimated to be faster on the target. Removing an activation is approximate and only done "
    "when asked for: by name, by number, within a latency, or as far as --max-drop allows. "
    "Calibration samples say which activations matter least, and let the merged kernels be "
    "fitted, without training. Without -o nothing is written: the tables show what could merge.\n"
    "\n"
    "A metric is a Python file with a function metric(run); run takes inputs by name and gives "
    "outputs by name; larger is better:\n"
    "\n"
    "\b\n"
    "  import numpy as np\n"
    "  data = np.load('/data/faces_test.npz')\n"
    "  def metric(run):\n"
    "      return 100 * (run({'image': data['image']})['logits'].argmax(1) == data['y']).mean()\n"
    "\n"
    "The decisions are written beside the model (merged.json, merged.npz). They may be edited: "
    "take out a merge to keep its layers, or empty its weight to have it computed anew. "
    "docs/DEPTH_MERGING.md has the whole story.\n"
)  # fmt: skip
@model_argument
@click.option("-o", "--output", "out", metavar="OUT.onnx", help="The merged model.")
@click.option(
    "--target", metavar="host|NAME|FILE.toml",
    help="What times are estimated for: host, a shipped array, or an array description.",
)  # fmt: skip
@shape_option
@click.option(
    "--remove-activations", "count", type=click.IntRange(0), metavar="K",
    help="Take out K activations at most: those of least importance whose blocks get faster.",
)  # fmt: skip
@click.option(
    "--latency-budget", "budget", type=click.FloatRange(0, min_open=True), callback=finite,
    metavar="MS", help="Take out as little importance as brings the estimated time to this.",
)  # fmt: skip
@click.option(
    "--remove", multiple=True, metavar="NODE",
    help="ONNX node name of an activation to take out; may be repeated.",
)  # fmt: skip
@click.option(
    "--calibrate", multiple=True, metavar="DATA",
    help="Samples of the inputs: .npz files, or a folder of .npy or .npz.",
)  # fmt: skip
@click.option("--samples", type=click.IntRange(1), metavar="N", help="Samples to use at most.")
@click.option(
    "--recover", type=click.Choice(["auto", "none", "affine", "bias", "refit"]), default="auto",
    show_default=True, help="What makes up for activations that go. affine: the best scale and "
    "shift in their place; bias: also the merged layer's bias corrected; refit: its kernel "
    "refitted; auto: refit with --calibrate.",
)  # fmt: skip
@evaluate_option
@click.option(
    "--max-drop", type=click.FloatRange(0), callback=finite, metavar="D",
    help="How much the metric may fall; merges of most importance are left out until it holds.",
)  # fmt: skip
@apply_option
@click.option(
    "--decisions", metavar="FILE.json",
    help="Where to write what was decided; beside the model where absent.",
)  # fmt: skip
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE",
    help="A key of the specification, as passes.merge_depth.border=move_padding.",
)  # fmt: skip
@click.option("--threads", type=click.IntRange(1, 1024), help="Threads of calibration runs.")
@format_options
@naming_extras()
def merge(
    file: str,
    out: str | None,
    target: str | None,
    shapes: tuple[str, ...],
    count: int | None,
    budget: float | None,
    remove: tuple[str, ...],
    calibrate: tuple[str, ...],
    samples: int | None,
    recover: str,
    evaluate: str | None,
    max_drop: float | None,
    given: str | None,
    decisions: str | None,
    settings: tuple[str, ...],
    threads: int | None,
    form: Format,
) -> None:
    """Merge convolutions in a row of an ONNX model."""
    if Path(file).suffix.lower() != ".onnx":
        raise SpecError(f"{file}: motet merge takes an .onnx file")
    check_files([file])
    if max_drop is not None and evaluate is None:
        raise SpecError("--max-drop needs a metric: give --evaluate METRIC.py or accuracy")
    if recover not in ("auto", "none") and not calibrate:
        raise SpecError(f"--recover {recover} needs samples: give --calibrate DATA")
    if count is not None and budget is not None:
        raise SpecError("give --remove-activations or --latency-budget, not both")
    if given is not None and (count, budget, max_drop, remove) != (None, None, None, ()):
        raise SpecError(
            "--apply takes decisions as they are, which say what is removed: leave out "
            "--remove, --remove-activations, --latency-budget and --max-drop"
        )
    destination = check_model_destination(Path(out), Path(file), "--output") if out else None
    written = check_destination(Path(decisions), "--decisions") if decisions else None
    with without_tvm_warnings(), progress("merge") as show:
        made = merged_model(
            file,
            target=target,
            shapes=parse_shapes(shapes),
            settings=settings,
            remove=remove,
            remove_activations=count,
            latency_budget_ms=budget,
            calibrate=list(calibrate) or None,
            samples=samples,
            recover=recover,  # type: ignore[arg-type]
            evaluate=evaluate,
            max_drop=max_drop,
            decisions=given,
            threads=threads,
            progress=show,
        )
    _write(made, destination, written)
    print_as(form, [made.to_dict()], lambda: print_merged(made), csv_rows(made))


def _write(made: Merged, destination: Path | None, decisions: Path | None) -> None:
    """Write what was asked for; nothing where nothing merged."""
    for note in made.notes:
        warn(note)
    if destination is not None:
        made.save(destination, decisions)
    elif decisions is not None:
        made.save_decisions(decisions)
