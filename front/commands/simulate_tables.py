"""What ``motet simulate`` prints for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from motet.console import output, quantity, seconds, table
from motet.placement_words import nothing_line, refused_line
from motet.runtime.device import StepCounts
from motet.simulating import SimulatedModel

UTILISATION = (
    "utilisation = multiply-accumulates of the layer / (cycles that its pods' arrays worked for "
    "it x rows x columns); of a model: / (all cycles x processing elements of all pods)"
)
EXPLAINED = (
    f"{UTILISATION}; cycles: from the layer's start to its end, in which others may run too; "
    "speed of light: the largest bound, in cycles"
)
COLUMNS = (
    "layer", "kind", "dataflow", ">pods", ">MACs", ">cycles", ">array\ncycles",
    ">utili-\nsation", ">bytes from\nand to DRAM", ">speed of\nlight", "bound by",
)  # fmt: skip
LEFT_OUT = (1, 3, 8)
"""Columns that a narrow terminal has no room for; ``--csv`` has everything."""
ROOM, WIDE = 120, 200
"""Columns of a terminal below which a table lacks columns, and shortens names."""
SHOWN_HOST = 3


def print_models(models: Sequence[SimulatedModel]) -> None:
    """A table per model, its totals, where its time and energy went, and the host's share."""
    console = output()
    for model in models:
        columns = _fitting(COLUMNS, console.width)
        rows = [_fitting(_row(step, console.width), console.width) for step in model.steps]
        title = f"{model.model} on {model.array} in {model.number_format} (simulated)"
        console.print(table(title, columns, rows) if rows else title)
        _print_totals(console, model)
    for placement in dict.fromkeys(model.placement for model in models if model.placement):
        if any(model.regions for model in models) and (line := refused_line(placement)):
            console.print(line)
    if any(model.regions for model in models):
        console.print(EXPLAINED)


def _fitting(row: Sequence[str], width: int) -> list[str]:
    return [cell for number, cell in enumerate(row) if width >= ROOM or number not in LEFT_OUT]


def _row(step: StepCounts, width: int) -> list[str]:
    return [
        step.name if width >= WIDE else first_of(step.name),
        step.kind,
        step.dataflow,
        str(step.pods),
        f"{step.macs:,}" if step.macs else "",
        f"{step.end_cycle - step.start_cycle:,}",
        f"{step.array_cycles:,}" if step.macs else "",
        f"{100 * step.utilisation:.1f} %" if step.macs else "",
        f"{step.dram_read_bytes + step.dram_write_bytes:,}",
        f"{step.speed_of_light:,}",
        bound_of(step),
    ]


def first_of(name: str) -> str:
    """``conv1 +2 more`` for what was fused from three: ``conv1+norm1+relu1``."""
    first, *others = name.split("+")
    return f"{first} +{len(others)} more" if others else name


def bound_of(step: StepCounts) -> str:
    """Which of the three bounds is the largest."""
    bounds = {
        "compute": step.compute_bound,
        "scratchpad": step.scratchpad_bound,
        "DRAM": step.dram_bound,
    }
    return max(bounds, key=bounds.__getitem__)


def _print_totals(console: Console, model: SimulatedModel) -> None:
    console.print(totals(model))
    if model.stalls:
        console.print("arrays: " + shares(model.stalls, "cycles of all pods"))
    if model.energy_joules:
        total = sum(model.energy_joules.values())
        console.print(f"energy {quantity(total, 'J')}: " + shares(model.energy_joules, ""))
    elif model.regions:
        console.print("energy: none; the array's description has no [energy] figures")
    if model.host:
        console.print(host_line(model))
    console.print()


def totals(model: SimulatedModel) -> str:
    """The array's share, cycles, how near the bound, time and traffic."""
    if not model.regions:
        return nothing_line(f"model {model.model!r}", repr(model.array), model.placement)
    share = f"{100 * model.array_share:.1f} % of {quantity(model.macs)} MACs on the array"
    if not model.cycles:
        return share
    near = model.speed_of_light / model.cycles
    time = f"{seconds(model.seconds)} at {quantity(model.clock_hz, 'Hz')}"
    return (
        f"{share}: {model.cycles:,} cycles, {time} (simulated), utilisation "
        f"{100 * model.utilisation:.1f} %; speed of light {model.speed_of_light:,} cycles "
        f"({100 * near:.0f} % of it reached); "
        f"{quantity(model.dram_bytes, 'B')} from and to DRAM"
    )


def shares(parts: Mapping[str, float], what: str) -> str:
    """``busy 80.1 %, inputs late 12.0 %``: what is worth naming, largest first."""
    total = sum(parts.values())
    ranked = sorted(parts.items(), key=lambda item: -item[1])
    named = [f"{name} {100 * v / total:.1f} %" for name, v in ranked if v >= 0.0005 * total]
    return ", ".join(named) + (f" of {what}" if what else "") if total else "nothing"


def host_line(model: SimulatedModel) -> str:
    """What the host runs, by kind; not timed here."""
    kinds = Counter(first_of(stage.kind) for stage in model.host).most_common()
    named = [f"{count} x {kind}" for kind, count in kinds[:SHOWN_HOST]]
    if rest := sum(count for _, count in kinds[SHOWN_HOST:]):
        named.append(f"{rest} others")
    return f"on the host, not timed: {', '.join(named)}"


def print_closed_forms(rows: Sequence[Mapping[str, Any]], mode: str, array: str) -> None:
    """A row per layer, and the sums over the layers that a dataflow computes."""
    cycles = [key for key in rows[0] if key.endswith("_cycles")] if rows else []
    names = [name for name in cycles if any(row[name] is not None for row in rows)]
    columns = ["model", "layer", ">groups", ">M", ">N", ">K", *(f">{n}" for n in names)]
    body = [
        [
            str(row["model"]),
            str(row["layer"]),
            *(f"{row[key]:,}" for key in ("groups", "m", "n", "k")),
            *("" if row[name] is None else f"{row[name]:,}" for name in names),
        ]
        for row in rows
    ]
    console = output()
    console.print(table(f"compute cycles on {array}, mode {mode}", columns, body))
    for name in names:
        has_form = [row[name] for row in rows if row[name] is not None]
        which = (
            "in all" if len(has_form) == len(rows) else f"in {len(has_form)} of {len(rows)} layers"
        )
        console.print(f"{name}: {sum(has_form):,} {which}")
