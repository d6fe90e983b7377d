"""``motet cache``."""

from __future__ import annotations

import time
from typing import Any

import click

from motet.commands.common import json_option
from motet.console import output, print_json, quantity
from motet.targets.host.kernel_cache import KernelCache, cache_of_environment, is_enabled


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet cache\n"
    "  motet cache --clear\n"
    "\n"
    "MOTET_CACHE_DIR names the folder, MOTET_CACHE_BYTES limits its size (1 GiB by default; what "
    "was used least recently goes first), MOTET_CACHE=0 keeps and reads nothing. Removing the "
    "folder does no harm: kernels are compiled again.\n"
)  # fmt: skip
@click.option("--clear", is_flag=True, help="Remove every kernel that is kept.")
@json_option
def cache(clear: bool, as_json: bool) -> None:
    """Show or clear the compiled host kernels that are kept."""
    kept = cache_of_environment()
    facts = _cleared(kept) if clear else _facts(kept)
    if as_json:
        print_json(facts)
    elif clear:
        click.echo(
            f"{facts['folder']}: removed {facts['removed_entries']} kernels, "
            f"{quantity(facts['removed_bytes'], 'B')}"
        )
    else:
        _print(facts)


def _cleared(kept: KernelCache) -> dict[str, Any]:
    removed = kept.clear()
    return {
        "folder": str(kept.folder),
        "removed_entries": removed.entries,
        "removed_bytes": removed.size_bytes,
    }


def _facts(kept: KernelCache) -> dict[str, Any]:
    usage, last = kept.usage(), kept.last_compile()
    found = None
    if last is not None:
        found = {
            "kernels": last.kernels,
            "hits": last.hits,
            "seconds_ago": max(0.0, time.time() - last.unix_seconds),
        }
    return {
        "folder": str(kept.folder),
        "enabled": is_enabled(),
        "entries": usage.entries,
        "size_bytes": usage.size_bytes,
        "limit_bytes": kept.limit_bytes,
        "last_compile": found,
    }


def _print(facts: dict[str, Any]) -> None:
    console, last = output(), facts["last_compile"]
    off = "" if facts["enabled"] else " (off: MOTET_CACHE)"
    console.print(f"folder        {facts['folder']}{off}")
    console.print(f"kernels       {facts['entries']}")
    size, limit = quantity(facts["size_bytes"], "B"), quantity(facts["limit_bytes"], "B")
    console.print(f"size          {size} of at most {limit}")
    if last is not None:
        console.print(f"last compile  {last['hits']} of {last['kernels']} kernels were kept")
