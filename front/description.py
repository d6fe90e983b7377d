"""What a bundle holds, as plain data: the facts behind ``motet inspect``."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec

from motet.runtime.bundle import Bundle, ModelEntry
from motet.runtime.errors import InputError
from motet.runtime.program import ArrayCall, Kernel, Operator, Program, TensorInfo
from motet.runtime.shapes import Dimension, render, render_shape


def describe(bundle: Bundle, model: str | None = None) -> dict[str, Any]:
    """Facts of the bundle, of one model where one is named; sizes in bytes."""
    manifest = bundle.manifest
    if model is not None and model not in bundle.programs:
        raise InputError(f"the bundle has no model {model!r}; it has {', '.join(bundle.programs)}")
    entries = [entry for entry in manifest.models if model in (None, entry.name)]
    return {
        "name": manifest.name,
        "target": manifest.target,
        "cpu": manifest.cpu,
        "cpu_features": list(manifest.cpu_features),
        "threads": manifest.threads,
        "motet_version": manifest.motet_version,
        "weights": len(bundle.weights),
        "weight_bytes": sum(weight.nbytes for weight in bundle.weights),
        "kernel_library_bytes": len(bundle.kernels),
        "models": [_model(entry, bundle.programs[entry.name]) for entry in entries],
        "kernels": _kernels(bundle),
        "array_programs": _array_programs(bundle),
        "array": None if bundle.array_description is None else _array(bundle.array_description),
        "passes": [{"name": done.name, "summary": done.summary} for done in manifest.passes],
    }


def _array(description: bytes) -> Any:
    return msgspec.json.decode(description)


def _model(entry: ModelEntry, program: Program) -> dict[str, Any]:
    total = [operator.macs for operator in program.operators]
    return {
        "name": entry.name,
        "onnx": entry.source.path,
        "onnx_sha256": entry.source.sha256,
        "rate_hz": entry.rate_hz,
        "deadline_ms": entry.deadline_ms,
        "priority": entry.priority,
        "after": list(entry.after),
        "wires": dict(entry.wires),
        "inputs": [_tensor(info) for info in program.inputs],
        "outputs": [_tensor(info) for info in program.outputs],
        "operators": len(program.operators),
        "array_operators": sum(operator.target == "array" for operator in program.operators),
        "macs": _sum(total),
        "macs_text": _macs_text(_sum(total)),
        "arena_bytes": program.arena_bytes,
        "instructions": len(program.instructions),
        "operator_list": [_operator(operator) for operator in program.operators],
    }


def _sum(dimensions: list[Dimension]) -> int | None:
    numbers = [dimension for dimension in dimensions if isinstance(dimension, int)]
    return sum(numbers) if len(numbers) == len(dimensions) else None


def _macs_text(macs: int | None) -> str:
    return f"{macs:,}" if macs is not None else "shape-dependent"


def _tensor(info: TensorInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "dtype": info.dtype,
        "shape": [size if isinstance(size, int) else render(size) for size in info.shape],
        "shape_text": render_shape(info.shape),
    }


def _operator(operator: Operator) -> dict[str, Any]:
    return {
        "op": operator.op,
        "target": operator.target,
        "kind": operator.kind,
        "macs": operator.macs if isinstance(operator.macs, int) else None,
        "macs_text": render(operator.macs),
        "onnx_nodes": ", ".join(operator.onnx_nodes),
    }


def _kernels(bundle: Bundle) -> list[dict[str, Any]]:
    calls = Counter(
        step.symbol
        for program in bundle.programs.values()
        for step in program.instructions
        if isinstance(step, Kernel)
    )
    return [{"symbol": symbol, "calls": count} for symbol, count in sorted(calls.items())]


def _array_programs(bundle: Bundle) -> list[dict[str, Any]]:
    calls = Counter(
        step.program
        for program in bundle.programs.values()
        for step in program.instructions
        if isinstance(step, ArrayCall)
    )
    return [
        {"name": name, "calls": calls[name], "bytes": len(data)}
        for name, data in sorted(bundle.array_programs.items())
    ]
