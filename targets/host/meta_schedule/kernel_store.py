"""Where the kernels that MetaSchedule found are kept: a table beside the measured points.

A row per unit that was tried, for (machine, version of this project's kernels, threads, unit):
it holds the kernel where it was clearly faster than our own, and says that there is nothing to
gain where it was not.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import tvm
from tvm import relax

from motet.targets.host.lower_unit import LoweredUnit
from motet.targets.host.options import KernelOptions
from motet.targets.host.tuning_store import Scope, TuningStore

_LAYOUT = """
CREATE TABLE IF NOT EXISTS searched (
    machine TEXT NOT NULL,
    version TEXT NOT NULL,
    threads INTEGER NOT NULL,
    unit TEXT NOT NULL,
    own_seconds REAL NOT NULL,
    found_seconds REAL,
    kernel TEXT,
    unix_seconds REAL NOT NULL,
    PRIMARY KEY (machine, version, threads, unit)
) WITHOUT ROWID
"""
_WHERE = "WHERE machine = ? AND version = ? AND threads = ? AND unit = ?"

OtherKernels = Callable[[relax.Function, frozenset[int], KernelOptions], LoweredUnit | None]
"""A kernel for a unit (without marks) and its constant parameters; None for our own."""


@dataclass(frozen=True)
class Searched:
    """What the search for a unit found. own, found: seconds of a call of our kernel and of
    MetaSchedule's best (None where it had none). kernel: plain loops, where they are to be used.
    """

    own: float
    found: float | None
    kernel: Any = None


@dataclass(frozen=True)
class KernelStore(TuningStore):
    """The table of searched units in the data base of ``motet tune``."""

    def keep(self, scope: Scope, unit: str, result: Searched) -> None:
        """Remember the result for the unit with this key; a newer one replaces it.

        Raises ``EnvironmentLackError`` where the file cannot be written.
        """
        text = None if result.kernel is None else str(tvm.ir.save_json(result.kernel))
        row = (*_key(scope, unit), result.own, result.found, text, time.time())
        with self._connected() as data:
            data.execute(_LAYOUT)
            data.execute("INSERT OR REPLACE INTO searched VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)

    def searched(self, scope: Scope, unit: str) -> Searched | None:
        """What is known of the unit with this key; None where it was not tried."""
        if not self.path.is_file():
            return None
        with self._connected() as data:
            tables = "SELECT name FROM sqlite_master WHERE name = 'searched'"
            if data.execute(tables).fetchone() is None:
                return None
            query = f"SELECT own_seconds, found_seconds, kernel FROM searched {_WHERE}"
            row = data.execute(query, _key(scope, unit)).fetchone()
        if row is None:
            return None
        own, found, text = row
        return Searched(own, found, None if text is None else tvm.ir.load_json(text))


def _key(scope: Scope, unit: str) -> tuple[str, str, int, str]:
    return scope.machine, scope.version, scope.threads, unit


def unit_key(unit: relax.Function, constants: frozenset[int]) -> str:
    """64 hex digits for a unit (without marks), its constant parameters and TVM's version."""
    text = unit.with_attr("global_symbol", "unit").script(show_meta=True)
    parts = (version("apache-tvm"), str(sorted(constants)), text)
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def no_others(
    _unit: relax.Function, _constants: frozenset[int], _options: KernelOptions
) -> LoweredUnit | None:
    """Our own kernels, always."""
    return None


def kernels_in(store: TuningStore | None, scope: Scope | None) -> OtherKernels:
    """The kernels that ``store`` has for ``scope``; our own where either is absent."""
    if store is None or scope is None:
        return no_others
    own_table = KernelStore(store.path)

    def found(
        unit: relax.Function, constants: frozenset[int], options: KernelOptions
    ) -> LoweredUnit | None:
        """The search knows nothing of what a specification forbids or asks for."""
        if options != KernelOptions():
            return None
        result = own_table.searched(scope, unit_key(unit, constants))
        return None if result is None or result.kernel is None else LoweredUnit(result.kernel)

    return found
