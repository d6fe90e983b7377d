"""``motet check``."""

from __future__ import annotations

import sys
from dataclasses import asdict
from pathlib import Path

import click

from motet import api
from motet.check import ATOL, RTOL, Difference, differences, reference_session
from motet.commands.common import (
    chosen,
    compile_options,
    input_option,
    json_option,
    model_option,
    request_of,
    seed_option,
    threads_option,
)
from motet.console import output, print_json, table
from motet.opening import open_or_compile
from motet.runtime.bundle import Bundle
from motet.runtime.errors import InputError
from motet.tensors import parse_inputs


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet check headset.motet\n"
    "  motet check model.onnx --target tiny-4x4 --shape image:1x1x32x32 --runs 5\n"
    "  motet check headset.motet --onnx faces=models/faces.onnx --json\n"
    "\n"
    "Exit code 0: within tolerance; 1: beyond; 2: the question was wrong.\n"
)  # fmt: skip
@click.argument("file", metavar="BUNDLE.motet | MODEL.onnx | SPEC.toml")
@model_option
@click.option("--onnx", multiple=True, metavar="MODEL=PATH", help="Where a model's ONNX file is.")
@click.option("--atol", default=ATOL, show_default=True, help="Absolute tolerance.")
@click.option("--rtol", default=RTOL, show_default=True, help="Relative tolerance, per element.")
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1), help="Random inputs.")
@input_option
@compile_options
@threads_option
@seed_option
@json_option
def check(
    file: str,
    model: str | None,
    onnx: tuple[str, ...],
    atol: float,
    rtol: float,
    runs: int,
    inputs: tuple[str, ...],
    target: str | None,
    shapes: tuple[str, ...],
    settings: tuple[str, ...],
    threads: int | None,
    seed: int,
    as_json: bool,
) -> None:
    """Compare every output with onnxruntime on the same inputs."""
    bundle = open_or_compile(file, request_of(target, shapes, settings))
    session = api.load(bundle, threads=threads)
    paths = _onnx_paths(onnx, list(session))
    found: list[Difference] = []
    for one in chosen(session, model):
        path = paths.get(one.name, bundle.source_path(one.name))
        reference = reference_session(path, one.entry.source.sha256, one.name)
        for run in range(runs):
            arrays = parse_inputs(one, inputs, seed + run)
            found += differences(one, reference, arrays, atol, rtol)
    worst = _worst_per_output(found)
    _print(worst, bundle, as_json)
    if not all(difference.passed for difference in worst):
        sys.exit(1)


def _onnx_paths(texts: tuple[str, ...], models: list[str]) -> dict[str, Path]:
    paths = {}
    for text in texts:
        name, separator, path = text.partition("=")
        if not separator or name not in models:
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


def _print(found: list[Difference], bundle: Bundle, as_json: bool) -> None:
    if as_json:
        print_json([asdict(difference) | {"passed": difference.passed} for difference in found])
        return
    rows = [
        [
            d.model,
            d.output,
            f"{d.absolute:.3g}",
            f"{d.relative:.3g}",
            "ok" if d.passed else "DIFFERS",
        ]
        for d in found
    ]
    columns = ["model", "output", ">largest absolute error", ">relative to largest", "result"]
    output().print(table(f"{bundle.manifest.target} against onnxruntime", columns, rows))
