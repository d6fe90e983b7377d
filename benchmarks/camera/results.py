"""What the benchmark found, as plain data for JSON."""

from __future__ import annotations

import msgspec

from motet.benchmarks.camera.search import Trial


class Variant(msgspec.Struct, frozen=True):
    """A way to run an engine, by a short search; factor -1: ``settings`` say why it did not run."""

    group: str
    settings: str
    factor: float


class At(msgspec.Struct, frozen=True):
    """A trial; p99_seconds: latency by model; cpu_seconds_per_second: of all threads."""

    trial: Trial
    p99_seconds: dict[str, float | None]
    cpu_seconds_per_second: float
    resident_bytes: int


class Finalist(msgspec.Struct, frozen=True):
    """The best way of a group. factor: the largest at which no frame was late."""

    group: str
    settings: str
    factor: float
    trials: list[Trial]
    at_one: At
    at_factor: At


class Result(msgspec.Struct, frozen=True):
    """batches: median seconds that the same frames take, all there from the start."""

    models: dict[str, str]
    rates_hz: dict[str, float]
    seconds: float
    variants: list[Variant]
    finalists: list[Finalist]
    batches: dict[str, float]
