"""Measured times of points, and the files that hold them.

Two forms of the same content. While measuring, a file of JSON lines that grows by a problem
at a time and that an interrupted run goes on from. To ship, one compressed file with a table
per family, sorted, so that the same measurements give the same bytes.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from motet.runtime.errors import SpecError
from motet.targets.host.machine import Caches, Machine, cpu_name, native_caches, native_machine
from motet.targets.host.space import Point, Problem

_NANOSECONDS = 1e9


@dataclass(frozen=True)
class Host:
    """The computer that measurements were made on: CPU, its caches, what kernels may use.

    cores: what schedules are balanced for, whatever number of threads a measurement has.
    """

    cpu: str
    caches: Caches
    mcpu: str
    vector_bytes: int
    cores: int
    arch: str = "x86_64"

    @property
    def machine(self) -> Machine:
        """As kernels are described for."""
        return Machine(self.mcpu, self.cores, self.vector_bytes, (), self.arch)


def this_host() -> Host:
    """The computer at hand."""
    machine = native_machine()
    return Host(
        cpu_name(), native_caches(), machine.mcpu, machine.vector_bytes, machine.cores, machine.arch
    )


@dataclass(frozen=True)
class Sample:
    """The points of one problem that were measured together, with ``threads``; seconds each."""

    problem: Problem
    threads: int
    points: tuple[Point, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True)
class DataSet:
    """Samples of one computer."""

    host: Host
    samples: tuple[Sample, ...]

    @property
    def rows(self) -> int:
        """Measured points in all."""
        return sum(len(sample.points) for sample in self.samples)


def merged(samples: Iterable[Sample]) -> tuple[Sample, ...]:
    """One sample for each problem and number of threads: the least time of every point.

    Only what disturbs a measurement makes it longer.
    """
    found: dict[tuple[Problem, int], dict[Point, float]] = {}
    for sample in samples:
        times = found.setdefault((sample.problem, sample.threads), {})
        for point, seconds in zip(sample.points, sample.seconds, strict=True):
            times[point] = min(seconds, times.get(point, seconds))
    return tuple(
        Sample(problem, threads, tuple(times), tuple(times.values()))
        for (problem, threads), times in found.items()
    )


def host_of(data: dict[str, Any]) -> Host:
    """What ``asdict`` made of a host."""
    return Host(**{**data, "caches": Caches(**data["caches"])})


def sample_line(host: Host, sample: Sample) -> str:
    """One line of the growing file."""
    content = {
        "host": asdict(host),
        "family": sample.problem.family,
        "sizes": dict(sample.problem.sizes),
        "threads": sample.threads,
        "points": [dict(point.knobs) for point in sample.points],
        "nanoseconds": [round(_NANOSECONDS * s) for s in sample.seconds],
    }
    return json.dumps(content, separators=(",", ":"))


def read_lines(path: Path) -> DataSet:
    """What a file of lines holds; a last line that was cut off is left out.

    Raises ``SpecError`` where it is of several computers or holds no measurement.
    """
    hosts, samples = set[Host](), list[Sample]()
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            data = json.loads(line)
        except json.JSONDecodeError:
            continue
        hosts.add(host_of(data["host"]))
        points = tuple(Point.of(**knobs) for knobs in data["points"])
        seconds = tuple(n / _NANOSECONDS for n in data["nanoseconds"])
        problem = Problem.of(data["family"], **data["sizes"])
        samples.append(Sample(problem, data["threads"], points, seconds))
    if len(hosts) != 1:
        what = "of several computers" if hosts else "nothing"
        raise SpecError(f"{path} holds {what}: collect measurements of one computer into it")
    return DataSet(hosts.pop(), tuple(samples))


def packed(data: DataSet) -> bytes:
    """The data set as one compressed file; equal data sets give equal bytes."""
    ordered = sorted(data.samples, key=lambda s: (_table(s), s.problem.sizes, s.threads, s.seconds))
    tables = [_packed_table(list(group)) for _, group in groupby(ordered, _table)]
    text = json.dumps({"host": asdict(data.host), "tables": tables}, separators=(",", ":"))
    return gzip.compress(text.encode(), 9, mtime=0)


def _table(sample: Sample) -> tuple[str, tuple[str, ...]]:
    """What the samples of one table share: the family, and the names of the sizes."""
    return sample.problem.family, tuple(name for name, _ in sample.problem.sizes)


def _packed_table(samples: Sequence[Sample]) -> dict[str, Any]:
    family, sizes = _table(samples[0])
    knobs = sorted({name for s in samples for p in s.points for name, _ in p.knobs})
    return {
        "family": family,
        "sizes": sizes,
        "knobs": knobs,
        "samples": [_packed_sample(sample, knobs) for sample in samples],
    }


def _packed_sample(sample: Sample, knobs: Sequence[str]) -> list[Any]:
    """Sizes, threads, and a row per point: its knobs, null where it has none, nanoseconds."""
    rows = []
    for point, seconds in zip(sample.points, sample.seconds, strict=True):
        settings = dict(point.knobs)
        rows.append([*map(settings.get, knobs), round(_NANOSECONDS * seconds)])
    return [[size for _, size in sample.problem.sizes], sample.threads, rows]


def unpacked(content: bytes) -> DataSet:
    """What ``packed`` wrote."""
    data = json.loads(gzip.decompress(content))
    samples = [s for table in data["tables"] for s in _unpacked_table(table)]
    return DataSet(host_of(data["host"]), tuple(samples))


def _unpacked_table(table: dict[str, Any]) -> Iterable[Sample]:
    for sizes, threads, rows in table["samples"]:
        problem = Problem.of(table["family"], **dict(zip(table["sizes"], sizes, strict=True)))
        points = tuple(_point(table["knobs"], row[:-1]) for row in rows)
        yield Sample(problem, threads, points, tuple(row[-1] / _NANOSECONDS for row in rows))


def _point(names: Sequence[str], values: Sequence[int | None]) -> Point:
    known = {n: v for n, v in zip(names, values, strict=True) if v is not None}
    return Point.of(**known)
