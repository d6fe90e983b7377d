"""``motet check``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import click

from motet.check import Difference, differences, onnx_paths, reference_session
from motet.commands.check_nodes import Given, compare_nodes, print_first, print_nodes
from motet.commands.common import (
    Format,
    RunRequest,
    format_options,
    onnx_option,
    print_as,
    run_options,
)
from motet.console import output, progress, table
from motet.roundings import Roundings, differences_beside_rounding
from motet.runtime.session import Session


@click.command(
    epilog="Examples:\n\n"
    "\b\n"
    "  motet check headset.motet\n"
    "  motet check model.onnx --target tiny-4x4 --shape image:1x1x32x32 --runs 5\n"
    "  motet check headset.motet --onnx faces=models/faces.onnx --json\n"
    "  motet check model.onnx --bisect\n"
    "\n"
    "Tolerances where neither --atol nor --rtol is given: float32 and float64 1e-4 + 1e-3 of the "
    "reference element; float16 1e-4 + 1e-2 of the output's largest element; integers must be "
    "equal. Booleans must always be equal. With one of the two given, the other is 0. "
    "Inner floats may also differ by 5e-4 of their tensor's largest element, unless one is given.\n"
    "\n"
    "A quantised model (QuantizeLinear and its kin) beyond these may also differ by as much as "
    "rounding alone moves it: twice, in root mean square and in its largest element, what "
    "onnxruntime's own outputs move by where the quantisers' scales are off by 6e-5 (the furthest "
    "of three such runs; where --atol and --rtol are not given).\n"
    "\n"
    "--outputs all and --bisect compare what the bundle's own kernels compute with onnxruntime's "
    "inner values. What fusion or folding removed cannot be compared; where a difference may lie "
    "there, --bisect compiles those nodes apart. Both need motet[compile].\n"
    "\n"
    "Exit code 0: within tolerance; 1: beyond; 2: the question was wrong.\n"
)
@onnx_option
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
@click.option(
    "--outputs",
    default="graph",
    show_default=True,
    type=click.Choice(["graph", "all"]),
    help="all: also every node's output that survived compilation.",
)
@click.option("--bisect", is_flag=True, help="Name the first node whose value differs.")
@run_options
@format_options
def check(
    request: RunRequest,
    onnx: tuple[str, ...],
    atol: float | None,
    rtol: float | None,
    runs: int,
    outputs: str,
    bisect: bool,
    form: Format,
) -> None:
    """Compare every output with onnxruntime's."""
    session = request.load()
    paths = onnx_paths(onnx, list(session))
    target = session.bundle.manifest.target
    if bisect or outputs == "all":
        _check_nodes(request, session, paths, (atol, rtol), runs, bisect, form)
        return
    worst = _check_outputs(request, session, paths, (atol, rtol), runs)
    plain = [asdict(difference) | {"passed": difference.passed} for difference in worst]
    try:
        print_as(form, plain, lambda: _print(worst, target))
    finally:  # even where nobody reads the table to its end
        if not all(difference.passed for difference in worst):
            click.get_current_context().exit(1)


def _check_nodes(
    request: RunRequest,
    session: Session,
    paths: dict[str, Path],
    given: Given,
    runs: int,
    bisect: bool,
    form: Format,
) -> None:
    with progress("check", total=runs * len(request.models(session))) as show:
        found = compare_nodes(request, session, paths, given, runs, bisect, show)
    try:
        (print_first if bisect else print_nodes)(form, found, session.bundle.manifest.target)
    finally:
        if not all(one.passed for one in found):
            click.get_current_context().exit(1)


def _check_outputs(
    request: RunRequest, session: Session, paths: dict[str, Path], given: Given, runs: int
) -> list[Difference]:
    """The worst difference of every output over all runs."""
    models = request.models(session)
    found: list[Difference] = []
    with progress("check", total=runs * len(models)) as show:
        references = [
            reference_session(_file(session, paths, one.name), one.entry.source.sha256, one.name)
            for one in models
        ]
        files = {one.name: _file(session, paths, one.name) for one in models}
        roundings = {name: Roundings(name, str(path)) for name, path in files.items()}
        for run in range(runs):
            arrays = request.arrays(models, run)
            for one, reference in zip(models, references, strict=True):
                show(one.name)
                if given == (None, None):
                    found += differences_beside_rounding(
                        one, reference, roundings[one.name], arrays[one.name]
                    )
                else:
                    found += differences(one, reference, arrays[one.name], *given)
    return _worst_per_output(found)


def _file(session: Session, paths: dict[str, Path], model: str) -> Path:
    """The ONNX file that a model was compiled from, where it is now."""
    return paths.get(model, session.bundle.source_path(model))


def _worst_per_output(found: list[Difference]) -> list[Difference]:
    worst: dict[tuple[str, str], Difference] = {}
    for difference in found:
        key = (difference.model, difference.output)
        if key not in worst or difference.worst > worst[key].worst:
            worst[key] = difference
    return list(worst.values())


def _print(found: Sequence[Difference], target: str) -> None:
    columns = [
        "model", "output", "dtype", ">largest absolute error", ">relative to largest", "result",
    ]  # fmt: skip
    rows = [_row(difference) for difference in found]
    output().print(table(f"{target} against onnxruntime", columns, rows))


def _row(difference: Difference) -> list[str]:
    result = f"{'ok' if difference.passed else 'DIFFERS'} {difference.note}".rstrip()
    return [
        difference.model,
        difference.output,
        difference.dtype,
        f"{difference.absolute:.3g}",
        f"{difference.relative:.3g}",
        result,
    ]
