"""What ``motet timetable`` prints for people."""

from __future__ import annotations

from motet.console import output, quantity, seconds, table
from motet.targets.sharing.asked import share_text
from motet.timetable_report import KindTimes, ModelTimes, TimetableReport

MODEL_COLUMNS = (
    "model", ">rate", ">frames", ">deadline", ">mean\nlatency", ">largest\nlatency",
    ">none is\nbelow", ">least\nslack", ">missed", ">pods",
)  # fmt: skip
KIND_COLUMNS = (
    "kind", ">missed", ">at least", ">deadline\nused", ">at least", ">distance", ">array\nbusy",
    ">at least", ">host\nbusy", ">energy", ">at least", "",
)  # fmt: skip

_EXPLAINED = (
    "deadline used: the largest share of its deadline that a frame uses; at least: bounds that no "
    "timetable is below (critical paths, demand of every stretch of time, cheapest shares); "
    "distance: of the share used to its bound. time: all pods for each stage; space: pods of its "
    "own for each model; both: groups and shares that change from stage to stage, joint stages"
)


def print_report(found: TimetableReport) -> None:
    """A row per model, a row per kind, and what the words mean."""
    console = output()
    console.print(table(_title(found), MODEL_COLUMNS, [_model(model) for model in found.models]))
    if found.kinds:
        console.print(table("Kinds", KIND_COLUMNS, [_kind(k, found.kind) for k in found.kinds]))
        console.print(_EXPLAINED)


def _title(found: TimetableReport) -> str:
    where = f"{found.machine} in {found.number_format}" if found.number_format else found.machine
    joints = f", {found.joints} joint stages" if found.joints else ""
    return (
        f"Timetable of {seconds(found.hyperperiod_seconds)} on {where} (simulated): "
        f"{found.frames:,} frames, kind {found.kind}{joints}"
    )


def _model(model: ModelTimes) -> list[str]:
    least, most = model.pods
    slack = model.slack_seconds
    return [
        model.model,
        f"{model.rate_hz:g} Hz",
        f"{model.frames:,}",
        seconds(model.deadline_seconds),
        seconds(model.mean_latency_seconds),
        seconds(model.largest_latency_seconds),
        seconds(model.least_latency_seconds),
        seconds(slack) if slack >= 0 else f"-{seconds(-slack)}",
        str(model.missed),
        "host" if not most else str(most) if least == most else f"{least} to {most}",
    ]


def _kind(one: KindTimes, chosen: str) -> list[str]:
    name = f"{one.kind} *" if one.kind == chosen else one.kind
    bounds = (str(one.missed_bound), _percent(one.used_bound), _percent(one.array_bound))
    if one.missed is None or one.used is None:
        return [name, "", bounds[0], "", bounds[1], "", "", bounds[2], "", "", "", one.why]
    distance = one.used / one.used_bound - 1 if one.used_bound else 0.0
    note = "proved" if one.proved else ""
    return [
        name,
        str(one.missed),
        bounds[0],
        _percent(one.used),
        bounds[1],
        f"{100 * max(0.0, distance):.1f} %",
        _percent(one.array_busy),
        bounds[2],
        _percent(one.host_busy),
        "" if not one.joules else quantity(one.joules, "J"),
        "" if not one.joules_bound else quantity(one.joules_bound, "J"),
        note,
    ]


def _percent(share: float | None) -> str:
    if share is None:
        return ""
    return f"{100 * share:.1f} %" if share < 10 else share_text(share)
