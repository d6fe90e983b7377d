"""Networks scheduled on arrays of several pods, small: the table's claim."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("tvm")

from motet.benchmarks.ios_array import measure
from motet.benchmarks.ios_array_batches import measure as batches
from motet.benchmarks.ios_networks import scaled, workloads
from motet.benchmarks.ios_plot import plot


def test_a_scheduled_network_takes_no_more_cycles():
    result = measure("squeezenet", "4x16x16", size=64)
    assert {*result.cycles} == {"sequential", "greedy", "ios", "lean", "mixed"}
    assert result.merge is not None
    assert result.merged[0] > result.merged[1] > 0
    assert result.fastest == min([*result.cycles.values(), result.merge])
    assert result.speed_up > 1
    assert (result.regions, result.array, result.number_format) == (1, "sosa-4x16x16", "int8")


def test_other_pods_have_memories_and_links_in_proportion():
    base, made = scaled("sosa-256x32x32"), scaled("8x64x64")
    pod, other = base.pods[0], made.pods[0]
    assert (other.count, other.rows, other.columns, other.vector.lanes) == (8, 64, 64, 64)
    assert other.scratchpad.bytes == 4 * pod.scratchpad.bytes
    assert other.accumulators.port_bytes == 2 * pod.accumulators.port_bytes
    assert made.interconnect.link_bytes == 2 * base.interconnect.link_bytes
    assert made.dram == base.dram


def test_a_batch_is_the_networks():
    (one,), (two,) = (workloads("squeezenet", batch, 64) for batch in (1, 2))
    assert two.macs == 2 * one.macs


def test_a_schedule_can_run_another_batch():
    cycles = batches("squeezenet", "4x16x16", (1, 4), 64)
    assert {*cycles} == {"sequential", "for batch 1", "for batch 4"}
    for batch in (1, 4):
        assert cycles[f"for batch {batch}"][batch] <= cycles["sequential"][batch]
    assert cycles["for batch 4"] != cycles["for batch 1"]


def test_a_picture_of_what_schedules_take(tmp_path: Path):
    pytest.importorskip("matplotlib")
    results = [{"sequential": 10, "ios": 5, "merge": 4}, {"sequential": 8, "ios": 6}]
    plot(tmp_path / "ios.svg", ["one", "two"], results)
    text = (tmp_path / "ios.svg").read_text()
    assert all(word in text for word in ("one", "two", "sequential", "merge"))
