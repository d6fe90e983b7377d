"""``motet compile``."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from motet.commands.common import compile_options, json_option
from motet.console import output, print_json, quantity, seconds, table
from motet.description import code_facts, packing_text, sharing_text
from motet.opening import CompileRequest, Insight, check_destination, compile_files
from motet.runtime.bundle import Bundle
from motet.runtime.errors import SpecError
from motet.runtime.timetable import read as read_timetable


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet compile faces.onnx hands.onnx -o headset.motet\n"
    "  motet compile headset.toml --set models.faces.rate_hz=60\n"
    "  motet compile headset.toml --timetable timetable.json\n"
    "  motet compile faces.onnx --target edge-64x64 --shape image:1x3x224x224\n"
)  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="SPEC.toml | A.onnx B.onnx ...")
@click.option(
    "-o", "--output", "out", metavar="FILE.motet",
    help="Default: the first file's name with .motet, in the current folder.",
)  # fmt: skip
@compile_options
@click.option(
    "--print-ir-after", multiple=True, metavar="PASS",
    help="Print TVMScript after PASS; an unknown name gets the list.",
)  # fmt: skip
@click.option("--time-passes", is_flag=True, help="Print the time of every pass, and of code.")
@click.option(
    "--verify-passes", is_flag=True, help="Check after every pass that the module is well formed."
)
@click.option(
    "--jobs", type=click.IntRange(1, 1024), metavar="N",
    help="Processes that compile host kernels. Default: one per CPU.",
)  # fmt: skip
@click.option(
    "--no-cache", is_flag=True,
    help="Compile every kernel anew and keep none (motet cache shows what is kept).",
)  # fmt: skip
@click.option(
    "--tuned/--no-tuned", default=True, show_default=True,
    help="Use kernel settings that motet tune measured on this machine, where there are any.",
)  # fmt: skip
@click.option(
    "--timetable", metavar="FILE.json",
    help="Store a timetable that motet timetable -o made of these models, and programs for the "
    "pods that it gives them.",
)  # fmt: skip
@json_option
def compile(  # noqa: A001 - named after its command
    request: CompileRequest,
    files: tuple[str, ...],
    out: str | None,
    print_ir_after: tuple[str, ...],
    time_passes: bool,
    verify_passes: bool,
    jobs: int | None,
    no_cache: bool,
    tuned: bool,
    timetable: str | None,
    as_json: bool,
) -> None:
    """Compile ONNX models, or a specification, into a bundle."""
    folder = next((f for f in files if not Path(f).suffix and Path(f).is_dir()), None)
    if folder is not None:
        raise SpecError(f"{folder} is a folder: give one .toml specification or .onnx files")
    path = check_destination(Path(out or Path(files[0]).with_suffix(".motet").name), "--output")
    request = replace(
        request,
        print_ir_after=print_ir_after,
        verify_passes=verify_passes,
        jobs=jobs,
        cache=not no_cache,
        tuned=tuned,
    )
    named = None if timetable is None else _named(timetable)
    insight, started = Insight(), time.perf_counter()
    try:
        bundle = compile_files(files, request, insight, named)
    finally:
        if not as_json:
            for module in insight.ir:
                click.echo(module)
    bundle.save(path)
    facts = _facts(bundle, path, time.perf_counter() - started)
    if as_json:
        if time_passes:
            facts["pass_seconds"] = insight.pass_seconds
            facts["code_seconds"] = insight.code_seconds
        if insight.ir:
            facts["ir"] = insight.ir
        print_json(facts)
        return
    if time_passes:
        _print_times(insight)
    output().print(_line(facts))


def _named(path: str) -> Path:
    """The file, looked at before anything is compiled."""
    read_timetable(path)
    return Path(path)


def _facts(bundle: Bundle, path: Path, elapsed: float) -> dict[str, Any]:
    return {
        "path": str(path),
        "size_bytes": path.stat().st_size,
        "target": bundle.manifest.target,
        "models": [entry.name for entry in bundle.manifest.models],
        "compile_seconds": elapsed,
        **code_facts(bundle),
    }


def _line(facts: dict[str, Any]) -> str:
    """What was made, in one line."""
    line = (
        f"{facts['path']}: {', '.join(facts['models'])} for {facts['target']}, "
        f"{quantity(facts['size_bytes'], 'B')}, {facts['kernel_count']} host kernels"
    )
    if facts["target"] != "host":
        share = facts["array_share"]
        line += f", {facts['array_program_count']} array programs" + (
            f", {100 * share:.1f} % of MACs on the array" if share is not None else ""
        )
    if shared := sharing_text(facts["sharing"]):
        line += f", {shared}"
    if packed := packing_text(facts):
        line += f", {packed}"
    return f"{line}, in {seconds(facts['compile_seconds'])}"


def _print_times(insight: Insight) -> None:
    times = {**insight.pass_seconds, "all passes": sum(insight.pass_seconds.values())}
    times["kernels and array programs"] = insight.code_seconds
    rows = [[name, f"{1e3 * spent:,.1f}"] for name, spent in times.items()]
    output().print(table("", ["pass", ">ms"], rows))
    output().print()
