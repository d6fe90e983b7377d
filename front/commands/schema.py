"""``motet schema``."""

from __future__ import annotations

import click

from motet.console import print_json


@click.command(epilog="Example:\n\n\b\n  motet schema > bundle.schema.json\n")
def schema() -> None:
    """Print the JSON Schema of a bundle specification."""
    from motet.compiler.spec_schema import json_schema

    print_json(json_schema())
