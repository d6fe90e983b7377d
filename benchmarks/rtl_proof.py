"""Prove the array's results and cycles by its register-level model, case by case.

Claim: the values are right and the cycle counts equal to the closed forms and to the timing
view's intervals in every case.

    python -m motet.benchmarks.rtl_proof [--cases 400] [--seed 0] [--json]

Needs the package ``amaranth`` (the extra ``dev``). Cases are whole products and 1-D
convolutions cut into tiles (tails, a single tile, tiles smaller than the array), sequences of
tiles of any lengths back to back, and such with operands that come late; 4x4 to 16x16, each
dataflow. Ends with 1 where anything differs.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import Any

import click

from motet.console import output, print_json, progress, table
from motet.errors import EnvironmentLackError


@dataclass
class Tally:
    """What was compared for one dataflow; ``cycles`` are those simulated."""

    dataflow: str
    cases: int = 0
    tiles: int = 0
    outputs: int = 0
    cycles: int = 0
    closed_forms: int = 0
    differences: int = 0


@click.command(help=__doc__.splitlines()[0] if __doc__ else None)
@click.option(
    "--cases",
    default=400,
    show_default=True,
    type=click.IntRange(min=1),
    help="Random cases, at least.",
)
@click.option("--seed", default=0, show_default=True)
@click.option("--json", "as_json", is_flag=True)
def main(cases: int, seed: int, as_json: bool) -> None:
    """Run the cases and print what was compared."""
    try:
        tallies, found = prove(cases, seed)
    except EnvironmentLackError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"tallies": [asdict(tally) for tally in tallies], "differences": found})
    else:
        columns = ["dataflow", ">cases", ">tiles", ">outputs", ">cycles", ">closed forms", ">wrong"]
        rows = [[str(value) for value in asdict(tally).values()] for tally in tallies]
        output().print(table("Register-level model against the timing model", columns, rows))
        for line in found:
            output().print(line)
    sys.exit(1 if found else 0)


def prove(cases: int, seed: int) -> tuple[list[Tally], list[str]]:
    """Compare ``cases`` random cases; the tallies by dataflow, and a line per difference."""
    try:
        from motet.benchmarks.rtl.proof import batches, differences, run_cases
    except ModuleNotFoundError as error:
        raise EnvironmentLackError(
            f"the register-level model needs the package {error.name}: pip install {error.name}"
        ) from error
    tallies: dict[str, Tally] = defaultdict(lambda: Tally(""))
    found = []
    work = batches(cases, seed)
    with progress("register-level cases", len(work)) as show:
        for batch in work:
            show(f"{batch[0].dataflow} {batch[0].rows}x{batch[0].columns}")
            for number, (case, run) in enumerate(zip(batch, run_cases(batch), strict=True)):
                wrong = differences(case, run)
                _count(tallies[case.dataflow], case, run, bool(wrong))
                where = f"{case.dataflow} {case.rows}x{case.columns} case {number} ({case.kind})"
                found += [f"{where}: {line}" for line in wrong]
    return list(tallies.values()), found


def _count(tally: Tally, case: Any, run: Any, wrong: bool) -> None:
    tally.dataflow = case.dataflow
    tally.cases += 1
    tally.tiles += len(case.tiles)
    tally.outputs += case.expected.size
    tally.cycles += run.finished[-1]
    tally.closed_forms += case.cycles is not None
    tally.differences += wrong


if __name__ == "__main__":
    main()
