"""The suite's tables: a row for each network, then the mean and the worst."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group

from motet.benchmarks.host_suite.results import Result
from motet.console import quantity, seconds, table

PEERS = ("onnxruntime", "openvino", "onnxruntime_fp32", "motet_bf16", "openvino_bf16")


def geometric_mean(ratios: Sequence[float]) -> float:
    """The n-th root of the product; 1 of nothing."""
    product = 1.0
    for ratio in ratios:
        product *= ratio ** (1 / len(ratios))
    return product


def report(results: Sequence[Result]) -> Group:
    """A table and a summary for each number of threads."""
    parts: list[object] = []
    for threads in sorted({result.threads for result in results}):
        ours = [result for result in results if result.threads == threads]
        parts += [_table(ours, threads), *_summary(ours)]
    return Group(*parts)  # type: ignore[arg-type]


def _table(results: Sequence[Result], threads: int) -> Group:
    peers = [peer for peer in PEERS if any(peer in one.timings for one in results)]
    columns = ["network", ">MMACs", ">Motet"]
    for peer in peers:
        columns += [f">{peer}", ">ratio", ">of minima"]
    columns += [">speed of light", ">share"]
    best = max(results, key=lambda one: one.flops_per_second)
    title = (
        f"One inference, medians, {threads} thread{'s' if threads > 1 else ''}; ratio: the "
        f"peer's time over Motet's. Peak {quantity(best.flops_per_second, 'FLOP/s')}, "
        f"memory {quantity(best.bytes_per_second, 'B/s')}"
    )
    return table(title, columns, [_row(result, peers) for result in results])


def _row(result: Result, peers: Sequence[str]) -> list[str]:
    row = [result.network, f"{result.macs / 1e6:.4g}", _time(result, "motet")]
    for peer in peers:
        row += [_time(result, peer), _ratio(result.ratio(peer))]
        row.append(_ratio(result.ratio(peer, "minimum")))
    light, share = result.limit_seconds, result.share_of_light
    row.append("" if light is None else seconds(light))
    row.append("" if share is None else f"{100 * share:.0f} %")
    return row


def _time(result: Result, engine: str) -> str:
    timing = result.timings.get(engine)
    return seconds(timing.median_seconds) if timing else ""


def _ratio(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f}"


def _summary(results: Sequence[Result]) -> list[str]:
    lines = []
    for peer in PEERS:
        found = [(one.ratio(peer), one.network) for one in results]
        ratios = sorted((ratio, name) for ratio, name in found if ratio is not None)
        if ratios:
            mean = geometric_mean([ratio for ratio, _ in ratios])
            worst, where = ratios[0]
            lines.append(
                f"{peer} / Motet: geometric mean {mean:.3f} over {len(ratios)} networks, "
                f"worst {worst:.2f} ({where})"
            )
    compared = [(one.difference, one.network) for one in results if one.difference is not None]
    if compared:
        largest, where = max(compared)
        lines.append(f"outputs differ from onnxruntime's by {largest:.1e} at most ({where})")
    for name in PEERS:
        errors = [(one.in_bf16[name], one.network) for one in results if name in one.in_bf16]
        if errors:
            largest, where = max(errors)
            lines.append(f"{name}'s differ by {largest:.1e} at most ({where})")
    for one in results:
        lines += [f"{one.network}: {why}" for why in one.refused.values()]
    settings = {timing.settings for one in results for timing in one.timings.values()}
    return [*lines, *sorted(settings), ""]
