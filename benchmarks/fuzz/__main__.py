"""Mutate ONNX files and see that Motet answers rightly, or refuses in one line.

    python -m motet.benchmarks.fuzz --count 10000 --seed 0 [--jobs N] [--json OUT]
    python -m motet.benchmarks.fuzz --case 1234 --seed 0

The first line runs in a clone, whose examples are among the models; the second shows one
case in full, in its own process.

A case is a small correct model (ONNX's official tests, the examples of a clone, a small
SqueezeNet) after one to three mutations of attributes, shapes, types, tensors, edges,
nodes, operator sets, names or bytes. It is fine if Motet's answer is that of onnxruntime
(where they differ, of onnx.reference), or if it is refused with a ``motet.errors``
exception whose message is one line and names the model. Anything else (another exception,
a crash, a time out, a wrong answer) is a finding: it is kept in the folder of --keep, and
the command ends with 1.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.console import messages, output, progress

from . import seeds
from .cases import Case, make_case
from .judge import by_onnxruntime, by_reference
from .report import Summary, describe, keep, save_json
from .run import Limits, Result, Runner
from .subject import examine, prepare


@click.command(help=help_of(__doc__))
@click.option("--count", default=10_000, show_default=True, type=click.IntRange(1))
@click.option("--first", default=0, show_default=True, help="The first case's number.")
@click.option("--seed", default=0, show_default=True)
@click.option("--jobs", default=1, show_default=True, type=click.IntRange(1))
@click.option(
    "--case", "only", type=int, multiple=True,
    help="Only this case: one in this process and in full, several as a run.",
)  # fmt: skip
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE")
@click.option(
    "--keep", "folder", default=Path("fuzz_findings"), type=click.Path(path_type=Path),
    show_default=True, metavar="FOLDER", help="Where findings go.",
)  # fmt: skip
@click.option("--seconds", default=Limits.seconds, show_default=True, help="Limit of a case.")
@click.option("--memory-gb", default=4.0, show_default=True, help="Limit of a case.")
def main(
    count: int,
    first: int,
    seed: int,
    jobs: int,
    only: tuple[int, ...],
    json_file: Path | None,
    folder: Path,
    seconds: float,
    memory_gb: float,
) -> None:
    """Run the cases, or one of them."""
    operators, networks = seeds.official(), seeds.networks()
    limits = Limits(seconds, int(memory_gb * 2**30))
    if len(only) == 1:
        _show(make_case(only[0], seed, operators, networks), limits)
        return
    summary, start = Summary(), time.monotonic()
    numbers = only or range(first, first + count)
    cases = (make_case(number, seed, operators, networks) for number in numbers)
    with Runner(jobs, limits) as runner, progress("fuzz", len(numbers)) as show:
        for result in runner.results(cases):
            show(f"{len(summary.findings)} findings")
            _record(result, summary, folder)
            if summary.kinds.total() % 1000 == 0:
                messages().print("; ".join(summary.figures()))
    elapsed = time.monotonic() - start
    if json_file is not None:
        save_json(summary, json_file, seed, elapsed)
    for line in summary.lines():
        output().print(line)
    sys.exit(1 if summary.findings else 0)


def _show(case: Case, limits: Limits) -> None:
    """One case without workers: all that Motet and the references say of it."""
    output().print(f"case {case.number} of {case.origin}: {'; '.join(case.steps)}")
    prepare(limits.memory_bytes, quiet=False)
    outcome = examine(case)
    output().print(f"{outcome.kind}: {outcome.detail}\n{outcome.trace}")
    if outcome.inputs is None or outcome.outputs is None:
        return
    for judge in (by_onnxruntime, by_reference):
        verdict = judge(case.content, outcome.inputs, outcome.outputs)
        output().print(f"{judge.__name__}: {verdict.kind} {verdict.detail}")


def _record(result: Result, summary: Summary, folder: Path) -> None:
    summary.add(result)
    if result.is_finding:
        keep(result, folder)
        output().print(describe(result))


if __name__ == "__main__":
    main()
