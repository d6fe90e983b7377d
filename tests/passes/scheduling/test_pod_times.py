"""Times of regions on shares of the pods, and of two regions as one program."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

pytest.importorskip("numba")

from motet.passes.scheduling import pod_times
from motet.passes.scheduling.pod_times import (
    joint_time,
    pod_time,
    shares_to_time,
)
from motet.passes.scheduling.shared_programs import united
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.mappings.assignment import Assignment, Group
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.slices import sliced
from motet.targets.systolic.workload.graph import Workload, single
from motet.targets.systolic.workload.layers import Convolution


def array(pods: int) -> ArrayDescription:
    """SOSA's with few pods and the DRAM of all."""
    base = load_architecture("sosa-256x32x32")
    made = msgspec.structs.replace(base.pods[0], count=pods)
    return msgspec.structs.replace(base, name=f"sosa-{pods}", pods=(made,))


def convolution(channels: int, side: int, name: str = "conv") -> Workload:
    layer = Convolution(
        batch=1, in_channels=channels, out_channels=channels, groups=1, in_height=side,
        in_width=side, kernel=(3, 3), padding=(1, 1, 1, 1),
    )  # fmt: skip
    return single(layer, name, bias=True)


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("MOTET_CACHE", "1")


def test_which_shares_are_timed() -> None:
    assert shares_to_time(array(8)) == (1, 2, 3, 4, 6)
    assert shares_to_time(array(1)) == ()
    assert shares_to_time(load_architecture("sosa-256x32x32")) == (16, 24, 32, 48, 64, 96, 128, 192)
    assert shares_to_time(load_architecture("mixed-64x64-4x16x16")) == ()


def test_a_slice_has_its_part_of_the_bandwidth() -> None:
    whole = array(8)
    part = sliced(whole, 2)
    assert part.dram.bytes_per_second == whole.dram.bytes_per_second / 4
    assert part.pod_count == 8
    assert part.interconnect == whole.interconnect
    join = msgspec.structs.replace(whole.interconnect, kind="bus", expansion=1, link_bytes=64)
    bus = msgspec.structs.replace(whole, interconnect=join)
    assert sliced(bus, 2).interconnect.link_bytes == 16
    assert sliced(whole, 8) == whole


def test_more_pods_are_quicker_and_all_are_the_whole_array() -> None:
    work, description = convolution(64, 32), array(4)
    times = [pod_time(work, description, "int8", pods) for pods in (1, 2, 4)]
    found = [one for one in times if one is not None]
    assert [one.pods for one in found] == [1, 2, 4]
    assert found[0].cycles > 1.6 * found[1].cycles > 2.5 * found[2].cycles
    assert all(one.joules > 0 for one in found)
    changed, made = pod_times.in_format(work, "int8")
    whole = program_counts(compile_workload(changed, description, made).program, description)
    assert found[2].cycles <= 1.02 * whole.cycles
    assert pod_times.moving_joules(whole.energy_joules) < sum(whole.energy_joules.values())


def test_answers_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    work, description = convolution(32, 8), array(2)
    first = pod_time(work, description, "int8", 1)

    def made_again(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(pod_times, "_pod_time", made_again)
    assert pod_time(work, description, "int8", 1) == first
    with pytest.raises(AssertionError):
        pod_time(work, description, "int8", 2)
    with pytest.raises(AssertionError):
        pod_time(work, array(4), "int8", 1)
    monkeypatch.setenv("MOTET_CACHE", "0")
    with pytest.raises(AssertionError):
        pod_time(work, description, "int8", 1)


def test_two_regions_as_one_program() -> None:
    one, other, description = convolution(64, 32, "a"), convolution(16, 16, "b"), array(4)
    both = united(one, other)
    assert [step.name for step in both.steps] == ["0/a", "1/b"]
    assert both.macs == one.macs + other.macs
    alone = [pod_time(work, description, "int8", 4) for work in (one, other)]
    found = joint_time(one, other, description, "int8")
    assert found is not None
    assert max(found.ends) <= found.cycles
    assert max(t.cycles for t in alone if t) <= 1.05 * found.cycles
    assert found.cycles <= 1.05 * sum(t.cycles for t in alone if t)


def test_slices_tell_what_two_regions_take_side_by_side() -> None:
    """One program with both, each on half of the pods, against the times of halves: 5 %."""
    one, other, description = convolution(64, 32, "a"), convolution(96, 16, "b"), array(4)
    first, made = pod_times.in_format(one, "int8")
    second, _ = pod_times.in_format(other, "int8")
    own = len(first.steps)
    groups = (
        Group(tuple(range(own)), range(2)),
        Group(tuple(range(own, own + len(second.steps))), range(2, 4)),
    )
    program = compile_workload(
        united(first, second), description, made, None, Assignment((groups,))
    ).program
    timing = simulate(program, description)
    ends = np.zeros(len(program.steps), np.int64)
    np.maximum.at(ends, program.instructions["step"], timing.records["end"])
    for work, end in ((one, ends[:own].max()), (other, ends[own:].max())):
        slice_ = pod_time(work, description, "int8", 2)
        assert slice_ is not None
        assert int(end) == pytest.approx(slice_.cycles, rel=0.05)
