"""What ``motet quantize`` prints."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from motet.console import output, quantity, table
from motet.mixing import Mixed
from motet.quantized_model import Evaluated, Quantized

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
    if made.smoothed:
        added = list(made.smoothed.values()).count("Mul")
        console.print(f"{len(made.smoothed)} products read smoothed data, {added} through a Mul")
    if made.mixed is not None:
        _print_mixed(made.mixed)
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
    why = "float32, to keep the metric" if made.mixed is None else "float32, as the budget allows"
    floats = {name: why for name, to in made.raised.items() if to == "float32"}
    kept = [*(made.refused | floats).items()]
    if kept:
        console.print(table("stay float32", ("ONNX node", "why"), kept))


def _print_mixed(mixed: Mixed) -> None:
    """The mix, and the products that give most of its noise."""
    output().print(
        f"{mixed.budget}: {mixed.weight_bits:.2f} bits a weight, outputs estimated at "
        f"{_db(mixed.estimated_db)} dB (each product tried alone on {mixed.samples} samples)"
    )
    rungs = [name for name in mixed.rows[0].alone_db if name != "float32"]
    loudest = sorted(mixed.rows, key=lambda row: row.noise_share, reverse=True)[:WORST]
    rows = [
        (
            row.product.name,
            row.setting,
            quantity(row.bytes, "B"),
            f"{100 * row.noise_share:.1f}",
            *(_db(row.alone_db[rung]) for rung in rungs),
        )
        for row in loudest
    ]
    columns = ("ONNX node", "bits", ">weights", ">noise, %", *(f">{_short(r)}" for r in rungs))
    output().print(
        table("mixed precision: outputs, dB, with this product alone quantised", columns, rows)
    )


def _short(rung: str) -> str:
    """A rung as a column's head."""
    return rung.removesuffix(" per channel").removesuffix(" per tensor")


def not_met(made: Quantized) -> str:
    """What to say where the budget is not kept."""
    if made.mixed is None:
        return "the drop is not met although every product that could be raised is float32"
    return (
        f"{made.mixed.budget}: not met; outputs are at {_db(made.outcome.sqnr_db)} dB; add a "
        "setting of more bits, or float32, to --setting, or exclude products"
    )


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
        "mixed": _mixed_facts(made.mixed),
        "float32": made.refused,
        "methods": {
            "ranges": made.options.method,
            "zero_points": made.options.zero_points,
            "correct_bias": made.options.correct_bias,
            "rounding": made.options.rounding,
            "smooth": made.options.smooth,
        },
        "folded": made.folded,
        "smoothed": made.smoothed,
        "products": [
            fact
            | {
                "data_scale_histogram": one.data.scales.tolist(),
                "weights_scale_histogram": one.weights.scales.tolist(),
            }
            for fact, one in zip(product_facts(made), made.products, strict=True)
        ],
    }


def _mixed_facts(mixed: Mixed | None) -> dict[str, Any] | None:
    if mixed is None:
        return None
    return {
        "budget": str(mixed.budget),
        "estimated_outputs_sqnr_db": mixed.estimated_db,
        "weight_bits": mixed.weight_bits,
        "samples": mixed.samples,
        "products": [
            {
                "onnx_node": row.product.name,
                "setting": row.setting,
                "weights_bytes": row.bytes,
                "noise_share": row.noise_share,
                "rungs": [
                    {
                        "setting": rung,
                        "outputs_sqnr_db_alone": row.alone_db[rung],
                        "weights_bytes": row.rung_bytes[rung],
                    }
                    for rung in row.alone_db
                ],
            }
            for row in mixed.rows
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
