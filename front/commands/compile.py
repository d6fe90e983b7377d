"""``motet compile``."""

from __future__ import annotations

from pathlib import Path

import click

from motet.commands.common import compile_options, json_option
from motet.console import output, print_json, quantity
from motet.opening import CompileRequest, compile_files


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet compile faces.onnx hands.onnx -o headset.motet\n"
    "  motet compile headset.toml --set models.faces.rate_hz=60\n"
    "  motet compile faces.onnx --target edge-64x64 --shape image:1x3x224x224\n"
)  # fmt: skip
@click.argument("files", nargs=-1, required=True, metavar="SPEC.toml | A.onnx B.onnx ...")
@click.option("-o", "--output", "out", metavar="FILE.motet", help="Default: named after the input.")
@compile_options
@click.option("--print-ir-after", multiple=True, metavar="PASS", help="Print TVMScript after PASS.")
@click.option("--time-passes", is_flag=True, help="Print the seconds of every pass.")
@json_option
def compile(  # noqa: A001 - named after its command
    files: tuple[str, ...],
    out: str | None,
    target: str | None,
    shapes: tuple[str, ...],
    settings: tuple[str, ...],
    print_ir_after: tuple[str, ...],
    time_passes: bool,
    as_json: bool,
) -> None:
    """Compile ONNX models, or a specification of several, into one bundle."""
    request = CompileRequest(target, shapes, settings, print_ir_after, time_passes)
    bundle = compile_files(files, request)
    path = bundle.save(out or Path(files[0]).with_suffix(".motet").name)
    size = path.stat().st_size
    models = [entry.name for entry in bundle.manifest.models]
    if as_json:
        print_json({"path": str(path), "size_bytes": size, "models": models})
        return
    output().print(
        f"{path}: {', '.join(models)} for {bundle.manifest.target}, {quantity(size, 'B')}"
    )
