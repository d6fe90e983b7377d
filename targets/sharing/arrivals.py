"""When frames of models that follow no other are asked for.

Every model has random numbers of its own, from the seed and its name: they stay the same under
every policy and whatever other models there are, so that policies are compared on one day.
"""

from __future__ import annotations

import csv
import math
import zlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import SpecError
from motet.runtime.exact_numbers import LONGEST_SECONDS, exact
from motet.targets.sharing.loads import Load

ARRIVAL, CHANCE = 0, 1
"""Streams of a model's random numbers."""


def generator(seed: int, model: str, stream: int) -> np.random.Generator:
    """Random numbers of one purpose of one model."""
    return np.random.default_rng([seed, zlib.crc32(model.encode()), stream])


@dataclass(frozen=True)
class Arrivals:
    """How frames come.

    kind: ``periodic``, ``poisson`` (exponential gaps, the rate on average) or ``trace``.
    jitter_seconds: each periodic frame is late by up to so much, uniformly.
    trace: seconds of each model's frames, rising.
    """

    kind: str = "periodic"
    jitter_seconds: Fraction = Fraction(0)
    trace: Mapping[str, tuple[Fraction, ...]] = field(default_factory=dict)

    def ticks(self, load: Load, clock_hz: Fraction, end: int, seed: int) -> NDArray[np.int64]:
        """Releases of ``load``, rising, int64 [frames], all before tick ``end``."""
        if self.kind == "trace":
            times = self.trace.get(load.name, ())
            ticks = (-(-time * clock_hz // 1) for time in times)
            return np.array([tick for tick in ticks if tick < end], np.int64)
        assert load.rate_hz is not None
        random = generator(seed, load.name, ARRIVAL)
        if self.kind == "poisson":
            return _poisson(random, float(clock_hz / load.rate_hz), end)
        return self._periodic(random, load, clock_hz, end)

    def _periodic(
        self, random: np.random.Generator, load: Load, clock_hz: Fraction, end: int
    ) -> NDArray[np.int64]:
        assert load.rate_hz is not None
        period = clock_hz / load.rate_hz
        if self.jitter_seconds * load.rate_hz >= 1:
            raise SpecError(
                f"model {load.name!r}: a jitter of {float(1e3 * self.jitter_seconds):g} ms is no "
                f"less than its period, {float(1e3 / load.rate_hz):g} ms"
            )
        first = load.phase_seconds * clock_hz
        frames = max(0, math.ceil((end - first) / period))
        due = [math.ceil(first + number * period) for number in range(frames)]
        late = random.random(frames) * float(self.jitter_seconds * clock_hz)
        return _before(np.array(due, np.int64) + np.ceil(late).astype(np.int64), end)


def _poisson(random: np.random.Generator, gap: float, end: int) -> NDArray[np.int64]:
    """The first gap is drawn too: nothing comes at 0."""
    parts, last = [], 0.0
    while last < end:
        times = last + np.cumsum(random.exponential(gap, 1024))
        parts.append(times)
        last = float(times[-1])
    return _before(np.ceil(np.concatenate(parts)), end)


def _before(times: object, end: int) -> NDArray[np.int64]:
    found = np.array(times).astype(np.int64)
    return found[found < end]


def read_trace(path: str, models: Collection[str] | None = None) -> Arrivals:
    """The arrivals of a CSV file with the columns ``model`` and ``seconds``.

    models: that it may name; None: any. A model without rows is never asked for. Raises
    ``SpecError`` with the line.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            if set(reader.fieldnames or ()) != {"model", "seconds"}:
                raise SpecError(f"{path}: a trace has the columns model,seconds")
            rows = [(reader.line_num, *_fields(row, reader.line_num, path)) for row in reader]
    except OSError as error:
        raise SpecError(
            f"{path}: the trace cannot be read: {error.strerror}; give 'periodic', 'poisson' or a "
            "CSV file with the columns model,seconds"
        ) from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise SpecError(
            f"{path}: the trace is no CSV text in UTF-8 ({error}): give a file with the columns "
            "model,seconds"
        ) from error
    trace: dict[str, list[Fraction]] = {}
    for line, model, text in rows:
        if models is not None and model not in models:
            raise SpecError(
                f"{path}, line {line}: {model!r} is no model that follows no other; those are "
                f"{', '.join(models)}"
            )
        trace.setdefault(model, []).append(_seconds(text, f"{path}, line {line}"))
    return Arrivals("trace", trace={name: tuple(sorted(times)) for name, times in trace.items()})


def _fields(row: Mapping[str | None, Any], line: int, path: str) -> tuple[str, str]:
    """A row's model and seconds; raises ``SpecError`` for another number of fields."""
    if None in row:
        raise SpecError(
            f"{path}, line {line}: {2 + len(row[None])} fields, and a trace has the columns "
            "model,seconds"
        )
    for column in ("model", "seconds"):
        if row[column] is None:
            raise SpecError(
                f"{path}, line {line}: the column {column} is missing: a trace has the columns "
                "model,seconds"
            )
    return row["model"], row["seconds"]


def _seconds(text: str, where: str) -> Fraction:
    try:
        value = exact(text)
    except ValueError:
        raise SpecError(
            f"{where}: {text!r} is no number of seconds up to {LONGEST_SECONDS:,}"
        ) from None
    if value < 0:
        raise SpecError(f"{where}: {text} s is before the start")
    if value > LONGEST_SECONDS:
        raise SpecError(f"{where}: {text!r} is no number of seconds up to {LONGEST_SECONDS:,}")
    return value
