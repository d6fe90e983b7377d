"""Results of the suite: a line of JSON for each network and number of threads.

A file of results only grows, a line at a time, so that a run that is cut off loses nothing
but the network it was at; the next run goes on behind what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import msgspec
import numpy as np

from motet.benchmarks.host_suite.limits import Limits
from motet.errors import SpecError


class Timing(msgspec.Struct, frozen=True):
    """Wall time of one inference in an engine, over ``runs`` of them, in seconds."""

    settings: str
    runs: int
    median_seconds: float
    p10_seconds: float
    minimum_seconds: float

    @classmethod
    def of(cls, settings: str, seconds: Sequence[float]) -> Timing:
        """From the times of single inferences."""
        low = float(np.percentile(seconds, 10))
        return cls(settings, len(seconds), median(seconds), low, min(seconds))


class Result(msgspec.Struct, frozen=True):
    """A network on ``threads`` threads.

    macs: of the ONNX model; bytes: weights, inputs and outputs; limit_seconds: the speed of
    light of these (``limits``), None where it is not that of fp32. timings: by engine.
    difference: the largest between outputs of Motet and onnxruntime, over the largest value.
    refused: what engines say that do not take the model. in_bf16: the difference of what
    computes in bf16, by its name in timings.
    """

    network: str
    threads: int
    macs: int
    bytes: int
    flops_per_second: float
    bytes_per_second: float
    limit_seconds: float | None
    timings: dict[str, Timing]
    difference: float | None = None
    refused: dict[str, str] = {}
    in_bf16: dict[str, float] = {}

    def ratio(self, peer: str, statistic: str = "median") -> float | None:
        """``peer``'s time over Motet's, above 1 where Motet is faster; None without either."""
        if "motet" not in self.timings or peer not in self.timings:
            return None
        field = f"{statistic}_seconds"
        theirs: float = getattr(self.timings[peer], field)
        ours: float = getattr(self.timings["motet"], field)
        return theirs / ours

    @property
    def share_of_light(self) -> float | None:
        """The speed of light over Motet's time, 0 to 1 where no algorithm saves operations."""
        if self.limit_seconds is None or "motet" not in self.timings:
            return None
        return self.limit_seconds / self.timings["motet"].median_seconds

    def facts(self) -> dict[str, Any]:
        """Plain data for JSON, with the ratios."""
        plain: dict[str, Any] = msgspec.to_builtins(self)
        peers = [name for name in self.timings if name != "motet"]
        ratios = {f"{peer}_over_motet": self.ratio(peer) for peer in peers}
        return plain | ratios | {"share_of_light": self.share_of_light}


class ResultFile:
    """The results of ``path``, or of this run alone where it is None."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.results: list[Result] = []
        if path is not None and path.exists():
            self.results = [self._decode(line) for line in path.read_bytes().splitlines() if line]

    def _decode(self, line: bytes) -> Result:
        try:
            return msgspec.json.decode(line, type=Result)
        except msgspec.DecodeError as error:
            raise SpecError(f"{self._path} is no file of results: {error}") from error

    def has(self, network: str, threads: int, engines: Sequence[str]) -> bool:
        """Whether the network was measured so, with these engines at least."""
        return any(
            (one.network, one.threads) == (network, threads)
            and not set(engines) - set(one.timings) - set(one.refused)
            for one in self.results
        )

    def limits(self, threads: int) -> Limits | None:
        """The best that the file knows of the machine with ``threads`` threads."""
        same = [one for one in self.results if one.threads == threads]
        if not same:
            return None
        flops = max(one.flops_per_second for one in same)
        return Limits(threads, flops, max(one.bytes_per_second for one in same))

    def add(self, result: Result) -> None:
        """Keep a result, in the file at once."""
        self.results.append(result)
        if self._path is not None:
            with self._path.open("ab") as file:
                file.write(msgspec.json.encode(result) + b"\n")
