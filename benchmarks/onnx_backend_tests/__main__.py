"""Run ONNX's official backend tests on Motet.

Claim: Motet passes more of them than onnxruntime's CPU.

    python -m motet.benchmarks.onnx_backend_tests [--json OUT] [-k NAME] [--markdown]

Every case runs in a worker process with a time limit; answers are compared as onnx's own
runner does, with its tolerances. Skipped is only what Motet leaves out by design and
refuses with a clear error; a failure marked "internal" is a defect. Exit code 1 where a case
that was run failed.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click

from motet.benchmarks.command_help import help_of
from motet.console import output, progress, table

from .cases import Case, official_cases, selected
from .report import STATES, as_json, counts, from_json, kind_rows, operator_rows, page
from .run import Result, results


@click.command(help=help_of(__doc__))
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="OUT")
@click.option("-k", "pattern", metavar="NAME", help="Cases whose name has this (a regex).")
@click.option("--jobs", default=os.cpu_count() or 1, show_default="all CPUs", help="Workers.")
@click.option("--timeout", default=60.0, show_default=True, help="Seconds for one case.")
@click.option("--reference", is_flag=True, help="onnxruntime beside it, on the same cases.")
@click.option(
    "--from",
    "earlier",
    type=click.Path(exists=True, path_type=Path),
    metavar="OUT",
    help="Run nothing: show what an earlier --json OUT has.",
)
@click.option("--markdown", is_flag=True, help="Print docs/OPERATORS.md instead of tables.")
def main(
    json_file: Path | None,
    pattern: str | None,
    jobs: int,
    timeout: float,
    reference: bool,
    earlier: Path | None,
    markdown: bool,
) -> None:
    """Run and print."""
    _check(json_file, pattern)
    with progress("loading the cases"):
        cases = list(selected(official_cases(), pattern))
    if not cases:
        raise click.UsageError(f"no case has {pattern!r} in its name")
    if earlier is not None:
        facts = json.loads(earlier.read_text(encoding="utf-8"))
        found, beside = from_json(cases, facts), facts.get("onnxruntime")
    else:
        found, beside = _run(cases, jobs, timeout, "motet"), None
    if reference:
        beside = _reference(cases, jobs, timeout)
    if json_file is not None:
        text = json.dumps(as_json(found, beside), indent=1)
        json_file.write_text(text + "\n", encoding="utf-8")
    if markdown:
        sys.stdout.write(page(found, version("onnx"), beside))
    else:
        _print(found, beside)
    if earlier is None and any(result.result == "failed" for result in found):
        sys.exit(1)


def _check(json_file: Path | None, pattern: str | None) -> None:
    """What would otherwise be noticed after all cases ran."""
    if json_file is not None and not json_file.resolve().parent.is_dir():
        raise click.UsageError(f"--json {json_file}: there is no folder {json_file.parent}")
    try:
        re.compile(pattern or "")
    except re.error as error:
        raise click.UsageError(f"-k {pattern}: no regular expression: {error}") from error


def _run(cases: Sequence[Case], jobs: int, timeout: float, engine: str) -> list[Result]:
    """Results in the order of ``cases``; a bar on stderr."""
    found: dict[str, Result] = {}
    failed = 0
    with progress(engine, len(cases)) as show:
        for result in results(cases, jobs, timeout, engine):
            found[result.case.name] = result
            failed += result.result == "failed"
            show(f"{failed} failed, {result.case.name}")
    return [found[case.name] for case in cases]


def _reference(cases: Sequence[Case], jobs: int, timeout: float) -> dict[str, Any]:
    found = _run(cases, jobs, timeout, "onnxruntime")
    return {"version": version("onnxruntime"), **counts(found)}


def _print(found: Sequence[Result], beside: dict[str, Any] | None) -> None:
    out = output()
    columns = [f">{state}" for state in STATES]
    out.print(table("By operator", ["operator", "versions", *columns], operator_rows(found)))
    out.print()
    for result in found:
        if result.result == "failed":
            out.print(f"failed: {result.case.name}: {result.reason}")
    out.print()
    out.print(table("", ["cases", *columns], kind_rows(found)))
    facts = as_json(found, None)
    out.print(f"{facts['specialised']} of the passed cases were specialised to values of the call")
    if beside is not None:
        out.print(f"onnxruntime {beside['version']}: {beside['passed']} passed")


if __name__ == "__main__":
    main()
