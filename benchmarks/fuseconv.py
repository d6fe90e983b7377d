"""FuSeConv's networks on its array: its cycle model, and the timing view with memories.

Claim: the closed form gives the published speed-ups of all five networks within 1.5 %
(Ganesan & Kumar, arXiv 2105.13434), and on the 64x64 array with the spatially tiled dataflow,
memories included, MobileNetV1, MobileNetV2 and MnasNet-B1 are at least as much faster than
their base networks.

    python -m motet.benchmarks.fuseconv [NETWORK ...] [--json] [--array edge-64x64] [--format int8]

Three columns of cycles for one image:

* ``closed form``: mode ``fuseconv`` summed over the layers, as the publication counts;
* ``timing``: the timing view, memories included. The dataflow of every layer is chosen by cost;
  ``base`` has the K x K depthwise layers on the plain array (the spatial dataflow is not
  offered), as in FuSeConv's baseline;
* ``base, spatial`` is the base network where the K x K layers may take the spatial dataflow too,
  as one 1-D convolution of K K taps: Motet's own, not in the publication.

Speed-ups of the timing view are against its own ``base``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import click
import msgspec

from motet.benchmarks.command_help import help_of
from motet.benchmarks.fuseconv_networks import NETWORKS, Variant, fuse_workload, variants_of
from motet.console import output, print_json, table
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.closed_form import (
    fuseconv_1d_cycles,
    fuseconv_depthwise_cycles,
    fuseconv_gemm_cycles,
)
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import FORMATS
from motet.targets.systolic.mappings.line_plan import SPATIAL
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Workload
from motet.targets.systolic.workload.layers import Convolution, Layer, MatrixProduct
from motet.targets.systolic.workload.what_if import in_format

PUBLISHED: dict[str, dict[str, float]] = {
    "mobilenet-v1": {"full": 4.1, "half": 6.76},
    "mobilenet-v2": {"full": 5.1, "half": 7.23},
    "mnasnet-b1": {"full": 5.06, "half": 7.15},
    "mobilenet-v3-small": {"full": 3.02, "half": 4.16},
    "mobilenet-v3-large": {"full": 3.61, "half": 5.45},
}
"""Speed-ups of the publication on its 64x64 array."""

NOTE = """The closed form runs every layer alone: each fold pays its fill and drain, nothing \
waits for memory, and pooling, residuals and activations are free. The timing view overlaps \
folds (double buffering, here and in its base), keeps activations in the scratchpad where they \
fit, and pays for DRAM (weights), scratchpad ports, the vector unit (requantisation, \
activations, residuals, pooling, squeeze-and-excitation) and the hand-over between engines. \
Its base is quicker than the published one: short folds gain most from overlapping. Squeeze-and-\
excitation gains nothing: it waits for whole images, its products of one row keep the array as \
long as the closed form says, and with 2C channels (full) it has four times the weights to read \
from DRAM; this is why MobileNetV3 full, and V3-Small half, stay below the publication. \
The 50% variants leave K x K layers, which may take the spatial dataflow here too. \
Utilisation of the array: multiply-accumulates over rows x columns x cycles of the run."""


@dataclass(frozen=True)
class Row:
    """One network in one variant. Speed-ups are over the same column's base."""

    network: str
    variant: str
    macs: int
    closed_form_cycles: int
    closed_form_speedup: float
    timing_cycles: int
    timing_speedup: float
    utilisation: float
    published_speedup: float | None

    @property
    def over_published(self) -> float | None:
        """The timing view's speed-up over the published one."""
        return self.timing_speedup / self.published_speedup if self.published_speedup else None


