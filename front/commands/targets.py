"""``motet targets``."""

from __future__ import annotations

from typing import Any

import click

from motet.commands.common import Format, format_options, print_as
from motet.console import output, quantity, table


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet targets\n"
    "  motet targets --json\n"
    "\n"
    "--target takes these names, host, or the path of a description of one's own (.toml).\n"
)  # fmt: skip
@format_options
def targets(form: Format) -> None:
    """List the arrays that --target knows by name."""
    facts = _facts()
    rows = [row | {key: " ".join(row[key]) for key in ("dataflows", "formats")} for row in facts]
    print_as(form, facts, lambda: _print(facts), rows)


def _facts() -> list[dict[str, Any]]:
    from msgspec import to_builtins

    from motet.targets.systolic.description import load_description, shipped_descriptions

    return [to_builtins(load_description(name)) for name in shipped_descriptions()]


def _print(facts: list[dict[str, Any]]) -> None:
    columns = [
        "array", ">pods", ">rows x columns", "dataflows", "formats", ">scratchpad",
        ">accumulators", ">DRAM", ">clock",
    ]  # fmt: skip
    rows = [
        [
            entry["name"],
            str(entry["pods"]),
            f"{entry['rows']} x {entry['columns']}",
            ", ".join(entry["dataflows"]),
            ", ".join(entry["formats"]),
            quantity(entry["scratchpad_bytes"], "B"),
            quantity(entry["accumulator_bytes"], "B"),
            quantity(entry["dram_bytes_per_second"], "B/s"),
            quantity(entry["clock_hz"], "Hz"),
        ]
        for entry in facts
    ]
    output().print(table("arrays (simulated)", columns, rows))
