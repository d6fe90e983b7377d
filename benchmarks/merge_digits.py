"""Accuracy against latency when inverted residual blocks become one convolution each.

Claim: on a trained MobileNet-like network, merging more and more blocks, those of least
importance first, takes fewer cycles on an array and less time on the host at each step; what
the removed activations cost in accuracy, fitting on calibration data wins back in part.

    python -m motet.benchmarks.merge_digits [--array gemmini-16x16] [--samples 60] [--runs 400]
        [--no-host] [--json] [--plot merge-digits.svg]

The network is ``examples/models/digits_mobile.onnx`` (seven such blocks can merge). Importance and
fits use ``digits_calibration.npz``, images that it was trained on; accuracy is that on the 360
held-out images. Rows: how many blocks are merged; columns: what makes up for activations that
are gone (``motet merge --recover``). Cycles are the timing simulation's of one image, operators
left to the host not counted; the host's time is the least of ``runs`` of one image with one
thread, all models in turn.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from msgspec.structs import replace

from motet import api
from motet.benchmarks.command_help import help_of
from motet.benchmarks.examples import examples
from motet.compiler.calibration.data import CalibrationData, calibration_data
from motet.compiler.calibration.importance import Importance, importance
from motet.compiler.calibration.values import checked_model, model_inputs
from motet.compiler.decided_onnx import apply_merges
from motet.compiler.depth_merging import Candidate, DepthMerger, depth_merger
from motet.compiler.onnx_files import read_whole, write_whole
from motet.compiler.recovery import recovered
from motet.console import output, print_json, progress, seconds, table
from motet.passes.decisions import Decided
from motet.runtime.device import Array
from motet.runtime.errors import EnvironmentLackError
from motet.runtime.model import ModelSession
from motet.runtime.progress import Show
from motet.targets.pictures import save_picture

RECOVERIES = ("none", "affine", "bias", "refit")
SHAPE = (1, 1, 32, 32)


@dataclass
class Row:
    """A number of merged blocks. blocks: their numbers; accuracy: percent, by recovery."""

    merged: int
    blocks: tuple[int, ...]
    macs: int
    cycles: int
    host_layers: int
    accuracy: dict[str, float] = field(default_factory=dict)
    host_seconds: float | None = None


@dataclass(frozen=True)
class Result:
    """importance: of each block, least first. rows: by the number of merged blocks."""

    array: str
    importance: tuple[Importance, ...]
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class Study:
    """One network, its blocks, and the data."""

    path: Path
    merger: DepthMerger
    blocks: tuple[Candidate, ...]
    data: CalibrationData
    images: Array
    labels: Array

    @classmethod
    def of_digits(cls, folder: Path, samples: int) -> Study:
        """``digits_mobile`` with its calibration images and the held-out ones."""
        path = folder / "models" / "digits_mobile.onnx"
        merger = depth_merger(api.specification([path], None, {}, ()))
        blocks = tuple(c for c in merger.candidates() if c.merge is not None)
        source = folder / "data" / "digits_calibration.npz"
        data = calibration_data(source, model_inputs(path), path.name, 20, samples)
        held_out = np.load(folder / "data" / "digits_heldout.npz")
        images = (held_out["images"][:, None] / 255).astype(np.float32)
        return cls(path, merger, blocks, data, images, held_out["labels"])

    def ranked(self, show: Show) -> tuple[list[Importance], Mapping[str, Array]]:
        """The blocks' importance, least first, and the affine maps of activations."""
        trials = {f"block {block.number}": block.activations for block in self.blocks}
        model = checked_model(self.path, {})
        found, maps = importance(model, trials, self.data, self.path.name, show, 1)
        return sorted(found, key=lambda one: one.affine), maps

    def merged(
        self, blocks: Sequence[int], recover: str, maps: Mapping[str, Array], show: Show
    ) -> tuple[onnx.ModelProto, Decided]:
        """The network with ``blocks`` merged."""
        options = replace(self.merger.options, exact=False, remove_blocks=tuple(blocks))
        decided = self.merger.decided(options, maps if recover != "none" else {})
        if recover in ("bias", "refit"):
            model = checked_model(self.path, {})
            decided, _ = recovered(
                model, decided, self.data, self.path.name,
                recover, show=show, threads=1,  # type: ignore[arg-type]
            )  # fmt: skip
        return apply_merges(read_whole(self.path)[0], decided, self.path.name), decided

    def accuracy(self, model: onnx.ModelProto) -> float:
        """Percent of the held-out images."""
        run = session_of(model, "host")
        parts = np.array_split(self.images, 18)
        found = np.concatenate([run.run(None, {"image": part})[0] for part in parts])
        return float(100 * (found.argmax(1) == self.labels).mean())


