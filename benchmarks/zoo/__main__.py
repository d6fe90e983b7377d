"""Write a network of the zoo, with seeded random weights, as an ONNX file.

    python -m motet.benchmarks.zoo NAME [--variant V] [--seed N] -o x.onnx
    python -m motet.benchmarks.zoo --list

A variant is a name that the family knows, ``@SIZE`` for the edge of the image or the length
of the sequence, or both: ``--variant 1.0``, ``--variant @64``, ``--variant 1.0@64``. The
same seed gives the same bytes.
"""

from __future__ import annotations

from pathlib import Path

import click

from motet.benchmarks.command_help import help_of
from motet.console import output, table
from motet.runtime.atomic import write_atomically
from motet.runtime.errors import MotetError
from motet.runtime.shapes import render_shape

from . import figures, registry


@click.command(help=help_of(__doc__))
@click.argument("name", required=False)
@click.option("--variant", help="Of the family, @SIZE, or both; see above.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option("-o", "--output", "file", type=click.Path(path_type=Path), metavar="FILE.onnx")
@click.option("--list", "listed", is_flag=True, help="Say which networks there are.")
def main(name: str | None, variant: str | None, seed: int, file: Path | None, listed: bool) -> None:
    """Write or list."""
    if listed:
        _list()
        return
    if name is None or file is None:
        raise click.UsageError("say which network and where: NAME -o FILE.onnx (or --list)")
    try:
        model = registry.build(name, variant, seed)
        write_atomically(file, [model.SerializeToString(deterministic=True)])
    except (MotetError, OSError) as error:
        raise click.ClickException(str(error)) from error
    parameters = figures.parameters(model)
    output().print(f"{file}: {model.graph.name}, seed {seed}, {parameters} parameters")


def _list() -> None:
    rows = [
        [
            name,
            registry.variant_of(name, None),
            _input(name),
            (module.__doc__ or "").splitlines()[0],
        ]
        for name, module in registry.families().items()
    ]
    output().print(table("Networks of the zoo", ["name", "variant", "input", "what"], rows))
    output().print("--variant @SIZE: another edge of the image, or another length of the sequence")


def _input(name: str) -> str:
    """The shape of the first input without --variant."""
    info = registry.outline(name).graph.input[0]
    return render_shape([dim.dim_value for dim in info.type.tensor_type.shape.dim])


if __name__ == "__main__":
    main()
