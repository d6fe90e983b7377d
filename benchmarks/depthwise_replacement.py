"""Accuracy and cost of a small network with its depthwise convolutions replaced, without training.

Claim: weights refitted on a hundred images bring most of the accuracy back.

    python -m motet.benchmarks.depthwise_replacement [--json] [--fit-on 128]

``examples/models/digits_mobile.onnx`` on its 360 held-out digits: weights are fitted on the first
``--fit-on`` of them (their labels are not used), and accuracy is that on the others. Cycles are
simulated, one image on edge-64x64; ``closed form`` is FuSeConv's count of them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import click
import numpy as np
import onnx

import motet
from motet.benchmarks.command_help import help_of
from motet.benchmarks.examples import examples
from motet.closed_forms import closed_form_rows
from motet.console import output, print_json, table
from motet.opening import CompileRequest
from motet.replacing import replace_depthwise
from motet.simulating import ArraySimulator
from motet.simulation_input import work_of

TARGET, SHAPE = "edge-64x64", "image:1x1x32x32"
AS_WRITTEN = "passes.merge_depth.enabled=false"
"""Merges would mix their gain into that of the replacement."""
Variant = Literal["full", "half", "full50", "half50"]
VARIANTS: tuple[Variant, ...] = ("half50", "full50", "half", "full")


@dataclass(frozen=True)
class Row:
    """One variant. accuracy: of images that no weights were fitted on; worst_error: of a layer,
    relative.
    """

    variant: str
    weights: str
    accuracy: float
    worst_error: float | None
    cycles: int
    closed_form_cycles: int
    macs: int


def _model() -> Path:
    return examples() / "models" / "digits_mobile.onnx"


def rows(fit_on: int) -> Iterator[Row]:
    """The original, then every variant with weights of each kind."""
    images, labels = digits()
    data = {"image": images[:fit_on]}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "replaced.onnx"
        onnx.save(onnx.load(_model()), path)
        yield _row("original", "", path, images[fit_on:], labels[fit_on:], None)
        for variant in VARIANTS:
            for weights, options in WEIGHTS.items():
                given: dict[str, Any] = dict(options)
                if given.pop("calibrate", False):
                    given["calibrate"] = data
                made = replace_depthwise(_model(), variant, **given)
                made.save(path)
                worst = max(one.error for one in made.decided.decisions.replacements)
                yield _row(variant, weights, path, images[fit_on:], labels[fit_on:], worst)


WEIGHTS: dict[str, dict[str, Any]] = {
    "nearest separable": {"fit": "rank_one"},
    "least squares": {},
    "refitted on data": {"calibrate": True},
}


def digits() -> tuple[Any, Any]:
    """Images [360, 1, 32, 32] and labels."""
    data = np.load(examples() / "data" / "digits_heldout.npz")
    return (data["images"] / np.float32(255)).astype(np.float32)[:, None], data["labels"]


def _row(
    variant: str, weights: str, path: Path, images: Any, labels: Any, worst: float | None
) -> Row:
    (session,) = motet.load(motet.compile(path)).values()
    (logits,) = session.run(None, {"image": images})
    request = CompileRequest(target=TARGET, shapes=(SHAPE,), settings=(AS_WRITTEN,))
    work = work_of(str(path), request)
    simulated = ArraySimulator(work.description, work.number_format).model(work.models[0])
    closed = closed_form_rows(work, "fuseconv")
    spatial, plain = "spatial_output_stationary_cycles", "output_stationary_cycles"
    return Row(
        variant,
        weights,
        float((logits.argmax(1) == labels).mean()),
        worst,
        simulated.cycles,
        sum(row[plain] if row[spatial] is None else row[spatial] for row in closed),
        simulated.macs,
    )


@click.command(help=help_of(__doc__))
@click.option("--json", "as_json", is_flag=True)
@click.option("--fit-on", default=128, show_default=True, type=click.IntRange(16, 300))
def main(as_json: bool, fit_on: int) -> None:
    """Compute and print."""
    found = list(rows(fit_on))
    if as_json:
        print_json([asdict(row) for row in found])
        return
    lines = [
        [row.variant, row.weights, f"{row.accuracy:.1%}",
         "" if row.worst_error is None else f"{row.worst_error:.0%}",
         f"{row.cycles:,}", f"{row.closed_form_cycles:,}", f"{row.macs / 1e6:.2f} M"]
        for row in found
    ]  # fmt: skip
    columns = (
        "variant",
        "weights",
        ">accuracy",
        ">worst layer",
        ">cycles",
        ">closed form",
        ">MACs",
    )
    output().print(table(f"digits_mobile, fitted on {fit_on} images", columns, lines))


if __name__ == "__main__":
    main()
