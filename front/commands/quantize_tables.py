"""What ``motet quantize`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.console import output, quantity, table
from motet.quantizing import Evaluated, Quantized

WORST = 10
"""Products that the table shows; JSON and CSV have all."""


def print_quantized(made: Quantized, path: Path) -> None:
    """The outcome, and the products that lose most."""
    console, outcome = output(), made.outcome
    smaller = made.float_bytes / outcome.size_bytes if outcome.size_bytes else math.nan
    console.print(
        f"{path}: {len(made.products)} products in {outcome.setting}, "
        f"{quantity(outcome.size_bytes, 'B')} ({smaller:.2f} times smaller), outputs at "
        f"{_db(outcome.sqnr_db)} dB" + _change(made)
    )
    if made.folded:
        console.print(f"{len(made.folded)} nodes behind products are folded into their weights")
    rows = [
        (
            one.product.name,
            made.raised.get(one.product.name, outcome.setting),
            _db(one.sqnr_db),
            _db(one.data.sqnr_db),
            f"{100 * one.data.clipped_share:.3g}",
            _db(one.weights.sqnr_db),
        )
        for one in made.worst_first[:WORST]
    ]
    title = "products that lose most" if len(made.products) > WORST else "products, worst first"
    console.print(
        table(
            title,
            ("ONNX node", "bits", ">dB", ">data, dB", ">clipped, %", ">weights, dB"),
            rows,
        )
    )
    floats = {n: "float32, to keep the metric" for n, to in made.raised.items() if to == "float32"}
    kept = [*(made.refused | floats).items()]
    if kept:
        console.print(table("stay float32", ("ONNX node", "why"), kept))


def print_comparison(floats: Evaluated, rows: Sequence[Evaluated]) -> None:
    """A row for every setting, the float model first."""
    shown = [floats, *rows]
    measured = floats.metric is not None
    columns = ["setting", ">outputs, dB", ">size", *([">metric"] if measured else [])]
    cells = [
        (
            row.setting,
            _db(row.sqnr_db),
            quantity(row.size_bytes, "B"),
            *([f"{row.metric:.4g}"] if row.metric is not None else []),
        )
        for row in shown
    ]
    output().print(table("bits of weights/activations", columns, cells))


def quantized_facts(made: Quantized) -> dict[str, Any]:
    """The outcome as JSON."""
    outcome = made.outcome
    return {
        "setting": outcome.setting,
        "outputs_sqnr_db": outcome.sqnr_db,
        "metric": outcome.metric,
        "float_metric": made.float_metric,
        "size_bytes": outcome.size_bytes,
        "float_size_bytes": made.float_bytes,
        "drop_met": made.met,
        "raised": made.raised,
        "float32": made.refused,
        "folded": made.folded,
        "products": [
            fact
            | {
                "data_scale_histogram": one.data.scales.tolist(),
                "weights_scale_histogram": one.weights.scales.tolist(),
            }
            for fact, one in zip(product_facts(made), made.products, strict=True)
        ],
    }


def product_facts(made: Quantized) -> list[dict[str, Any]]:
    """A row for every product, in the order of the graph."""
    return [
        {
            "onnx_node": one.product.name,
            "operator": one.product.operator,
            "setting": made.raised.get(one.product.name, made.outcome.setting),
            "sqnr_db": one.sqnr_db,
            "data": one.product.data.tensor,
            "data_sqnr_db": one.data.sqnr_db,
            "data_clipped_share": one.data.clipped_share,
            "data_zero_scales_share": _share(one.data.zero_scales, one.data.vectors),
            "weights": one.product.weights.tensor,
            "weights_sqnr_db": one.weights.sqnr_db,
            "weights_zero_scales_share": _share(one.weights.zero_scales, one.weights.vectors),
        }
        for one in made.products
    ]


def comparison_facts(floats: Evaluated, rows: Sequence[Evaluated]) -> list[dict[str, Any]]:
    """A row for every setting."""
    return [
        {
            "setting": row.setting,
            "outputs_sqnr_db": row.sqnr_db,
            "size_bytes": row.size_bytes,
            "metric": row.metric,
        }
        for row in (floats, *rows)
    ]


def _change(made: Quantized) -> str:
    now, before = made.outcome.metric, made.float_metric
    if now is None or before is None:
        return ""
    return f"; metric {now:.4g} (float32 {before:.4g})"


def _db(value: float) -> str:
    return "exact" if value == math.inf else f"{value:.1f}"


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None
