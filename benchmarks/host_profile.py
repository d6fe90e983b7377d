"""Where the time of one network goes, call by call, with onnxruntime's nodes beside.

    python -m motet.benchmarks.host_profile NETWORK [--threads 1] [--top 20] [--json]
    python -m motet.benchmarks.host_profile onnx/squeezenet --folder kept

NETWORK is a name of the host suite, a network of the zoo (``lstm@16``) or an ONNX file.
Motet's calls are timed as ``motet bench --profile`` does, onnxruntime's nodes by its own
profiler in a process before; its nodes are put beside the call that computes the same ONNX
nodes, and what it adds or splits otherwise (reorders) is listed at the end.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import click
import onnx

import motet
from motet.benchmarks.command_help import help_of
from motet.benchmarks.host_suite import networks
from motet.benchmarks.host_suite.measuring import prepare
from motet.benchmarks.host_suite.node_times import NodeTime, node_times, origin
from motet.console import output, print_json, seconds, table
from motet.errors import MotetError
from motet.runtime.profiler import CallProfile, Profile, profile


@dataclass
class Row:
    """A call of Motet's and onnxruntime's nodes that compute its ONNX nodes."""

    call: CallProfile
    theirs: list[NodeTime] = field(default_factory=list)

    @property
    def their_seconds(self) -> float:
        """Their sum; 0 where onnxruntime has made other nodes of it."""
        return sum(one.seconds for one in self.theirs)


def side_by_side(
    ours: Profile, theirs: Sequence[NodeTime], model: onnx.ModelProto
) -> tuple[list[Row], list[NodeTime]]:
    """Rows in the order of Motet's calls, and onnxruntime's nodes that belong to none."""
    rows = [Row(call) for call in ours.calls]
    by_node = {node: row for row in rows for node in row.call.onnx_nodes}
    rest = []
    for one in theirs:
        row = by_node.get(origin(one.node, model) or "")
        if row is None:
            rest.append(one)
        else:
            row.theirs.append(one)
    return rows, rest


@click.command(help=help_of(__doc__))
@click.argument("network")
@click.option("--threads", default=1, show_default=True, type=click.IntRange(1))
@click.option("--duration", default=3.0, show_default=True, type=click.FloatRange(0.01))
@click.option("--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224")
@click.option("--top", type=click.IntRange(1), metavar="N", help="Dearest calls first.")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Keeps models.")
@click.option("--json", "as_json", is_flag=True)
def main(
    network: str,
    threads: int,
    duration: float,
    shapes: tuple[str, ...],
    top: int | None,
    folder: Path | None,
    as_json: bool,
) -> None:
    """Measure and print."""
    try:
        (chosen,) = networks.chosen((network,))
        with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
            Path(place).mkdir(parents=True, exist_ok=True)
            ready = prepare(chosen, Path(place), shapes)
            theirs = node_times(ready.model, ready.inputs, threads, duration)
            (session,) = motet.load(ready.bundle, threads=threads).values()
            ours = profile(session, duration=duration)
            model = onnx.load(ready.model, load_external_data=False)
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    rows, rest = side_by_side(ours, theirs, model)
    if as_json:
        calls = [asdict(row) | {"gflops": row.call.gflops} for row in rows]
        print_json({"calls": calls, "others": [asdict(one) for one in rest]})
        return
    _print(ours, theirs, rows, rest, top)


_COLUMNS = [
    "call", "operators", ">Motet", ">onnxruntime", ">ratio", ">GFLOP/s", ">GB/s", "result",
    "ONNX nodes", "onnxruntime's",
]  # fmt: skip


def _print(
    ours: Profile,
    theirs: Sequence[NodeTime],
    rows: list[Row],
    rest: Sequence[NodeTime],
    top: int | None,
) -> None:
    total = sum(one.seconds for one in theirs)
    title = (
        f"{ours.model}: Motet's calls {seconds(ours.calls_seconds)} (a run "
        f"{seconds(ours.run_seconds)}), onnxruntime's nodes {seconds(total)}"
    )
    if top is not None:
        rows = sorted(rows, key=lambda row: -row.call.median_seconds)[:top]
    output().print(table(title, _COLUMNS, [_cells(row) for row in rows]))
    cells = [[one.node, one.op_type, seconds(one.seconds)] for one in rest]
    title = f"\nonnxruntime's other nodes: {seconds(sum(one.seconds for one in rest))}"
    output().print(table(title, ["node", "operator", ">mean"], cells))


def _cells(row: Row) -> list[str]:
    call, theirs = row.call, row.their_seconds
    return [
        call.op,
        call.kind,
        seconds(call.median_seconds),
        seconds(theirs) if theirs else "",
        f"{theirs / call.median_seconds:.2f}" if theirs else "",
        f"{call.gflops:.1f}" if call.macs else "",
        f"{call.gigabytes_per_second:.1f}",
        "x".join(map(str, call.shapes[-1])) if call.shapes else "",
        call.onnx_nodes[0] if call.onnx_nodes else "",
        "+".join(one.op_type for one in row.theirs),
    ]


if __name__ == "__main__":
    main()
