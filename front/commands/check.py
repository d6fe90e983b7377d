"""``motet check``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from motet import api
from motet.check import Difference, differences, reference_session
from motet.commands.common import (
    chosen,
    compile_options,
    csv_option,
    input_option,
    json_option,
    model_option,
    one_format,
    request_of,
    seed_option,
    threads_option,
)
from motet.console import output, print_csv, print_json, progress, table
from motet.opening import open_or_compile
from motet.runtime.bundle import Bundle
from motet.runtime.errors import InputError
from motet.tensors import parse_all_inputs


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  motet check headset.motet\n"
    "  motet check model.onnx --target tiny-4x4 --shape image:1x1x32x32 --runs 5\n"
    "  motet check headset.motet --onnx faces=models/faces.onnx --json\n"
    "\n"
    "Tolerances where neither --atol nor --rtol is given: float32 and float64 1e-4 + 1e-3 of the "
    "reference element; float16 1e-4 + 1e-2 of the output's largest element; integers must be "
    "equal. Booleans must always be equal. With one of the two given, the other is 0.\n"
    "\n"
    "Exit code 0: within tolerance; 1: beyond; 2: the question was wrong.\n"
)
@click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")
@model_option
@click.option(
    "--onnx",
    multiple=True,
    metavar="MODEL=PATH",
    help="Where a model's ONNX file is now; PATH alone where there is one model.",
)
@click.option(
    "--atol", type=click.FloatRange(0), help="Absolute tolerance; by default the dtype's, below."
)
@click.option("--rtol", type=click.FloatRange(0), help="Relative tolerance, per element.")
@click.option(
    "--runs",
    default=1,
    show_default=True,
    type=click.IntRange(1),
    help="Inputs to try, from --seed up.",
)
@input_option
@compile_options
@threads_option
@seed_option
@json_option
@csv_option
def check(
    file: str,
    model: str | None,
    onnx: tuple[str, ...],
    atol: float | None,
    rtol: float | None,
    runs: int,
    inputs: tuple[str, ...],
    target: str | None,
    shapes: tuple[str, ...],
    settings: tuple[str, ...],
    threads: int | None,
    seed: int,
    as_json: bool,
    as_csv: bool,
) -> None:
    """Compare every output with onnxruntime's."""
    one_format(as_json, as_csv)
    bundle = open_or_compile(file, request_of(target, shapes, settings))
    session = api.load(bundle, threads=threads)
    models = chosen(session, model)
    paths = _onnx_paths(onnx, list(session))
    found: list[Difference] = []
    with progress("check", total=runs * len(models)) as show:
        for one in models:
            path = paths.get(one.name, bundle.source_path(one.name))
            reference = reference_session(path, one.entry.source.sha256, one.name)
            for run in range(runs):
                show(one.name)
                arrays = parse_all_inputs(models, inputs, seed + run)[one.name]
                found += differences(one, reference, arrays, atol, rtol)
    worst = _worst_per_output(found)
    try:
        _print(worst, bundle, as_json, as_csv)
    finally:  # even where nobody reads the table to its end
        if not all(difference.passed for difference in worst):
            click.get_current_context().exit(1)


def _onnx_paths(texts: tuple[str, ...], models: list[str]) -> dict[str, Path]:
    paths = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator and len(models) == 1:
            name, path = models[0], text
        if name not in models:
            raise InputError(f"--onnx {text}: write MODEL=PATH with one of {', '.join(models)}")
        paths[name] = Path(path)
    return paths


def _worst_per_output(found: list[Difference]) -> list[Difference]:
    worst: dict[tuple[str, str], Difference] = {}
    for difference in found:
        key = (difference.model, difference.output)
        if key not in worst or difference.worst > worst[key].worst:
            worst[key] = difference
    return list(worst.values())


def _print(found: list[Difference], bundle: Bundle, as_json: bool, as_csv: bool) -> None:
    plain = [asdict(difference) | {"passed": difference.passed} for difference in found]
    if as_json:
        print_json(plain)
    elif as_csv:
        print_csv(plain)
    else:
        columns = [
            "model", "output", "dtype", ">largest absolute error", ">relative to largest", "result",
        ]  # fmt: skip
        rows = [_row(difference) for difference in found]
        output().print(table(f"{bundle.manifest.target} against onnxruntime", columns, rows))


def _row(difference: Difference) -> list[str]:
    result = "ok" if difference.passed else f"DIFFERS {difference.note}".rstrip()
    return [
        difference.model,
        difference.output,
        difference.dtype,
        f"{difference.absolute:.3g}",
        f"{difference.relative:.3g}",
        result,
    ]