def session_of(model: onnx.ModelProto, target: str, one: bool = False) -> ModelSession:
    """``model`` compiled and loaded with one thread; ``one``: for batches of one image."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "digits.onnx"
        write_whole(model, path)
        shapes = {"image": SHAPE} if one else {}
        settings = ("passes.merge_depth.enabled=false", "host.threads=1")
        bundle = api.compile(path, target=target, shapes=shapes, settings=settings)
    (session,) = api.load(bundle, threads=1).values()
    return session


def study(array: str, samples: int, runs: int, host: bool, show: Show) -> Result:
    """All rows."""
    found = Study.of_digits(examples(), samples)
    ranked, maps = found.ranked(show)
    order = [int(one.name.split()[1]) for one in ranked]
    rows, models = list[Row](), list[onnx.ModelProto]()
    for count in range(len(order) + 1):
        blocks = tuple(sorted(order[:count]))
        row = None
        for recover in RECOVERIES if count else RECOVERIES[:1]:
            model, _ = found.merged(blocks, recover, maps, show)
            if row is None:
                row = _row(count, blocks, model, array)
                models.append(model)
            row.accuracy[recover] = found.accuracy(model)
            show(f"{count} blocks, {recover}")
        assert row is not None
        row.accuracy = {recover: row.accuracy.get(recover, row.accuracy["none"])
                        for recover in RECOVERIES}  # fmt: skip
        rows.append(row)
    if host:
        for row, measured in zip(rows, host_seconds(models, runs), strict=True):
            row.host_seconds = measured
    return Result(array, tuple(ranked), tuple(rows))


def _row(count: int, blocks: tuple[int, ...], model: onnx.ModelProto, array: str) -> Row:
    session = session_of(model, array, one=True)
    report = session.simulate()
    left = sum(layer.array is None for layer in report.layers)
    macs = sum(layer.macs for layer in report.layers)
    return Row(count, blocks, macs, report.cycles, left)


def host_seconds(models: Sequence[onnx.ModelProto], runs: int) -> list[float]:
    """The least time of one image for each model, taken in turn."""
    sessions = [session_of(model, "host", one=True) for model in models]
    inputs = {"image": np.random.default_rng(0).random(SHAPE, "float32")}
    least = [float("inf")] * len(sessions)
    for _ in range(runs):
        for index, session in enumerate(sessions):
            with session.bound(inputs) as frame:
                begin = time.perf_counter()
                frame.run()
                least[index] = min(least[index], time.perf_counter() - begin)
    return least


def facts_of(result: Result) -> dict[str, Any]:
    """As plain data; keys name units."""
    return {
        "array": result.array,
        "importance": [asdict(one) for one in result.importance],
        "rows": [asdict(row) for row in result.rows],
    }


def _print(result: Result) -> None:
    base = result.rows[0]
    columns = [">blocks merged", ">MACs", f">cycles, {result.array}", ">host, 1 thread",
               *(f">accuracy, {recover}" for recover in RECOVERIES)]  # fmt: skip
    rows = []
    for row in result.rows:
        host = ""
        if row.host_seconds is not None and base.host_seconds is not None:
            host = f"{seconds(row.host_seconds)} ({base.host_seconds / row.host_seconds:.2f}x)"
        rows.append([
            str(row.merged), f"{row.macs / 1e6:.2f} M",
            f"{row.cycles} ({base.cycles / row.cycles:.2f}x)", host,
            *(f"{row.accuracy[recover]:.2f}%" for recover in RECOVERIES),
        ])  # fmt: skip
    output().print(table("digits_mobile, blocks of least importance first", columns, rows))


def plot(result: Result, path: Path) -> None:
    """Accuracy against latency on both targets, a line for each recovery."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise EnvironmentLackError("--plot needs matplotlib: pip install 'motet[plot]'") from error
    targets: list[tuple[str, list[float]]] = [
        (f"cycles on {result.array}", [float(row.cycles) for row in result.rows])
    ]
    if all(row.host_seconds is not None for row in result.rows):
        times = [1e6 * (row.host_seconds or 0.0) for row in result.rows]
        targets.append(("microseconds on the host, one thread", times))
    figure = Figure(figsize=(4.6 * len(targets), 3.6), layout="constrained")
    for axes, (label, values) in zip(
        figure.subplots(1, len(targets), squeeze=False)[0], targets, strict=True
    ):
        for recover in RECOVERIES:
            accuracies = [row.accuracy[recover] for row in result.rows]
            axes.plot(values, accuracies, "o-", label=recover, markersize=4)
        axes.set(xlabel=label, ylabel="held-out accuracy, %")
        axes.grid(alpha=0.3)
        axes.legend(title="recovery")
    save_picture(figure, path)


@click.command(help=help_of(__doc__))
@click.option("--array", default="gemmini-16x16", show_default=True, metavar="NAME|FILE.toml")
@click.option("--samples", default=60, show_default=True, type=click.IntRange(1))
@click.option("--runs", default=400, show_default=True, type=click.IntRange(1))
@click.option("--no-host", is_flag=True, help="Leave the host's times out.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), metavar="FILE.svg")
def main(
    array: str, samples: int, runs: int, no_host: bool, as_json: bool, plot_path: Path | None
) -> None:
    """Run it."""
    with progress("merge digits", lines=True) as show:
        result = study(array, samples, runs, not no_host, show)
    if plot_path is not None:
        plot(result, plot_path)
    if as_json:
        print_json(facts_of(result))
    else:
        _print(result)


if __name__ == "__main__":
    main()
