"""Stages on the host, measured: ratios with intervals, and notes that a run goes on from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motet.benchmarks import ios_host
from motet.benchmarks.ios_host import Ratio, Result, measure, ratio_of


def test_the_interval_holds_the_median_of_19_in_20_samples():
    """Times drawn from one distribution: the ratio's median is 1."""
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(400):
        times = 1 + rng.gamma(2, 0.1, (40, 2))
        found = ratio_of([(float(one), float(other)) for one, other in times])
        assert found.low <= found.median <= found.high
        held += found.low <= 1 <= found.high
    assert 0.93 <= held / 400 <= 0.995


def test_a_ratio_says_how_many_times_as_fast_stages_are():
    found = ratio_of([(3.0, 2.0)] * 12)
    assert (found.median, found.low, found.high, found.pairs) == (1.5, 1.5, 1.5, 12)
    assert found.seconds == (3.0, 2.0)
    assert found.text == "1.50 (1.50 to 1.50)"


def test_runs_take_turns_in_changing_order():
    ran: list[int] = []

    class Session:
        def __init__(self, number: int) -> None:
            self.number = number

        def run(self, _outputs: None, _inputs: object) -> None:
            ran.append(self.number)

    pairs = ios_host.in_turns([Session(0), Session(1)], {}, 0.0)
    assert len(pairs) == ios_host.FEWEST_PAIRS
    assert ran[:8] == [0, 1, 1, 0, 0, 1, 1, 0]
    assert len(ran) == 2 + 2 * len(pairs)


def test_what_was_measured_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    asked: list[str] = []

    def measured(network: str, allowed: float, folder: Path) -> Result:
        asked.append(network)
        if network == "broken":
            raise KeyboardInterrupt
        return Result(network, 2, {"2": Ratio(1.1, 1.0, 1.2, 12, (2.0, 1.9))})

    monkeypatch.setattr(ios_host, "measured", measured)
    with pytest.raises(KeyboardInterrupt):
        measure(["one", "broken", "two"], tmp_path, 0.0, False, lambda line: None)
    found = measure(["one", "two"], tmp_path, 0.0, False, lambda line: None)
    assert asked == ["one", "broken", "two"]
    assert [result.network for result in found] == ["one", "two"]
    assert found[0] == measured("one", 0.0, tmp_path)
    measure(["one"], tmp_path, 0.0, True, lambda line: None)
    assert asked[-1] == "one"
