"""What ``motet simulate --seconds`` prints for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from motet.console import output, quantity, seconds, table

if TYPE_CHECKING:
    from motet.bundle_seconds import BundleSeconds, ModelSeconds

COLUMNS = (
    "model", ">prio-\nrity", ">released", ">runs\ndone", ">mean\nlatency", ">p50", ">p99",
    ">largest", ">deadline", ">missed", ">array time", ">waited\nfor others",
)  # fmt: skip


def print_seconds(found: BundleSeconds) -> None:
    """A row per model, how busy the array was, and what is left out."""
    console = output()
    title = (
        f"{seconds(found.seconds_simulated)} on {found.array} in {found.number_format} (simulated)"
    )
    console.print(table(title, COLUMNS, [_row(model, found.clock_hz) for model in found.models]))
    console.print(
        f"the array worked for some model in {100 * found.array_busy:.1f} % of "
        f"{found.cycles:,} cycles at {quantity(found.clock_hz, 'Hz')}; utilisation "
        f"{100 * found.utilisation:.1f} % (multiply-accumulates of the runs done / (cycles x "
        "processing elements of all pods))"
    )
    if left_out := sum(model.host_operators for model in found.models):
        console.print(f"{left_out} operators run on the host: they are left out and take no time")
    console.print(
        "deadline: deadline_ms, else the period; waited: ready while another had the array"
    )


def _row(model: ModelSeconds, clock_hz: float) -> list[str]:
    released = "back to back" if model.rate_hz is None else f"{model.rate_hz:g} Hz"
    return [
        model.model,
        str(model.priority),
        released,
        f"{model.finished:,}",
        _time(model.mean_latency_seconds),
        _time(model.p50_latency_seconds),
        _time(model.p99_latency_seconds),
        _time(model.maximum_latency_seconds),
        _time(model.deadline_seconds),
        f"{model.deadline_misses:,}" if model.deadline_seconds is not None else "",
        seconds(model.array_cycles / clock_hz),
        seconds(model.waiting_cycles / clock_hz),
    ]


def _time(value: float | None) -> str:
    return "" if value is None else seconds(value)
