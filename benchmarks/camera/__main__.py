"""Four networks behind a camera on one CPU: the largest factor on all rates without a late frame.

Claim: Motet carries a factor at least 1.3 times that of the best peer.

    python -m motet.benchmarks.camera [--openvino PYTHON] [--plot FILE.svg] [--json FILE]

ultraface at 30 frames a second, minifas at 15, yolox_nano at 10 and yunet at 60
(benchmarks/camera.toml): real models from the folder that MOTET_MODELS names, else like-sized
ones of the zoo. A frame is released at its moment whatever the engine does, and late where it
ends after its period. Peers: onnxruntime as it comes (a session and a Python thread for each
model), onnxruntime and OpenVINO in the best of several ways, with the same
earliest-deadline-first queue in front where that is better. Each has a process of its own; they
take turns, a trial each. A trial with a late frame is repeated up to --tries times.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

import click
import msgspec

from motet.benchmarks.camera.contenders import contenders
from motet.benchmarks.camera.measuring import Plan, measure
from motet.benchmarks.camera.models import prepare
from motet.benchmarks.camera.report import plot, report
from motet.benchmarks.camera.results import Result
from motet.benchmarks.command_help import help_of
from motet.console import messages, output
from motet.errors import MotetError


@click.command(help=help_of(__doc__))
@click.option("--seconds", default=3.0, show_default=True, type=click.FloatRange(0.1))
@click.option("--tries", default=3, show_default=True, type=click.IntRange(1))
@click.option("--precision", default=1.03, show_default=True, type=click.FloatRange(1.001))
@click.option("--openvino", metavar="PYTHON", help="Also OpenVINO, of this Python (python: own).")
@click.option("--folder", type=click.Path(path_type=Path, file_okay=False), help="Keep files here.")
@click.option("--prepare", "only_prepare", is_flag=True, help="Make and compile, measure nothing.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), metavar="FILE")
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), metavar="FILE.svg")
@click.option("--from", "given", type=click.Path(path_type=Path, exists=True), metavar="FILE",
              help="Print and plot what --json wrote.")  # fmt: skip
def main(
    seconds: float,
    tries: int,
    precision: float,
    openvino: str | None,
    folder: Path | None,
    only_prepare: bool,
    json_path: Path | None,
    plot_path: Path | None,
    given: Path | None,
) -> None:
    """Prepare, measure and print."""
    python = sys.executable if openvino == "python" else openvino
    try:
        if given is not None:
            result = msgspec.json.decode(given.read_bytes(), type=Result)
        else:
            with nullcontext(folder) if folder else tempfile.TemporaryDirectory() as place:
                Path(place).mkdir(parents=True, exist_ok=True)
                camera = prepare(Path(place))
                if only_prepare:
                    return
                plan = Plan(seconds, tries, precision)
                result = measure(camera, contenders(python), plan, messages().print)
        if json_path:
            json_path.write_bytes(msgspec.json.format(msgspec.json.encode(result)) + b"\n")
        if plot_path:
            plot(result, plot_path)
    except (MotetError, msgspec.DecodeError) as error:
        raise click.ClickException(str(error)) from error
    output().print(report(result))


if __name__ == "__main__":
    main()
