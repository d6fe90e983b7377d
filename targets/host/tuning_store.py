"""The local data base of measured points: what ``motet tune`` found on this machine.

One SQLite file in the user's cache folder; several processes may write it at once. A time is
kept for (machine, version of the kernels, threads, problem, point): other machines or newer
kernels do not find it, and nothing is ever deleted for them.
"""

from __future__ import annotations

import hashlib
import sqlite3
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path

from motet.runtime.errors import EnvironmentLackError
from motet.targets.host.cost_model.dataset import Host, Sample
from motet.targets.host.kernel_cache import cache_of_environment, is_enabled
from motet.targets.host.space import Point, Problem

FILE = "tuned.sqlite"
_WAIT_SECONDS = 30.0
"""How long a writer waits for another one."""
_LAYOUT = """
CREATE TABLE IF NOT EXISTS measured (
    machine TEXT NOT NULL,
    version TEXT NOT NULL,
    threads INTEGER NOT NULL,
    problem TEXT NOT NULL,
    point TEXT NOT NULL,
    seconds REAL NOT NULL,
    unix_seconds REAL NOT NULL,
    PRIMARY KEY (machine, version, threads, problem, point)
) WITHOUT ROWID
"""
_NOISE_LAYOUT = """
CREATE TABLE IF NOT EXISTS noise (
    machine TEXT NOT NULL,
    version TEXT NOT NULL,
    threads INTEGER NOT NULL,
    problem TEXT NOT NULL,
    fraction REAL NOT NULL,
    PRIMARY KEY (machine, version, threads, problem)
) WITHOUT ROWID
"""
_NOT_KERNELS = (
    "cost_model", "meta_schedule", "tuning.py", "tuning_store.py", "choosing.py", "kernel_cache.py",
)  # fmt: skip


@dataclass(frozen=True)
class Scope:
    """Whose times belong together: a machine, the kernels' version, the threads of a call."""

    machine: str
    version: str
    threads: int


def scope_of(host: Host, threads: int) -> Scope:
    """The scope of kernels as they are now, on ``host``."""
    caches = f"{host.caches.l1}/{host.caches.l2}/{host.caches.l3}"
    machine = f"{host.cpu}, {host.mcpu}, {host.cores} cores, {caches}"
    return Scope(machine, kernels_version(), threads)


@cache
def kernels_version() -> str:
    """The package's version, and a digest of the code that makes kernels."""
    folder = Path(__file__).parent
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        name = path.relative_to(folder).as_posix()
        if not name.startswith(_NOT_KERNELS):
            digest.update(name.encode() + b"\0" + path.read_bytes())
    return f"{version('motet')} {digest.hexdigest()[:16]}"


def store_path() -> Path:
    """Where the environment wants the data base (``MOTET_CACHE_DIR``)."""
    return cache_of_environment().folder / FILE


def store_of_environment() -> TuningStore | None:
    """The data base, if there is one; None as well where ``MOTET_CACHE`` is off."""
    path = store_path() if is_enabled() else None
    return TuningStore(path) if path is not None and path.is_file() else None


@dataclass(frozen=True)
class TuningStore:
    """The data base in the file ``path``, which ``add`` makes where it is missing."""

    path: Path

    def add(self, scope: Scope, sample: Sample) -> None:
        """Keep the sample's times; newer ones take the place of older ones.

        Raises ``EnvironmentLackError`` where the file cannot be written.
        """
        now = time.time()
        rows = [
            (*_key(scope), sample.problem.key, point.key, seconds, now)
            for point, seconds in zip(sample.points, sample.seconds, strict=True)
        ]
        with self._connected() as data:
            data.execute(_LAYOUT)
            data.executemany("INSERT OR REPLACE INTO measured VALUES (?, ?, ?, ?, ?, ?, ?)", rows)

    def check(self) -> None:
        """Raises ``EnvironmentLackError`` where nothing can be kept, before time is spent."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with tempfile.TemporaryFile(dir=self.path.parent):
                pass
        except OSError as error:
            raise EnvironmentLackError(
                f"measurements cannot be kept in {self.path.parent}: {error.strerror}; name a "
                "folder that can be written with MOTET_CACHE_DIR"
            ) from error
        with self._connected() as data:
            data.execute(_LAYOUT)

    def add_noise(self, scope: Scope, problem: Problem, fraction: float) -> None:
        """Keep by how much times of equal kernels differed; the most that was seen counts."""
        with self._connected() as data:
            data.execute(_NOISE_LAYOUT)
            data.execute(
                "INSERT INTO noise VALUES (?, ?, ?, ?, ?) ON CONFLICT DO UPDATE "
                "SET fraction = max(fraction, excluded.fraction)",
                (*_key(scope), problem.key, fraction),
            )

    def noises(self, scope: Scope) -> dict[Problem, float]:
        """What ``add_noise`` kept, by problem."""
        query = "SELECT problem, fraction FROM noise WHERE machine = ? AND version = ? "
        rows = self._rows(query + "AND threads = ?", _key(scope), "noise")
        return {_problem(str(key)): float(str(fraction)) for key, fraction in rows}

    def times(self, scope: Scope, problem: Problem) -> dict[Point, float]:
        """Seconds of the points of ``problem`` that were measured."""
        query = (
            "SELECT point, seconds FROM measured "
            "WHERE machine = ? AND version = ? AND threads = ? AND problem = ?"
        )
        rows = self._rows(query, (*_key(scope), problem.key))
        return {_point(str(key)): float(str(seconds)) for key, seconds in rows}

    def samples(self, scope: Scope) -> list[Sample]:
        """Everything that was measured in ``scope``."""
        query = (
            "SELECT problem, point, seconds FROM measured "
            "WHERE machine = ? AND version = ? AND threads = ? ORDER BY problem, point"
        )
        found: dict[str, dict[Point, float]] = {}
        for problem, point, seconds in self._rows(query, _key(scope)):
            found.setdefault(str(problem), {})[_point(str(point))] = float(str(seconds))
        return [
            Sample(_problem(key), scope.threads, tuple(times), tuple(times.values()))
            for key, times in found.items()
        ]

    def _rows(
        self, query: str, values: Sequence[object], table: str = "measured"
    ) -> list[tuple[object, ...]]:
        """Nothing where there is no table yet."""
        if not self.path.is_file():
            return []
        with self._connected() as data:
            tables = data.execute("SELECT name FROM sqlite_master WHERE name = ?", (table,))
            return data.execute(query, values).fetchall() if tables.fetchone() else []

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection whose changes are kept together, or not at all."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_SECONDS)) as data, data:
                yield data
        except (sqlite3.Error, OSError) as error:
            raise EnvironmentLackError(
                f"the data base of tuned kernels, {self.path}, cannot be used: {error}; remove "
                "the file, or name another folder with MOTET_CACHE_DIR"
            ) from error


def _key(scope: Scope) -> tuple[str, str, int]:
    return scope.machine, scope.version, scope.threads


def _settings(text: str) -> dict[str, int]:
    pairs = (pair.partition("=") for pair in text.split(",") if pair)
    return {name: int(value) for name, _, value in pairs}


def _point(key: str) -> Point:
    """The point whose ``key`` this is."""
    return Point.of(**_settings(key))


def _problem(key: str) -> Problem:
    """The problem whose ``key`` this is."""
    family, _, sizes = key.partition(":")
    return Problem.of(family, **_settings(sizes))
