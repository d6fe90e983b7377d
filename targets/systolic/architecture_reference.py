"""The keys of an array description as Markdown tables, made from the structs that define them.

``python -m motet.targets.systolic.architecture_reference`` prints them;
docs/ARRAY_DESCRIPTION.md ends with them, and a test keeps the two equal.
"""

from __future__ import annotations

from typing import Any

import msgspec

from motet.targets.systolic.architecture import (
    Area,
    ArrayDescription,
    Dram,
    Energy,
    Figure,
    Interconnect,
    Memory,
    PerVector,
    Pod,
    VectorUnit,
)
from motet.targets.systolic.architecture_file import load_architecture, shipped_architectures
from motet.targets.systolic.architecture_values import allowed, hints_of, plain_type

TABLES: dict[str, type[msgspec.Struct]] = {
    "Above the first table": ArrayDescription,
    "`[[pods]]`": Pod,
    "`pods.scratchpad` and `pods.accumulators`": Memory,
    "`pods.vector`": VectorUnit,
    "`pods.per_vector`": PerVector,
    "`[interconnect]`": Interconnect,
    "`[dram]`": Dram,
    "`[energy]`": Energy,
    "`[area]`": Area,
    "A figure": Figure,
}
"""Title -> the struct of the table's keys."""

_HEAD = "| key | unit | allowed | default | meaning |\n|---|---|---|---|---|"


def reference() -> str:
    """All tables, each under its title."""
    parts = []
    for title, struct in TABLES.items():
        rows = [_row(struct, info) for info in msgspec.structs.fields(struct)]
        summary = str(struct.__doc__).splitlines()[0]
        parts += [f"### {title}", summary, "\n".join([_HEAD, *rows])]
    return "\n\n".join(parts) + "\n"


def shipped() -> str:
    """A table of the machines that are shipped."""
    head = (
        "| name | pods | clock, GHz | scratchpad, KiB per pod | accumulators, KiB per pod | DRAM,"
        " GB/s | interconnect | dataflows | formats |\n" + "|---" * 9 + "|"
    )
    return "\n".join([head, *(_machine(name) for name in shipped_architectures())]) + "\n"


def _machine(name: str) -> str:
    machine = load_architecture(name)
    pods, net = machine.pods, machine.interconnect
    kind = net.kind if net.expansion == 1 else f"{net.kind}-{net.expansion}"
    cells = [
        f"`{name}`",
        " + ".join(f"{pod.count} of {pod.rows}x{pod.columns}" for pod in pods),
        f"{machine.clock_hz / 1e9:g}",
        " + ".join(f"{pod.scratchpad.bytes / 1024:g}" for pod in pods),
        " + ".join(f"{pod.accumulators.bytes / 1024:g}" for pod in pods),
        f"{machine.dram.bytes_per_second / 1e9:g}",
        kind if machine.pod_count > 1 else "",
        ", ".join("".join(part[0] for part in flow.split("-")) for flow in pods[0].dataflows),
        ", ".join(machine.formats),
    ]
    return f"| {' | '.join(cells)} |"


def _row(struct: type[msgspec.Struct], info: msgspec.structs.FieldInfo) -> str:
    annotation = hints_of(struct)[info.name]
    kind, metas = plain_type(annotation)
    meaning = next(meta.description for meta in metas if meta.description)
    unit = next((meta.extra["unit"] for meta in metas if meta.extra), "")
    held = "a figure" if kind is Figure else allowed(annotation)
    return f"| `{info.name}` | {unit} | {held} | {_default(info)} | {meaning} |"


def _default(info: msgspec.structs.FieldInfo) -> str:
    if info.required:
        return "required"
    default: Any = info.default
    if default is None or isinstance(default, msgspec.Struct):
        return "absent" if default is None else "its keys' defaults"
    if isinstance(default, tuple):
        return f"`[{', '.join(chr(34) + str(item) + chr(34) for item in default)}]`"
    return f'`"{default}"`' if isinstance(default, str) else f"`{default}`"


if __name__ == "__main__":
    print(f"{shipped()}\n{reference()}", end="")
