"""What ``motet simulate --duration --seeds`` prints: the tables of one seed, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from motet.commands.duration_tables import (
    COLUMNS,
    EXPLAINED,
    SCORE_COLUMNS,
    asked_of,
    host_lines,
    title_of,
)
from motet.console import output, quantity, seconds, table
from motet.targets.sharing.intervals import Interval

if TYPE_CHECKING:
    from motet.bundle_seconds import BundleSeconds

Facts = Mapping[str, Any]

_LATENCIES = tuple(f"{key}_latency_seconds" for key in ("mean", "p50", "p95", "p99", "maximum"))
_SCORES = ("normalised_turnaround", "met", "real_time", "energy", "qoe", "score")


def print_intervals(found: Sequence[BundleSeconds], whole: Facts, models: Sequence[Facts]) -> None:
    """Means over seeds, each with half its 95 % confidence interval."""
    seeds = f"seeds {found[0].seed} to {found[-1].seed}, means and 95 % confidence intervals"
    console = output()
    console.print(table(title_of(found[0], seeds), COLUMNS, [_row(model) for model in models]))
    console.print(_machine(whole))
    if found[0].scores is not None:
        rows = [[str(m["model"]), *(_spread(m[key], _number) for key in _SCORES)] for m in models]
        console.print(table("Scores (XRBench's: 0 to 1)", SCORE_COLUMNS, rows))
        console.print(_together(whole, len(models)))
    for line in host_lines(found[0]):
        console.print(line)
    console.print(EXPLAINED)


def _row(model: Facts) -> list[str]:
    missed = model["deadline_misses"] if model["deadline_seconds"] is not None else None
    due = model["deadline_seconds"]
    return [
        str(model["model"]),
        str(model["priority"]),
        asked_of(model["rate_hz"], model["probability"]),
        *(_spread(value, _count) for value in (model["finished"], model["dropped"], missed)),
        *(_spread(model[key], seconds) for key in _LATENCIES),
        "" if due is None else seconds(due),
        *(_spread(model[f"{key}_seconds"], seconds) for key in ("array", "host", "waiting")),
        _spread(model["energy_joules"], _joules),
    ]


def _machine(whole: Facts) -> str:
    parts = []
    if whole["utilisation"] is not None:
        parts.append(
            f"the array worked {_spread(whole['array_busy'], _percent)} of the time, utilisation "
            f"{_spread(whole['utilisation'], _percent)} (multiply-accumulates of the runs done / "
            "(cycles x processing elements of all pods))"
        )
    parts.append(f"the host worked {_spread(whole['host_busy'], _percent)} of the time")
    if whole["energy_joules"] is not None:
        joules = _spread(whole["energy_joules"], _joules)
        parts.append(f"energy of the array {joules}, at rest included")
    return "; ".join(parts)


def _together(whole: Facts, models: int) -> str:
    text = (
        f"STP {_spread(whole['stp'], _number)} of {models}; ANTT {_spread(whole['antt'], _number)}"
        f"; fairness {_spread(whole['fairness'], _number)}; XRBench "
        f"{_spread(whole['xrbench'], _number)} of 100"
    )
    known = whole["energy_joules"] is not None
    return text if known else text + " (no energy is known, so there is no score)"


def _spread(value: Any, show: Callable[[float], str]) -> str:
    if not isinstance(value, Interval):
        return ""
    half = "" if value.half is None else f" ± {show(value.half)}"
    return f"{show(value.mean)}{half}"


def _count(value: float) -> str:
    return f"{value:,.4g}" if value < 1e4 else f"{value:,.0f}"


def _number(value: float) -> str:
    return f"{value:.4g}"


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _joules(value: float) -> str:
    return quantity(value, "J")