def layer_cycles(layer: Layer, rows: int, columns: int) -> int:
    """FuSeConv's cycles of one layer; pooling and elementwise layers are not counted.

    A line of a 1-D convolution is padded to its filter, lines are those of the whole input.
    """
    if isinstance(layer, MatrixProduct):
        return fuseconv_gemm_cycles(layer.m, layer.n, layer.k, rows, columns)
    if not isinstance(layer, Convolution):
        return 0
    shape, (down, across) = layer.product_shape, layer.kernel
    if not layer.is_depthwise:
        return fuseconv_gemm_cycles(shape.m, shape.n, shape.k, rows, columns)
    if min(down, across) > 1:
        return fuseconv_depthwise_cycles(shape.m, shape.groups, down * across, rows, columns)
    is_row = down == 1
    height, width = layer.in_height, layer.in_width
    lines, length = (height, width) if is_row else (width, height)
    taps, stride = (across, layer.stride[1]) if is_row else (down, layer.stride[0])
    count = layer.batch * layer.in_channels * lines
    return fuseconv_1d_cycles(count, length + taps - 1, taps, stride, rows, columns)


def closed_form_cycles(workload: Workload, rows: int, columns: int) -> int:
    """Mode ``fuseconv`` over all layers, one after the other."""
    return sum(layer_cycles(step.layer, rows, columns) for step in workload.steps)


def timing_cycles(workload: Workload, array: ArrayDescription, number_format: str) -> int:
    """Cycles of the timing view, memories included."""
    asked, made = in_format(workload, number_format)
    return simulate(compile_workload(asked, array, made).program, array).cycles


def plain(array: ArrayDescription) -> ArrayDescription:
    """``array`` without the spatial dataflow."""
    pods = tuple(
        msgspec.structs.replace(pod, dataflows=tuple(d for d in pod.dataflows if d != SPATIAL))
        for pod in array.pods
    )
    return msgspec.structs.replace(array, pods=pods)


def network_rows(name: str, array: ArrayDescription, number_format: str) -> Iterator[Row]:
    """The rows of one network: base, its variants, and base with the spatial dataflow."""
    pod, first = array.pods[0], None
    runs: list[tuple[str, Variant]] = [(variant, variant) for variant in variants_of(name)]
    runs.append(("base, spatial", "base"))
    for label, variant in runs:
        workload = fuse_workload(name, variant)
        machine = plain(array) if label == "base" else array
        closed = closed_form_cycles(workload, pod.rows, pod.columns)
        timed = timing_cycles(workload, machine, number_format)
        first = first or (closed, timed)
        yield Row(
            name,
            label,
            workload.macs,
            closed,
            first[0] / closed,
            timed,
            first[1] / timed,
            workload.macs / (timed * array.elements),
            PUBLISHED[name].get(label),
        )


def _line(row: Row) -> list[str]:
    ratio = row.over_published
    is_published = row.variant != "base, spatial"
    return [
        row.variant,
        f"{row.closed_form_cycles:,}" if is_published else "",
        f"{row.closed_form_speedup:.2f}" if is_published else "",
        f"{row.timing_cycles:,}",
        f"{row.timing_speedup:.2f}",
        "" if row.published_speedup is None else f"{row.published_speedup:g}",
        "" if ratio is None else f"{ratio:.2f}",
        f"{row.utilisation:.1%}",
    ]


COLUMNS = ("variant", ">closed form, cycles", ">speed-up", ">timing, cycles", ">speed-up",
           ">published", ">timing / published", ">utilisation")  # fmt: skip


@click.command(help=help_of(__doc__))
@click.argument("names", nargs=-1, type=click.Choice(list(NETWORKS)), metavar="[NETWORK ...]")
@click.option("--json", "as_json", is_flag=True)
@click.option("--array", "array_name", default="edge-64x64", show_default=True)
@click.option("--format", "number_format", default="int8", show_default=True,
              type=click.Choice(list(FORMATS)))  # fmt: skip
def main(names: Sequence[str], as_json: bool, array_name: str, number_format: str) -> None:
    """Compute and print; without names all networks."""
    array = load_architecture(array_name)
    rows = [row for n in names or NETWORKS for row in network_rows(n, array, number_format)]
    if as_json:
        print_json([asdict(row) | {"over_published": row.over_published} for row in rows])
        return
    for name in dict.fromkeys(row.network for row in rows):
        lines = [_line(row) for row in rows if row.network == name]
        title = f"{name}, 224 x 224, {number_format} on {array.name}"
        output().print(table(title, COLUMNS, lines))
    output().print(NOTE)


if __name__ == "__main__":
    main()
