"""``motet targets``."""

from __future__ import annotations

from collections.abc import Callable
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
    rows = [_row(entry) for entry in facts]
    print_as(form, facts, lambda: _print(rows), rows)


def _facts() -> list[dict[str, Any]]:
    from msgspec import to_builtins

    from motet.targets.systolic.architecture_file import load_architecture, shipped_architectures

    return [to_builtins(load_architecture(name)) for name in shipped_architectures()]


def _row(entry: dict[str, Any]) -> dict[str, Any]:
    """An array in one line; what its kinds of pods differ in stands side by side."""
    pods = entry["pods"]

    def each(text: Callable[[dict[str, Any]], str]) -> str:
        return ", ".join(dict.fromkeys(text(pod) for pod in pods))

    def all_of(key: str) -> str:
        return " ".join(dict.fromkeys(name for pod in pods for name in pod[key]))

    return {
        "name": entry["name"],
        "pods": " + ".join(str(pod["count"]) for pod in pods),
        "rows_x_columns": each(lambda pod: f"{pod['rows']} x {pod['columns']}"),
        "dataflows": all_of("dataflows"),
        "formats": all_of("formats"),
        "scratchpad_bytes": each(lambda pod: str(pod["scratchpad"]["bytes"])),
        "accumulator_bytes": each(lambda pod: str(pod["accumulators"]["bytes"])),
        "interconnect": entry["interconnect"]["kind"],
        "dram_bytes_per_second": entry["dram"]["bytes_per_second"],
        "clock_hz": entry["clock_hz"],
    }


def _bytes(sizes: str) -> str:
    return ", ".join(quantity(int(size), "B") for size in sizes.split(", "))


def _print(rows: list[dict[str, Any]]) -> None:
    columns = [
        "array", ">pods", ">rows x columns", "dataflows", "formats", ">scratchpad\nof a pod",
        ">accumulators", "inter-\nconnect", ">DRAM", ">clock",
    ]  # fmt: skip
    cells = [
        [
            row["name"],
            row["pods"],
            row["rows_x_columns"],
            row["dataflows"].replace(" ", ", "),
            row["formats"].replace(" ", ", "),
            _bytes(row["scratchpad_bytes"]),
            _bytes(row["accumulator_bytes"]),
            row["interconnect"],
            quantity(row["dram_bytes_per_second"], "B/s"),
            quantity(row["clock_hz"], "Hz"),
        ]
        for row in rows
    ]
    output().print(table("arrays (simulated)", columns, cells))
