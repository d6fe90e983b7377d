"""What ``motet simulate --duration`` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from motet.console import output, quantity, seconds, table

if TYPE_CHECKING:
    from motet.bundle_seconds import BundleSeconds, ModelSeconds

COLUMNS = (
    "model", ">prio-\nrity", ">asked", ">runs\ndone", ">dropped", ">missed", ">mean\nlatency",
    ">p50", ">p95", ">p99", ">largest", ">deadline", ">array\ntime", ">host\ntime",
    ">waited\nfor others", ">energy",
)  # fmt: skip

SCORE_COLUMNS = (
    "model", ">normalised\nturnaround", ">deadlines\nmet", ">real time", ">energy", ">QoE",
    ">score",
)  # fmt: skip

EXPLAINED = (
    "deadline: deadline_ms, else the period; missed: not done by then, dropped ones included; "
    "dropped: late before it began, or what it follows was; waited: ready while another had the "
    "array"
)


def print_seconds(found: BundleSeconds) -> None:
    """A row per model, how busy the machine was, and how times are known."""
    console = output()
    console.print(table(title_of(found), COLUMNS, [_row(model) for model in found.models]))
    console.print(_machine(found))
    if found.scores is not None:
        console.print(_scores_table(found))
        console.print(_together(found))
    for line in host_lines(found):
        console.print(line)
    console.print(EXPLAINED)


def title_of(found: BundleSeconds, seeds: str = "") -> str:
    """What was simulated, in a line."""
    where = f"{found.machine} in {found.number_format}" if found.number_format else found.machine
    chance = seeds or f"seed {found.seed}"
    return (
        f"{seconds(found.seconds_simulated)} on {where} (simulated): policy {found.policy}, "
        f"arrivals {found.arrivals}, {chance}"
    )


def asked_of(rate_hz: float | None, probability: float) -> str:
    """How often frames are asked for."""
    asked = "back to back" if rate_hz is None else f"{rate_hz:g} Hz"
    return asked if probability == 1 else f"{asked} x {probability:g}"


def _row(model: ModelSeconds) -> list[str]:
    return [
        model.model,
        str(model.priority),
        asked_of(model.rate_hz, model.probability),
        f"{model.finished:,}",
        f"{model.dropped:,}",
        f"{model.deadline_misses:,}" if model.deadline_seconds is not None else "",
        _time(model.mean_latency_seconds),
        _time(model.p50_latency_seconds),
        _time(model.p95_latency_seconds),
        _time(model.p99_latency_seconds),
        _time(model.maximum_latency_seconds),
        _time(model.deadline_seconds),
        seconds(model.array_seconds),
        seconds(model.host_seconds),
        seconds(model.waiting_seconds),
        "" if model.energy_joules is None else quantity(model.energy_joules, "J"),
    ]


def _machine(found: BundleSeconds) -> str:
    parts = []
    if found.utilisation is not None:
        parts.append(
            f"the array worked {100 * found.array_busy:.1f} % of the time, utilisation "
            f"{100 * found.utilisation:.1f} % (multiply-accumulates of the runs done / (cycles x "
            "processing elements of all pods))"
        )
    parts.append(f"the host worked {100 * found.host_busy:.1f} % of the time")
    if found.energy_joules is not None:
        parts.append(f"energy of the array {quantity(found.energy_joules, 'J')}, at rest included")
    return "; ".join(parts)


def host_lines(found: BundleSeconds) -> list[str]:
    """How the host's times are known."""
    lines = []
    untimed = sum(m.host_operators for m in found.models if not m.host_times)
    if untimed:
        lines.append(f"{untimed} operators run on the host and take no time here (--host)")
    timed = [model for model in found.models if model.host_operators and model.host_times]
    if timed:
        each = ", ".join(
            f"{m.model} {seconds(m.run_host_seconds)} a run, {m.host_times}" for m in timed
        )
        lines.append(f"times of operators on the host: {each}")
    return lines


def _scores_table(found: BundleSeconds) -> Any:
    rows = []
    for model in found.models:
        judged = model.scores
        assert judged is not None
        figures = (
            judged.normalised_turnaround, judged.met, judged.real_time, judged.energy,
            judged.qoe, judged.score,
        )  # fmt: skip
        rows.append([model.model, *map(_number, figures)])
    return table("Scores (XRBench's: 0 to 1)", SCORE_COLUMNS, rows)


def _together(found: BundleSeconds) -> str:
    judged = found.scores
    assert judged is not None
    text = (
        f"STP {_number(judged.stp)} of {len(found.models)}; ANTT {_number(judged.antt)}; fairness "
        f"{_number(judged.fairness)}; XRBench {_number(judged.xrbench)} of 100"
    )
    if found.energy_joules is None:
        text += " (no energy is known, so there is no score)"
    return text


def _time(value: float | None) -> str:
    return "" if value is None else seconds(value)


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
