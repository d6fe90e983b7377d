"""What a bundle holds, as plain data: the facts behind ``motet inspect``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from motet.console import quantity
from motet.runtime.bundle import Bundle
from motet.runtime.errors import InputError
from motet.runtime.manifest import FixedInput, ModelEntry
from motet.runtime.program import ArrayCall, Constant, Kernel, Operator, Program, TensorInfo
from motet.runtime.shapes import render
from motet.runtime.weight_packing import packed_bytes, stored_bytes

_MAX_SHOWN = 64
"""Numbers of a fixed input that a description holds."""


def describe(bundle: Bundle, model: str | None = None) -> dict[str, Any]:
    """Facts of the bundle, of one model where one is named; sizes in bytes.

    What depends on an input's size is None (``macs``, ``arena_bytes``).
    Raises ``InputError`` where there is no such model.
    """
    manifest = bundle.manifest
    if model is not None and model not in bundle.programs:
        raise InputError(
            f"the bundle has no model {model!r}; its models are {', '.join(bundle.programs)}"
        )
    entries = [entry for entry in manifest.models if model in (None, entry.name)]
    programs = [bundle.programs[entry.name] for entry in entries]
    return {
        "name": manifest.name,
        "target": manifest.target,
        "cpu": manifest.cpu,
        "cpu_features": list(manifest.cpu_features),
        "threads": manifest.threads,
        "motet_version": manifest.motet_version,
        "weights": len(bundle.weights),
        "weight_bytes": sum(weight.nbytes for weight in bundle.weights),
        "weight_file_bytes": weight_file_bytes(bundle),
        "kernel_library_bytes": len(bundle.kernels),
        "sharing": sharing_facts(bundle),
        "models": [_model(entry, bundle.programs[entry.name]) for entry in entries],
        "kernels": _kernels(programs),
        "array_programs": _array_programs(bundle, programs),
        "array": None if bundle.array_description is None else _array(bundle.array_description),
        "passes": [
            {"name": done.name, "summary": done.summary, "details": list(done.details)}
            for done in manifest.passes
        ],
        "timetable": msgspec.to_builtins(manifest.timetable),
        "pod_programs": msgspec.to_builtins(manifest.pod_programs),
    }


def code_facts(bundle: Bundle) -> dict[str, Any]:
    """Counts of host kernels and array programs, what sharing saves, and the array's share of MACs.

    ``array_share`` is 0 to 1; None where the MACs depend on an input's size, or are 0.
    """
    programs = bundle.programs.values()
    operators = [operator for program in programs for operator in program.operators]
    macs = _sum(operators)
    on_array = _sum(operator for operator in operators if operator.target == "array")
    return {
        "kernel_count": len(_kernels(programs)),
        "array_program_count": len(bundle.array_programs),
        "sharing": sharing_facts(bundle),
        "weight_bytes": sum(weight.nbytes for weight in bundle.weights),
        "weight_file_bytes": weight_file_bytes(bundle),
        "macs": macs,
        "array_macs": on_array,
        "array_share": on_array / macs if macs and on_array is not None else None,
    }


def weight_file_bytes(bundle: Bundle) -> int:
    """What the weights take in a file, where values of few bits lie packed."""
    if not bundle.manifest.weights:
        return sum(stored_bytes(weight) for weight in bundle.weights)
    return sum(
        array.nbytes if weight.packing is None else packed_bytes(weight.packing, array.nbytes)
        for weight, array in zip(bundle.manifest.weights, bundle.weights, strict=True)
    )


def packing_text(facts: Mapping[str, Any]) -> str:
    """What packing saves in the file, in words; nothing where it saves nothing."""
    saved = facts["weight_bytes"] - facts["weight_file_bytes"]
    return f"weights packed in fewer bits save {quantity(saved, 'B')}" if saved else ""


def sharing_facts(bundle: Bundle) -> dict[str, Any]:
    """What models have in common, which is stored and loaded once: bytes and counts it saves.

    Against a bundle for each model by itself, where equal parts of one model are one already.
    """
    programs = list(bundle.programs.values())
    weights = [
        {r.place.index for r in program.registers if isinstance(r.place, Constant)}
        for program in programs
    ]
    alone = sum(bundle.weights[index].nbytes for used in weights for index in used)
    together = sum(bundle.weights[index].nbytes for index in set[int]().union(*weights))
    return {
        "weight_bytes_saved": alone - together,
        "weights_saved": sum(map(len, weights)) - len(set[int]().union(*weights)),
        "kernels_saved": _saved([_symbols([program]) for program in programs]),
        "array_programs_saved": _saved([_called([program]) for program in programs]),
        "array_program_bytes_saved": sum(
            len(bundle.array_programs[name]) * (times - 1)
            for name, times in Counter(
                name for program in programs for name in _called([program])
            ).items()
        ),
    }


def sharing_text(facts: Mapping[str, Any]) -> str:
    """What ``sharing_facts`` found, in words; nothing where models have nothing in common."""
    parts = []
    if facts["weight_bytes_saved"]:
        parts.append(f"{quantity(facts['weight_bytes_saved'], 'B')} of weights")
    for key, name in (("kernels", "kernel"), ("array_programs", "array program")):
        if count := facts[f"{key}_saved"]:
            parts.append(f"{count} {name}{'s' if count > 1 else ''}")
    return f"sharing between models saves {' and '.join(parts)}" if parts else ""


def _saved(used: Sequence[Mapping[str, int]]) -> int:
    """How often a name is used by another model already."""
    return sum(map(len, used)) - len({name for one in used for name in one})


def _fixed(value: FixedInput) -> dict[str, Any]:
    """What an input was fixed to; its numbers only where there are few."""
    array = np.frombuffer(value.data, np.dtype(value.dtype)).reshape(value.shape)
    facts = {"dtype": value.dtype, "shape": list(value.shape)}
    return facts | ({"values": array.tolist()} if array.size <= _MAX_SHOWN else {})


def _array(description: bytes) -> Any:
    return msgspec.json.decode(description)


def _model(entry: ModelEntry, program: Program) -> dict[str, Any]:
    on_array = [operator for operator in program.operators if operator.target == "array"]
    return {
        "name": entry.name,
        "onnx": entry.source.path,
        "onnx_sha256": entry.source.sha256,
        "rate_hz": entry.rate_hz,
        "deadline_ms": entry.deadline_ms,
        "phase_ms": entry.phase_ms,
        "priority": entry.priority,
        "after": list(entry.after),
        "wires": dict(entry.wires),
        "quota": {k: v for k, v in msgspec.structs.asdict(entry.quota).items() if v is not None},
        "fixed": {name: _fixed(value) for name, value in entry.fixed.items()},
        "inputs": [_tensor(info) for info in program.inputs],
        "outputs": [_tensor(info) for info in program.outputs],
        "operators": len(program.operators),
        "array_operators": len(on_array),
        "macs": _sum(program.operators),
        "array_macs": _sum(on_array),
        "integer_macs": _sum(program.operators, "integer_macs"),
        "arena_bytes": program.arena_bytes,
        "instructions": len(program.instructions),
        "operator_list": [_operator(operator) for operator in program.operators],
    }


def _sum(operators: Iterable[Operator], which: str = "macs") -> int | None:
    """MACs of all; None where those of one depend on an input's size."""
    total = 0
    for operator in operators:
        macs = getattr(operator, which)
        if not isinstance(macs, int):
            return None
        total += macs
    return total


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "dtype": info.dtype,
        "shape": [size if isinstance(size, int) else render(size) for size in info.shape],
    }


def _operator(operator: Operator) -> dict[str, Any]:
    return {
        "op": operator.op,
        "target": operator.target,
        "kind": operator.kind,
        "macs": operator.macs if isinstance(operator.macs, int) else render(operator.macs),
        "onnx_nodes": list(operator.onnx_nodes),
        "steps": list(operator.steps),
    }


def _symbols(programs: Iterable[Program]) -> Counter[str]:
    """Calls of each kernel."""
    return Counter(
        step.symbol
        for program in programs
        for step in program.instructions
        if isinstance(step, Kernel)
    )


def _kernels(programs: Iterable[Program]) -> list[dict[str, Any]]:
    calls = _symbols(programs)
    return [{"symbol": symbol, "calls": count} for symbol, count in sorted(calls.items())]


def _called(programs: Iterable[Program]) -> Counter[str]:
    """Calls of each array program."""
    return Counter(
        step.program
        for program in programs
        for step in program.instructions
        if isinstance(step, ArrayCall)
    )


def _array_programs(bundle: Bundle, programs: Iterable[Program]) -> list[dict[str, Any]]:
    calls = _called(programs)
    return [
        {"name": name, "calls": count, "bytes": len(bundle.array_programs[name])}
        for name, count in sorted(calls.items())
    ]
