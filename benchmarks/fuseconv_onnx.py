"""FuSeConv's cycle table from ONNX models: networks of the zoo, and originals after the pass.

Claim: the cycles of MobileNetV1 and V2 in all five variants, to the cycle, and the published
speed-ups within 1.5 % of all five networks (Ganesan & Kumar, arXiv 2105.13434), on edge-64x64 in
mode ``fuseconv``: from ONNX files, through the compiler, whether the variant was built by the
zoo's script or made of the original by ``passes.replace_depthwise``.

    python -m motet.benchmarks.fuseconv_onnx [NETWORK ...] [--json] [--replace]

``--replace`` makes the variants by the pass. For squeeze-and-excitation, ``full`` by the pass keeps
the gate's own width (C channels in, C gates, given to rows and columns alike), where FuSeConv's
networks have 2C: their cycles differ.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import click
import onnx

from motet.benchmarks.command_help import help_of
from motet.benchmarks.fuseconv import PUBLISHED
from motet.benchmarks.zoo import mobilenet_v1, mobilenet_v2, registry
from motet.closed_forms import closed_form_rows
from motet.console import output, print_json, table
from motet.opening import CompileRequest
from motet.simulation_input import work_of

TARGET = "edge-64x64"
NETWORKS: dict[str, tuple[str, str]] = {
    "mobilenet-v1": ("mobilenet_v1", "1.0"),
    "mobilenet-v2": ("mobilenet_v2", "1.0"),
    "mnasnet-b1": ("mnasnet_b1", "b1"),
    "mobilenet-v3-small": ("mobilenet_v3_small", "small"),
    "mobilenet-v3-large": ("mobilenet_v3_large", "large"),
}
"""The zoo's name and base variant."""
BASES = {"mobilenet-v3-small": "small-study", "mobilenet-v3-large": "large-study"}
"""Where the study's network is not the zoo's own."""
AS_WRITTEN = "passes.merge_depth.enabled=false"
"""The publication counts every layer."""
HALVES = {
    "mobilenet-v1": mobilenet_v1.HALF_OF_THE_BLOCKS,
    "mobilenet-v2": mobilenet_v2.HALF_OF_THE_BLOCKS,
}
"""The blocks of the 50 % variants, as far as they are published."""


@dataclass(frozen=True)
class Row:
    """One network in one variant; speedup: over its base."""

    network: str
    variant: str
    cycles: int
    speedup: float
    published_speedup: float | None


def variants_of(network: str) -> tuple[str, ...]:
    """The variants whose blocks are known."""
    return ("base", "full", "half", *(("full50", "half50") if network in HALVES else ()))


def cycles_of(network: str, variant: str, *, replace: bool = False) -> int:
    """Mode ``fuseconv``, summed over layers. replace: the variant is made by the pass."""
    name, base = NETWORKS[network]
    kind = "base" if replace else variant
    built = {"base": BASES.get(network, base)}.get(kind, f"{base}-{variant}")
    settings = [AS_WRITTEN]
    if replace and variant != "base":
        settings += replacement(network, variant)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        onnx.save(registry.build(name, built), path)
        work = work_of(str(path), CompileRequest(target=TARGET, settings=tuple(settings)))
        rows = closed_form_rows(work, "fuseconv")
    spatial, plain = "spatial_output_stationary_cycles", "output_stationary_cycles"
    return sum(row[plain] if row[spatial] is None else row[spatial] for row in rows)


def replacement(network: str, variant: str) -> Iterator[str]:
    """Settings of the pass for a variant."""
    options = "passes.replace_depthwise"
    yield f"{options}.enabled=true"
    yield f"{options}.variant={variant.removesuffix('50')}"
    if variant.endswith("50"):
        yield f"{options}.which={list(HALVES[network])}"


def rows_of(network: str, *, replace: bool = False) -> Iterator[Row]:
    """The rows of one network, base first."""
    first = None
    for variant in variants_of(network):
        cycles = cycles_of(network, variant, replace=replace)
        first = first or cycles
        yield Row(network, variant, cycles, first / cycles, PUBLISHED[network].get(variant))


@click.command(help=help_of(__doc__))
@click.argument("names", nargs=-1, type=click.Choice(list(NETWORKS)), metavar="[NETWORK ...]")
@click.option("--json", "as_json", is_flag=True)
@click.option("--replace", is_flag=True, help="Make the variants by the pass.")
def main(names: Sequence[str], as_json: bool, replace: bool) -> None:
    """Compute and print; without names all networks."""
    rows = [row for name in names or NETWORKS for row in rows_of(name, replace=replace)]
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    lines = [
        [row.network, row.variant, f"{row.cycles:,}", f"{row.speedup:.2f}",
         "" if row.published_speedup is None else f"{row.published_speedup:g}"]
        for row in rows
    ]  # fmt: skip
    columns = ("network", "variant", ">cycles", ">speed-up", ">published")
    output().print(table(f"FuSeConv's cycles on {TARGET}, from ONNX", columns, lines))


if __name__ == "__main__":
    main()
