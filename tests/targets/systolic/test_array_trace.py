"""Traces and plots of the timing view."""

import json
import sys
from collections import defaultdict

import numpy as np
import pytest
from array_programs import (
    load,
    machine,
    matmul,
    program,
    signal,
    store,
    transfer,
    vector,
    wait,
)

from motet.runtime.errors import EnvironmentLackError
from motet.targets.systolic.instructions.isa import Engine, Flag
from motet.targets.systolic.instructions.program import StepInfo
from motet.targets.systolic.simulation import plots
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.simulation.trace import write_trace

ARRAY, LOAD, STORE, VECTOR = Engine.ARRAY, Engine.LOAD, Engine.STORE, Engine.VECTOR
STEPS = (
    StepInfo("first", "Convolution", 4096, "weight-stationary"),
    StepInfo("second", "MatrixProduct", 2048, "weight-stationary"),
)


def run(kind):
    queues = {
        (0, LOAD): [load(8), load(40), load(4, address=64), signal()],
        (0, ARRAY): [wait(LOAD, 1), matmul(8), matmul(9), matmul(10, step=1), signal()],
        (0, VECTOR): [wait(ARRAY, 1), vector(8, step=1), signal()],
        (0, STORE): [
            wait(VECTOR, 1),
            transfer(8, 0, targets=2),
            transfer(8, 1, flags=Flag.ACCUMULATORS),
            store(8, step=1),
        ],
    }
    made = program(queues, pods=2)
    object.__setattr__(made, "steps", STEPS)
    description = machine(pods=2, kind=kind, channels=2)
    return made, description, simulate(made, description)


@pytest.fixture
def events(tmp_path, request):
    path = tmp_path / "trace.json"
    ran = run(request.param)
    write_trace(path, *ran)
    return json.loads(path.read_text())["traceEvents"], ran


@pytest.mark.parametrize("events", ["bus", "crossbar", "butterfly"], indirect=True)
def test_spans_of_a_track_do_not_overlap(events):
    made, (_, _, timing) = events
    threads = defaultdict(list)
    for event in made:
        if event["ph"] == "X":
            assert event["dur"] > 0
            threads[event["pid"], event["tid"]].append((event["ts"], event["ts"] + event["dur"]))
    for spans in threads.values():
        ordered = np.array(sorted(spans))
        assert (ordered[1:, 0] >= ordered[:-1, 1] - 1e-3).all()
    assert max(span[1] for spans in threads.values() for span in spans) == timing.cycles * 1e6


@pytest.mark.parametrize("events", ["bus", "crossbar"], indirect=True)
def test_tracks_are_pods_channels_and_links(events):
    made, (_, description, timing) = events
    names = {(e["pid"], e["tid"]): e["args"]["name"] for e in made if e["name"] == "thread_name"}
    groups = {e["pid"]: e["args"]["name"] for e in made if e["name"] == "process_name"}
    found = {(groups[pid], name) for (pid, _), name in names.items()}
    assert {("pod 0 (4x4)", "array"), ("DRAM", "channel 0"), ("DRAM", "channel 1")} <= found
    is_bus = description.interconnect.kind == "bus"
    link = "bus" if is_bus else "into pod 1"
    assert ("interconnect", link) in found
    busy = sum(
        e["args"]["cycles"] for e in made if e["ph"] == "X" and names[e["pid"], e["tid"]] == "array"
    )
    assert busy == timing.queue_busy[Engine.ARRAY] == 27


@pytest.mark.parametrize("events", ["bus"], indirect=True)
def test_neighbouring_tiles_of_a_step_are_one_span(events):
    made, _ = events
    tiles = [(e["name"], e["args"]["instructions"]) for e in made if e.get("cat") == "array"]
    assert tiles == [("first", 2), ("second", 1)]


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plots_are_written(tmp_path, suffix):
    pytest.importorskip("matplotlib")
    ran = run("crossbar")
    plots.timeline(tmp_path / f"timeline.{suffix}", *ran)
    counts = program_counts(*ran)
    plots.roofline(tmp_path / f"roofline.{suffix}", counts, ran[1])
    for name in ("timeline", "roofline"):
        content = (tmp_path / f"{name}.{suffix}").read_bytes()
        assert content.startswith(b"\x89PNG" if suffix == "png" else b"<?xml")
    if suffix == "svg":
        text = (tmp_path / "roofline.svg").read_text() + (tmp_path / "timeline.svg").read_text()
        for word in ("first", "DRAM", "hand-made"):
            assert word in text


def test_a_missing_matplotlib_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(EnvironmentLackError, match=r"motet\[plot\]"):
        plots.timeline(tmp_path / "x.svg", *run("bus"))
