"""``motet inspect``."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import click

from motet.commands.common import (
    Format,
    compile_options,
    file_argument,
    format_options,
    model_option,
    print_as,
)
from motet.console import output, print_json, quantity, table
from motet.description import describe, sharing_text
from motet.extras import naming_extras
from motet.flops import csv_rows, flops_of, print_flops
from motet.opening import CompileRequest, open_or_compile
from motet.placement_words import idle_models
from motet.runtime.bundle import Bundle
from motet.runtime.errors import InputError

EVERY_PROGRAM = "*"


@click.command(epilog="Examples:\n\n"
    "\b\n"
    "  motet inspect headset.motet\n"
    "  motet inspect headset.motet --json | jq '.models[].arena_bytes'\n"
    "  motet inspect model.onnx --target edge-64x64 --operators\n"
    "  motet inspect model.onnx --flops --csv > layers.csv\n"
    "  motet inspect headset.motet --asm | less\n"
)  # fmt: skip
@file_argument
@model_option
@click.option("--operators", is_flag=True, help="List every operator with its ONNX nodes.")
@click.option("--kernels", is_flag=True, help="List every kernel and array program.")
@click.option(
    "--asm",
    is_flag=False,
    flag_value=EVERY_PROGRAM,
    metavar="[PROGRAM]",
    help="Print array programs as assembly text (docs/ARRAY_ISA.md): one, or all.",
)
@click.option("--passes", is_flag=True, help="List what passes did where, and why not elsewhere.")
@click.option(
    "--flops", is_flag=True,
    help="Multiply-accumulates and parameters of layers, by ONNX node; nothing is compiled.",
)  # fmt: skip
@compile_options
@format_options
def inspect(
    request: CompileRequest,
    file: str,
    model: str | None,
    operators: bool,
    kernels: bool,
    asm: str | None,
    passes: bool,
    flops: bool,
    form: Format,
) -> None:
    """Show what a bundle holds: models, memory, code, passes."""
    if flops:
        counted = flops_of(file, request, model)
        print_as(form, counted, lambda: print_flops(counted), csv_rows(counted))
        return
    if form is Format.CSV:
        raise click.UsageError("--csv is for --flops: add it, or take --json")
    with naming_extras():
        bundle = open_or_compile(file, request)
    if asm is not None:
        _print_assembly(bundle, asm)
        return
    facts = describe(bundle, model)
    if form is Format.JSON:
        print_json(facts)
        return
    _print_head(facts)
    _print_models(facts)
    if operators:
        _print_operators(facts)
    if kernels:
        _print_code(facts)
    else:
        _print_kinds("host kernels", "kernels", facts["kernels"], "symbol")
        _print_kinds("array programs", "programs", facts["array_programs"], "name")
    _print_passes(facts)
    if passes:
        _print_details(facts)


def _print_assembly(bundle: Bundle, name: str) -> None:
    """The text of program ``name``, of all whose names begin so, or of every program."""
    names = sorted(bundle.array_programs)
    chosen = [one for one in names if name == EVERY_PROGRAM or one.startswith(name)]
    if not names:
        idle = next(iter(idle_models(bundle).values()), "the bundle is for the host")
        raise InputError(f"--asm: there are no array programs: {idle}")
    if not chosen:
        raise InputError(f"--asm {name}: no such array program; there are {', '.join(names)}")
    from motet.targets.systolic.instructions.assembly import disassembled_lines
    from motet.targets.systolic.instructions.encoding import decode

    for one in chosen:
        click.echo(f"; {one}")
        for line in disassembled_lines(decode(bundle.array_programs[one])):
            click.echo(line)


def _print_head(facts: dict[str, Any]) -> None:
    features = " ".join(facts["cpu_features"])
    output().print(
        f"bundle {facts['name']!r} for {facts['target']} "
        f"(cpu {facts['cpu']}: {features}), made by Motet {facts['motet_version']}\n"
        f"{facts['weights']} weights, {quantity(facts['weight_bytes'], 'B')}{_packed(facts)}; "
        f"kernel library {quantity(facts['kernel_library_bytes'], 'B')}\n"
    )
    if shared := sharing_text(facts["sharing"]):
        output().print(f"{shared}\n")
    if found := facts["timetable"]:
        own = len(facts["pod_programs"])
        programs = f", {own} array programs for its pods" if own else ""
        output().print(
            f"timetable of {found['hyperperiod_seconds']} s: "
            f"{len(found['slots'])} slots, kind {found['kind']}{programs} (motet timetable SPEC "
            "--timetable BUNDLE.motet shows it)\n"
        )


def _packed(facts: dict[str, Any]) -> str:
    stored = facts["weight_file_bytes"]
    return f" ({quantity(stored, 'B')} in the file)" if stored < facts["weight_bytes"] else ""


def _print_models(facts: dict[str, Any]) -> None:
    for model in facts["models"]:
        rows = [
            [kind, tensor["name"], tensor["dtype"], _text(tensor["shape"])]
            for kind in ("input", "output")
            for tensor in model[f"{kind}s"]
        ]
        arena = model["arena_bytes"]
        memory = "arena depends on open sizes" if arena is None else quantity(arena, "B arena")
        title = (
            f"{model['name']}: {model['operators']} operators"
            f"{_on_array(model, facts)}, MACs {_macs(model)}, {memory}"
        )
        output().print(table(title, ["", "tensor", "dtype", "shape"], rows))
        if schedule := _schedule(model):
            output().print(schedule)
        output().print()


_SCHEDULE = ("rate_hz", "deadline_ms", "phase_ms", "priority")


def _schedule(model: dict[str, Any]) -> str:
    """What the specification says of the model, where it does: its place, wires, fixed inputs."""
    parts = [f"{key} {_told(model[key])}" for key in _SCHEDULE if model[key]]
    if model["after"]:
        parts.append(f"after {', '.join(model['after'])}")
    if model["wires"]:
        wires = ", ".join(f"{own} = {wire}" for own, wire in model["wires"].items())
        parts.append(f"wires {wires}")
    if model["quota"]:
        limits = ", ".join(f"{key} {value:g}" for key, value in model["quota"].items())
        parts.append(f"quota {limits}")
    for name, fixed in model["fixed"].items():
        parts.append(f"fixed {name} = {fixed.get('values', _text(fixed['shape']))}")
    return "; ".join(parts)


def _told(value: float | str) -> str:
    """A number; a rate may be a fraction."""
    return value if isinstance(value, str) else f"{value:g}"


def _text(shape: list[int | str]) -> str:
    return " x ".join(map(str, shape)) or "scalar"


def _number(macs: int | str) -> str:
    return f"{macs:,}" if isinstance(macs, int) else macs


def _on_array(model: dict[str, Any], facts: dict[str, Any]) -> str:
    return "" if facts["array"] is None else f" ({model['array_operators']} on the array)"


def _macs(model: dict[str, Any]) -> str:
    """MACs, and the share of them that integers do where there are any."""
    macs, integers = model["macs"], model["integer_macs"]
    if macs is None:
        return "size-dependent"
    return f"{macs:,}" + (f" ({100 * integers / macs:.1f} % in integers)" if integers else "")


def _print_operators(facts: dict[str, Any]) -> None:
    for model in facts["models"]:
        rows = [
            [
                entry["op"],
                entry["target"],
                entry["kind"],
                _number(entry["macs"]),
                ", ".join(entry["onnx_nodes"]),
            ]
            for entry in model["operator_list"]
        ]
        columns = ["operator", "target", "computes", ">MACs", "ONNX nodes"]
        output().print(table(model["name"], columns, rows))
        output().print()


def _print_kinds(title: str, counted: str, code: Sequence[dict[str, Any]], key: str) -> None:
    """One row per kind: what the names have before the digest of their content."""
    kinds: dict[str, list[int]] = {}
    for entry in code:
        kinds.setdefault(re.sub("_[0-9a-f]{16}$", "", entry[key]), []).append(entry["calls"])
    rows = [[kind, str(len(calls)), str(sum(calls))] for kind, calls in kinds.items()]
    if rows:
        output().print(
            table(f"{title} (--kernels lists them)", ["kind", f">{counted}", ">calls"], rows)
        )
        output().print()


def _print_code(facts: dict[str, Any]) -> None:
    rows = [[kernel["symbol"], str(kernel["calls"])] for kernel in facts["kernels"]]
    if rows:
        output().print(table("host kernels", ["symbol", ">calls"], rows))
        output().print()
    rows = [
        [program["name"], str(program["calls"]), quantity(program["bytes"], "B")]
        for program in facts["array_programs"]
    ]
    if rows:
        output().print(table("array programs", ["program", ">calls", ">size"], rows))
        output().print()


def _print_passes(facts: dict[str, Any]) -> None:
    rows = [[entry["name"], entry["summary"]] for entry in facts["passes"]]
    output().print(table("passes", ["pass", "what it did"], rows))


def _print_details(facts: dict[str, Any]) -> None:
    for entry in facts["passes"]:
        if entry["details"]:
            output().print(f"\n{entry['name']}:")
            for line in entry["details"]:
                output().print(f"  {line}", soft_wrap=True, markup=False)
