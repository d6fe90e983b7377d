"""What ``motet merge`` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from motet.console import output, quantity, seconds, table
from motet.merge_result import Merged

if TYPE_CHECKING:
    from motet.compiler.depth_merging import Candidate
    from motet.passes.decisions import Merge


def print_merged(made: Merged) -> None:
    """Tables of merges, of what stays apart, of importance, and the figures of the whole."""
    console = output()
    merges = made.decided.decisions.merges
    if merges:
        columns = [
            "at", "removed", "kernel", "border", ">MACs", ">estimated", ">error", "exact",
        ]  # fmt: skip
        console.print(table("Merged", columns, [_merge(made, merge) for merge in merges]))
    left = [_left(made, c) for c in made.candidates if not _is_merged(made, c)]
    left += [
        ["", " + ".join(kept.nodes), "", "", kept.reason]
        for kept in made.decided.decisions.kept
        if not kept.removable and len(kept.nodes) > 1
    ]
    if left:
        columns = ["block", "at", ">MACs if merged", ">estimated if merged", "stays because"]
        console.print(table("Not merged", columns, left))
    if made.importance:
        columns = ["taken out", ">as identity", ">as affine map", ">fit error"]
        rows = [
            [one.name, f"{one.identity:.3g}", f"{one.affine:.3g}", f"{one.fit_error:.1%}"]
            for one in made.importance
        ]
        console.print(table("Relative change of the output", columns, rows))
    for line in summary(made):
        console.print(line)


def summary(made: Merged) -> list[str]:
    """The figures of the whole model, a line each."""
    merges = made.decided.decisions.merges
    lines = [
        f"{_count(len(merges), 'merge')} of "
        f"{_count(sum(len(m.convolutions) for m in merges), 'convolution')}, "
        f"{_count(made.removed, 'activation')} removed; estimated on {made.target}: "
        f"{seconds(made.seconds_before)} -> {seconds(made.seconds_after)}"
    ]
    if made.metric_before is not None and made.metric_after is not None:
        lines.append(f"metric: {made.metric_before:.6g} -> {made.metric_after:.6g}")
    return lines


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _is_merged(made: Merged, candidate: Candidate) -> bool:
    gone = {r.nodes for merge in made.decided.decisions.merges for r in merge.removed}
    return gone.issuperset(candidate.activations)


def _left(made: Merged, candidate: Candidate) -> list[str]:
    merge = candidate.merge
    return [
        str(candidate.number),
        candidate.name,
        "" if merge is None else _change(merge.macs_before, merge.macs_after, quantity),
        "" if merge is None else _change(merge.seconds_before, merge.seconds_after, seconds),
        made.why(candidate),
    ]


def _merge(made: Merged, merge: Merge) -> list[str]:
    fit = next((one for one in made.recovered if one.output == merge.output), None)
    return [
        merge.output,
        ", ".join(removed.nodes[-1] for removed in merge.removed),
        "x".join(map(str, merge.geometry.kernel)),
        merge.border.replace("_", " "),
        _change(merge.macs_before, merge.macs_after, quantity),
        _change(merge.seconds_before, merge.seconds_after, seconds),
        "" if fit is None else f"{fit.before:.1%} -> {fit.after:.1%}",
        "yes" if merge.is_exact else "no",
    ]


def _change(before: float | None, after: float | None, words: Any) -> str:
    return "" if before is None or after is None else f"{words(before)} -> {words(after)}"


def csv_rows(made: Merged) -> Sequence[Mapping[str, Any]]:
    """A row for each merge."""
    return [
        {
            "at": merge.output,
            "removed": " ".join(removed.nodes[-1] for removed in merge.removed),
            "kernel": "x".join(map(str, merge.geometry.kernel)),
            "border": merge.border,
            "macs_before": merge.macs_before,
            "macs_after": merge.macs_after,
            "estimated_seconds_before": merge.seconds_before,
            "estimated_seconds_after": merge.seconds_after,
            "is_exact": merge.is_exact,
        }
        for merge in made.decided.decisions.merges
    ]
