"""``motet inspect --flops``: multiply-accumulates and parameters of layers, and in total."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from motet import api
from motet.console import output, progress, table, without_tvm_warnings
from motet.opening import CompileRequest, check_files, is_source, refuse_compile_options
from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.errors import BundleError
from motet.runtime.shapes import Dimension, render
from motet.tensors import parse_shapes, parse_values

Facts = list[dict[str, Any]]


def flops_of(file: str, request: CompileRequest, model: str | None = None) -> Facts:
    """A record per model with its ``layers``.

    Of a model or a specification layers are ONNX nodes as they are written; of a bundle they
    are its operators, whose parameters are not told apart any more (None). MACs over symbolic
    sizes are text.

    Raises ``InputError`` for a ``model`` that is not there, and what reading the file raises.
    """
    if is_source(file):
        found = _of_source(file, request)
    else:
        refuse_compile_options(file, request)
        found = _of_bundle(open_bundle(file))
    chosen = [one for one in found if model in (None, one["model"])]
    if not chosen:
        names = ", ".join(str(one["model"]) for one in found)
        raise BundleError(f"{file}: there is no model {model!r}; there are {names}")
    return chosen


def _of_source(file: str, request: CompileRequest) -> Facts:
    check_files([file])
    api.compiler()
    from motet.compiler.compile import CompileOptions
    from motet.compiler.layer_figures import layer_figures

    shapes, values = parse_shapes(request.shapes), parse_values(request.values)
    spec = api.specification(
        file, request.target, shapes, request.settings, values, request.operators
    )
    with without_tvm_warnings(), progress("count") as show:
        figures = layer_figures(spec, CompileOptions(progress=show))
    return [
        {
            "model": one.model,
            "macs": _number(one.macs),
            "parameters": one.parameters,
            "layers": [
                {
                    "onnx_nodes": [layer.node],
                    "operator": layer.operator,
                    "macs": _number(layer.macs),
                    "parameters": layer.parameters,
                }
                for layer in one.layers
            ],
        }
        for one in figures
    ]


def _of_bundle(bundle: Bundle) -> Facts:
    found = []
    for entry in bundle.manifest.models:
        layers = [
            {
                "onnx_nodes": list(one.onnx_nodes),
                "operator": one.kind,
                "macs": _number(one.macs),
                "parameters": None,
            }
            for one in bundle.programs[entry.name].operators
            if one.macs != 0
        ]
        counts = [layer["macs"] for layer in layers]
        is_known = all(isinstance(count, int) for count in counts)
        total = sum(counts) if is_known else None  # type: ignore[arg-type]
        found.append({"model": entry.name, "macs": total, "parameters": None, "layers": layers})
    return found


def _number(macs: Dimension) -> int | str:
    return macs if isinstance(macs, int) else render(macs)


def csv_rows(facts: Facts) -> list[dict[str, Any]]:
    """A row per layer; nodes with spaces between."""
    return [
        {"model": one["model"], **layer, "onnx_nodes": " ".join(layer["onnx_nodes"])}
        for one in facts
        for layer in one["layers"]
    ]


def print_flops(facts: Facts) -> None:
    """A table per model, its sums last."""
    for one in facts:
        rows = [
            [", ".join(layer["onnx_nodes"]), layer["operator"], *_figures(layer)]
            for layer in one["layers"]
        ]
        rows.append(["total", "", *_figures(one)])
        columns: Sequence[str] = ("ONNX nodes", "operator", ">MACs", ">parameters")
        output().print(table(str(one["model"]), columns, rows))
    output().print("MACs: of products, padding counted; parameters: trained values.")


def _figures(facts: dict[str, Any]) -> list[str]:
    macs, parameters = facts["macs"], facts["parameters"]
    return [
        f"{macs:,}" if isinstance(macs, int) else "size-dependent" if macs is None else macs,
        "" if parameters is None else f"{parameters:,}",
    ]
