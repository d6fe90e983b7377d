"""Traces of the timing view in Chrome's trace format, which Perfetto (ui.perfetto.dev) opens.

A process for each pod, one for the DRAM and one for the interconnect; a thread for each engine,
DRAM channel and link. Times are microseconds of the array's clock.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.spans import Track, tracks
from motet.targets.systolic.simulation.timing import Timing

MICRO = 1e6


def trace_events(
    program: SystolicProgram, description: ArrayDescription, timing: Timing
) -> Iterator[dict[str, Any]]:
    """Events of a trace: names of processes and threads ("M"), and complete spans ("X").

    Spans of no duration are left out. A span's arguments are its cycles, and how many
    instructions of one step it joins.
    """
    groups: dict[str, int] = {}
    for thread, track in enumerate(tracks(program, description, timing)):
        if track.group not in groups:
            groups[track.group] = len(groups) + 1
            process = groups[track.group]
            yield _metadata("process_name", _group(track.group, description), process, 0)
            yield _metadata("process_sort_index", process, process, 0)
        process = groups[track.group]
        yield _metadata("thread_name", _label(track), process, thread)
        yield _metadata("thread_sort_index", thread, process, thread)
        yield from _spans(track, program, description.clock_hz, process, thread)


def write_trace(
    path: Path,
    program: SystolicProgram,
    description: ArrayDescription,
    timing: Timing,
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the trace of a run as JSON, an event a line; ``facts`` (of the model) go with it."""
    about = {"array": description.name, "cycles": timing.cycles, **(facts or {})}
    with path.open("w", encoding="utf-8") as file:
        file.write('{"displayTimeUnit": "ns", "otherData": ')
        file.write(json.dumps(about))
        file.write(', "traceEvents": [\n')
        for number, event in enumerate(trace_events(program, description, timing)):
            file.write((",\n" if number else "") + json.dumps(event))
        file.write("\n]}\n")


def _label(track: Track) -> str:
    return track.name if track.lane < 0 else f"{track.name}, in flight {track.lane}"


def _group(group: str, description: ArrayDescription) -> str:
    """The name of a process: a pod's with its rows and columns."""
    sizes = [f"{pod.rows}x{pod.columns}" for pod in description.pods for _ in range(pod.count)]
    return f"{group} ({sizes[int(group[4:])]})" if group.startswith("pod ") else group


def _metadata(kind: str, value: str | int, process: int, thread: int) -> dict[str, Any]:
    key = "sort_index" if kind.endswith("index") else "name"
    return {"ph": "M", "name": kind, "pid": process, "tid": thread, "args": {key: value}}


def _spans(
    track: Track, program: SystolicProgram, clock_hz: float, process: int, thread: int
) -> Iterator[dict[str, Any]]:
    names = [step.name for step in program.steps]
    rows = zip(
        track.begin.tolist(), track.end.tolist(), track.step.tolist(), track.count.tolist(),
        strict=True,
    )  # fmt: skip
    for begin, end, step, count in rows:
        if end == begin:
            continue
        yield {
            "ph": "X",
            "name": names[step] if step < len(names) else f"step {step}",
            "cat": track.name,
            "pid": process,
            "tid": thread,
            "ts": begin / clock_hz * MICRO,
            "dur": (end - begin) / clock_hz * MICRO,
            "args": {"cycle": begin, "cycles": end - begin, "instructions": count},
        }
