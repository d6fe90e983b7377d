"""What ``motet bench --profile`` prints: the calls of a run and where its time goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from motet.commands.common import Format, print_as
from motet.console import output, seconds, table
from motet.runtime.profiler import CallProfile, Profile

_SHOWN_NODES = 2
"""Names in the table of the nodes of a call; the others are counted. JSON has all."""


def print_profiles(form: Format, profiles: Sequence[Profile], top: int | None = None) -> None:
    """Tables, JSON, or CSV with a row for each call; tables show the ``top`` dearest calls."""
    print_as(
        form,
        [_facts(profile) for profile in profiles],
        lambda: _print(profiles, top),
        [_row(profile, call) for profile in profiles for call in profile.calls],
    )


def _call_facts(call: CallProfile) -> dict[str, Any]:
    rates = {"gflops": call.gflops, "gigabytes_per_second": call.gigabytes_per_second}
    return asdict(call) | rates


def _facts(profile: Profile) -> Mapping[str, Any]:
    calls = [_call_facts(call) for call in profile.calls]
    sums = {"calls_seconds": profile.calls_seconds}
    return asdict(profile) | sums | {"calls": calls}


def _row(profile: Profile, call: CallProfile) -> Mapping[str, Any]:
    facts = {"model": profile.model} | _call_facts(call)
    shapes = " ".join("x".join(map(str, shape)) or "scalar" for shape in call.shapes)
    return facts | {"onnx_nodes": "+".join(call.onnx_nodes), "shapes": shapes}


def _print(profiles: Sequence[Profile], top: int | None) -> None:
    columns = [
        "call", "operators", ">median", ">minimum", ">share", ">GFLOP/s", ">GB/s", "result",
        "ONNX nodes",
    ]  # fmt: skip
    for profile in profiles:
        title = (
            f"{profile.model}: a run takes {seconds(profile.run_seconds)}; its "
            f"{len(profile.calls)} calls, each timed, {seconds(profile.calls_seconds)} "
            f"(medians of {profile.runs} runs)"
        )
        calls = list(profile.calls)
        if top is not None:
            calls = sorted(calls, key=lambda call: -call.median_seconds)[:top]
        output().print(table(title, columns, [_cells(call) for call in calls]))
        output().print(table("", _KIND_COLUMNS, _kinds(profile)))


_KIND_COLUMNS = ["operators", ">calls", ">median", ">share", ">GFLOP/s"]


def _cells(call: CallProfile) -> list[str]:
    return [
        call.op,
        call.kind,
        seconds(call.median_seconds),
        seconds(call.minimum_seconds),
        f"{100 * call.share:.1f} %",
        f"{call.gflops:.1f}" if call.macs else "",
        f"{call.gigabytes_per_second:.1f}",
        "x".join(map(str, call.shapes[-1])) if call.shapes else "",
        _names(call.onnx_nodes),
    ]


def _names(nodes: Sequence[str]) -> str:
    rest = len(nodes) - _SHOWN_NODES
    return " + ".join(nodes[:_SHOWN_NODES]) + (f" + {rest} more" if rest > 0 else "")


def _kinds(profile: Profile) -> list[list[str]]:
    """The calls summed by their operators, dearest first."""
    groups: dict[str, list[CallProfile]] = {}
    for call in profile.calls:
        groups.setdefault(call.kind, []).append(call)
    rows = []
    for kind, calls in groups.items():
        time = sum(call.median_seconds for call in calls)
        macs = sum(call.macs for call in calls)
        share = sum(call.share for call in calls)
        rate = f"{2e-9 * macs / time:.1f}" if macs and time else ""
        rows.append((time, [kind, str(len(calls)), seconds(time), f"{100 * share:.1f} %", rate]))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
