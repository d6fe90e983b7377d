"""``motet cache``."""

from __future__ import annotations

import time
from typing import Any

import click

from motet.commands.common import json_option
from motet.console import output, print_json, quantity
from motet.targets.host.kernel_cache import KernelCache, cache_of_environment, is_enabled

TUNED, TUNED_MODELS = "tuned.sqlite", "tuned_model_*.npz"
"""As ``targets.host`` names them, whose modules need tvm."""


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet cache\n"
    "  motet cache --clear\n"
    "\n"
    "MOTET_CACHE_DIR names the folder, MOTET_CACHE_BYTES limits its size (1 GiB by default; what "
    "was used least recently goes first), MOTET_CACHE=0 keeps and reads nothing. Removing kernels "
    "does no harm: they are compiled again. The same folder has what motet tune measured "
    "(tuned.sqlite) and the cost models that it trained (tuned_model_*.npz), which --clear leaves: "
    "they take as long to make again as tuning took.\n"
)  # fmt: skip
@click.option("--clear", is_flag=True, help="Remove every kernel that is kept.")
@json_option
def cache(clear: bool, as_json: bool) -> None:
    """Show what compiling and tuning kept; clear the kernels."""
    kept = cache_of_environment()
    kept.check()
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
        "tuned": _tuned(kept),
    }


def _tuned(kept: KernelCache) -> dict[str, Any]:
    """What ``motet tune`` left; removing it is the user's."""
    database = kept.folder / TUNED
    models = sorted(kept.folder.glob(TUNED_MODELS))
    return {
        "database": str(database) if database.is_file() else None,
        "database_bytes": database.stat().st_size if database.is_file() else 0,
        "models": len(models),
        "models_bytes": sum(path.stat().st_size for path in models),
    }


def _print(facts: dict[str, Any]) -> None:
    console, last = output(), facts["last_compile"]
    off = "" if facts["enabled"] else " (off: MOTET_CACHE)"
    console.print(f"folder        {facts['folder']}{off}")
    console.print(f"kernels       {facts['entries']}")
    size, limit = quantity(facts["size_bytes"], "B"), quantity(facts["limit_bytes"], "B")
    console.print(f"size          {size} of at most {limit}")
    tuned = facts["tuned"]
    if tuned["database"] is not None:
        size = quantity(tuned["database_bytes"], "B")
        console.print(f"tuned         {size} of measurements in {TUNED}; --clear leaves them")
    if tuned["models"]:
        size = quantity(tuned["models_bytes"], "B")
        console.print(f"cost models   {tuned['models']} trained here, {size} ({TUNED_MODELS})")
    if last is not None:
        console.print(f"last compile  {last['hits']} of {last['kernels']} kernels were kept")
