"""Memory of quantising does not grow with the samples: peak resident memory at 10, 100, 1000.

    python -m motet.benchmarks.calibration_memory [--samples N]... [--json]

Claim: calibration data is a stream, and what is remembered of it (histograms, sums) is of fixed
size. Each row is a process of its own that quantises a small network on N samples of 192 kB
(3 x 128 x 128), goes through them for statistics, figures and the error of the outputs, and
says its peak resident memory. Samples come from a .npz file, a folder of .npy files, or a
generator, whose samples pass through a temporary file.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from motet.benchmarks.command_help import help_of
from motet.console import output, print_json, progress, table
from motet.runtime.device import Array

SHAPE = (3, 128, 128)
SOURCES = ("npz", "folder", "generator")


@dataclass(frozen=True)
class Peak:
    """Of one process. samples_mb: what all samples take; peak_mb: resident, at most."""

    source: str
    samples: int
    samples_mb: float
    peak_mb: float


def network() -> onnx.ModelProto:
    """Three convolutions and a classifier: the samples are most of what is read."""
    rng = np.random.default_rng(0)
    nodes, weights, value = [], [], "x"
    for layer, (inputs, outputs, stride) in enumerate([(3, 8, 4), (8, 16, 2), (16, 16, 2)]):
        kernel = rng.standard_normal((outputs, inputs, 3, 3)).astype(np.float32)
        weights.append(numpy_helper.from_array(kernel, f"w{layer}"))
        nodes.append(
            helper.make_node("Conv", [value, f"w{layer}"], [f"c{layer}"], strides=[stride] * 2)
        )
        nodes.append(helper.make_node("Relu", [f"c{layer}"], [f"r{layer}"]))
        value = f"r{layer}"
    nodes.append(helper.make_node("GlobalAveragePool", [value], ["y"]))
    graph = helper.make_graph(
        nodes, "small", [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", *SHAPE])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 16, 1, 1])], weights,
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def samples(count: int) -> Iterator[Array]:
    """Arrays of ``SHAPE``, another each."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(SHAPE, dtype=np.float32) for _ in range(count))


def written(folder: Path, source: str, count: int) -> Any:
    """The samples as ``source`` has them; never all in memory."""
    if source == "generator":
        return ({"x": one[None]} for one in samples(count))
    if source == "folder":
        (folder / "data").mkdir()
        for index, one in enumerate(samples(count)):
            np.save(folder / "data" / f"{index:05}.npy", one[None])
        return folder / "data"
    stacked = np.lib.format.open_memmap(
        folder / "x.npy", mode="w+", dtype=np.float32, shape=(count, *SHAPE)
    )
    for index, one in enumerate(samples(count)):
        stacked[index] = one
    del stacked
    with zipfile.ZipFile(folder / "data.npz", "w") as archive:
        archive.write(folder / "x.npy", "x.npy")
    return folder / "data.npz"


def prepared(folder: Path, source: str, count: int) -> None:
    """Files of a source, where it has any, written by a process that is not measured."""
    onnx.save(network(), folder / "net.onnx")
    if source != "generator":
        written(folder, source, count)


def quantised(folder: Path, source: str, count: int) -> float:
    """Quantise; the peak resident memory of this process, MB."""
    from motet import quantize

    names = {"npz": folder / "data.npz", "folder": folder / "data"}
    data = names[source] if source in names else written(folder, source, count)
    quantize(folder / "net.onnx", data)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def measured(source: str, count: int) -> Peak:
    """A process of its own for writing, and one for quantising."""
    with tempfile.TemporaryDirectory(prefix="motet-") as folder:
        prepared(Path(folder), source, count)
        command = [sys.executable, "-m", "motet.benchmarks.calibration_memory", "--inside", folder]
        command += [f"{source}:{count}"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        peak = json.loads(done.stdout.splitlines()[-1])
    return Peak(source, count, count * 4 * int(np.prod(SHAPE)) / 1e6, peak)


@click.command(help=help_of(__doc__))
@click.option("--samples", "counts", multiple=True, type=click.IntRange(1), default=(10, 100, 1000))
@click.option("--inside", hidden=True, nargs=2)
@click.option("--json", "as_json", is_flag=True)
def main(counts: tuple[int, ...], inside: tuple[str, str] | None, as_json: bool) -> None:
    """See the module; ``help`` is made of it."""
    if inside is not None:
        kind, _, number = inside[1].partition(":")
        click.echo(json.dumps(quantised(Path(inside[0]), kind, int(number))))
        return
    with progress("memory", len(SOURCES) * len(counts), lines=True) as show:
        found = []
        for source in SOURCES:
            for count in counts:
                show(f"{source}: {count} samples")
                found.append(measured(source, count))
    if as_json:
        print_json([asdict(peak) for peak in found])
        return
    columns = ["samples", ">MB of samples", *(f">{source}, MB" for source in SOURCES)]
    by_place = {(peak.source, peak.samples): peak for peak in found}
    rows = [
        [str(count), f"{by_place[SOURCES[0], count].samples_mb:.0f}",
         *(f"{by_place[source, count].peak_mb:.0f}" for source in SOURCES)]
        for count in counts
    ]  # fmt: skip
    output().print(table("peak resident memory of motet.quantize", columns, rows))


if __name__ == "__main__":
    main()
