"""Why operators stayed off the array, in a line for people.

The placement pass records one line with its reasons; ``motet inspect`` shows it whole. Reports
group the reasons and count what each keeps on the host.
"""

from __future__ import annotations

import re
from collections import Counter

from motet.runtime.bundle import Bundle

OPEN_SIZES = "open sizes"
SHOWN = 3
_NODES = re.compile(r"(?P<why>.+): (?P<nodes>\S+(?:, \S+)*?)(?: and (?P<more>[0-9]+) more)?$")
_REASONS = re.compile(r"refused \((?P<reasons>.*)\)", re.DOTALL)


def refusals(placement: str) -> list[tuple[str, int]]:
    """Reasons of a record of the placement pass, and operators that each keeps off the array.

    Most frequent first; sizes that are open are one reason, whatever the shapes.
    """
    found = _REASONS.search(placement)
    counts: Counter[str] = Counter()
    text = ""
    for part in found["reasons"].split("; ") if found else ():
        text = f"{text}; {part}" if text else part
        if named := _NODES.match(text):
            nodes = named["nodes"].count(", ") + 1 + int(named["more"] or 0)
            counts[_in_words(named["why"])] += nodes
            text = ""
    if text:
        counts[_in_words(text)] += 1
    return counts.most_common()


def _in_words(reason: str) -> str:
    if "is symbolic" in reason:
        return OPEN_SIZES
    return re.sub(r"\brelax\.", "", reason)


def refused_line(placement: str) -> str:
    """What the array does not take, by reason; empty where it takes everything."""
    known = refusals(placement)
    named = [f"{count} for {why}" for why, count in known[:SHOWN]]
    if rest := sum(count for _, count in known[SHOWN:]):
        named.append(f"{rest} for other reasons (motet inspect lists them)")
    total = sum(count for _, count in known)
    return f"{total} operators that arrays compute stay on the host: {'; '.join(named)}" * (
        total > 0
    )


def nothing_line(who: str, array: str, placement: str) -> str:
    """That nothing of ``who`` runs on ``array``, the most frequent reason, and the remedy."""
    line = f"nothing of {who} runs on array {array}"
    known = refusals(placement)
    if not known:
        return f"{line}: no operator is one that the array computes"
    why, count = known[0]
    total = sum(number for _, number in known)
    remedy = (
        "; fix them when compiling, with --shape (shapes= in Python)" if why == OPEN_SIZES else ""
    )
    return f"{line}: {count} of {total} operators are refused for {why}{remedy}"


def placement_of(bundle: Bundle) -> str:
    """The record of the placement pass; empty where it did not run."""
    return next((r.summary for r in bundle.manifest.passes if r.name == "place"), "")


def idle_models(bundle: Bundle) -> dict[str, str]:
    """Models of a bundle for an array that leave it idle, each with its line."""
    placement = placement_of(bundle)
    if bundle.array_description is None or not placement:
        return {}
    return {
        name: nothing_line(f"model {name!r}", repr(bundle.manifest.target), placement)
        for name, program in bundle.programs.items()
        if all(operator.target == "host" for operator in program.operators)
    }
