"""Time the suite's networks on this CPU: Motet beside onnxruntime and OpenVINO.

Claim: on the host CPU, Motet is ahead of onnxruntime on the suite.

    python -m motet.benchmarks.host_suite [--threads 1 --threads 2] [--results FILE]
    python -m motet.benchmarks.host_suite --networks onnx/resnet50 --networks lstm@16
    python -m motet.benchmarks.host_suite --int8
    python -m motet.benchmarks.host_suite --openvino other/bin/python --results r.jsonl

The suite: the nine architectures of onnx's backend data, MobileNets, EfficientNet-Lite0,
BERT-base at 128 tokens, ViT-tiny and an LSTM, all with seeded random weights, the examples
of a clone, and what MOTET_MODELS holds. Every engine has a process of its own and the same
inputs; they take short turns, and who is not at turn sleeps. Ratios are of medians over all
runs. Beside them the speed of light: operations at the measured fp32 peak, or bytes at the
measured bandwidth. --bf16 adds Motet (host.compute = "bf16") and OpenVINO in bf16, and how far
their outputs are from onnxruntime's in fp32. With --results a line is written for each
network, and what the file has already is not measured again. --int8 is for ResNet-50 and
MobileNetV2 as onnxruntime quantises them; there the ratios are to its 8 bits and to its fp32,
and no limit is known.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.benchmarks.host_suite import limits, networks
from motet.benchmarks.host_suite.measuring import Plan, measure, prepare
from motet.benchmarks.host_suite.networks import Network
from motet.benchmarks.host_suite.report import report
from motet.benchmarks.host_suite.results import ResultFile
from motet.console import output, print_json, progress, warn
from motet.errors import MotetError


@click.command(help=help_of(__doc__))
@click.option("--networks", "names", multiple=True, metavar="NAME", help="Not the whole suite.")
@click.option("--int8", is_flag=True, help="Networks in 8 bits, beside onnxruntime's fp32 too.")
@click.option("--bf16", is_flag=True, help="Also Motet and OpenVINO in bf16.")
@click.option("--shape", "shapes", multiple=True, metavar="INPUT:1x3x224x224")
@click.option("--threads", multiple=True, type=click.IntRange(1), default=(1, 2), show_default=True)
@click.option("--turns", default=8, show_default=True, type=click.IntRange(1))
@click.option("--turn-seconds", default=0.4, show_default=True, type=click.FloatRange(0.001))
@click.option("--openvino", metavar="PYTHON", help="Also OpenVINO, of this Python (python: own).")
@click.option("--results", "file", type=click.Path(path_type=Path, dir_okay=False))
@click.option(
    "--folder", type=click.Path(path_type=Path, file_okay=False), help="Keep models here."
)
@click.option("--prepare", "only_prepare", is_flag=True, help="Make and compile, measure nothing.")
@click.option("--prepared", is_flag=True, help="Take the bundles that --prepare left in --folder.")
@click.option("--list", "listed", is_flag=True, help="Say which networks there are.")
@click.option("--json", "as_json", is_flag=True)
def main(
    names: tuple[str, ...],
    int8: bool,
    bf16: bool,
    shapes: tuple[str, ...],
    threads: tuple[int, ...],
    turns: int,
    turn_seconds: float,
    openvino: str | None,
    file: Path | None,
    folder: Path | None,
    only_prepare: bool,
    prepared: bool,
    listed: bool,
    as_json: bool,
) -> None:
    """Choose, measure and print."""
    python = sys.executable if openvino == "python" else openvino
    plan = Plan(turns, turn_seconds, python, shapes, prepared, bf16)
    try:
        chosen = networks.chosen(names or (("int8",) if int8 else ()))
        results = ResultFile(file)
    except MotetError as error:
        raise click.UsageError(str(error)) from error
    if listed:
        output().print("\n".join(network.name for network in chosen))
        return
    with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
        Path(place).mkdir(parents=True, exist_ok=True)
        _run(chosen, () if only_prepare else threads, plan, results, Path(place))
    if as_json:
        print_json([result.facts() for result in results.results])
    elif not only_prepare:
        output().print(report(results.results))


def _run(
    chosen: list[Network], threads: tuple[int, ...], plan: Plan, results: ResultFile, folder: Path
) -> None:
    with progress("host suite", total=len(chosen)) as show:
        for network in chosen:
            todo = [n for n in threads if not results.has(network.name, n, plan.engines)]
            if threads and not todo:
                show(network.name)
                continue
            try:
                show(network.name)
                ready = prepare(network, folder, plan.shapes, plan.compiled, plan.bf16)
                for number in todo:
                    bound = results.limits(number) or limits.measure(number)
                    results.add(measure(ready, number, bound, plan))
            except MotetError as error:
                warn(f"{network.name} is left out: {error}")


if __name__ == "__main__":
    main()
