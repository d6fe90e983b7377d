"""Counts of results: as JSON, as tables on the terminal, as a page for the documentation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .cases import KINDS, Case
from .run import Result

STATES = ("passed", "failed", "skipped")
_LONGEST = 120
"""Letters of a reason on the page."""


def counts(results: Iterable[Result]) -> dict[str, int]:
    """How many passed, failed and were skipped."""
    found = Counter(result.result for result in results)
    return {state: found[state] for state in STATES}


def by_operator(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Operator -> results of the node cases that have it, in alphabetical order."""
    table: dict[str, list[Result]] = {}
    for result in results:
        for operator in result.case.operators:
            table.setdefault(operator.name, []).append(result)
    return dict(sorted(table.items(), key=lambda item: ("::" in item[0], item[0].lower())))


def versions(name: str, results: Sequence[Result]) -> str:
    """The versions of the operator's definition that were tested."""
    found = {o.version for result in results for o in result.case.operators if o.name == name}
    return ", ".join(map(str, sorted(found)))


def as_json(results: Sequence[Result], reference: Mapping[str, Any] | None) -> dict[str, Any]:
    """Counts on top, then by kind, operator and case."""
    specialised = [result for result in results if result.result == "passed" and result.fixed]
    facts: dict[str, Any] = {
        **counts(results),
        "specialised": len(specialised),
        "specialised_to_a_constant": sum(result.constant for result in specialised),
        "kinds": {k: counts(r for r in results if r.case.kind == k) for k in KINDS},
        "operators": {name: counts(found) for name, found in by_operator(results).items()},
        "cases": {result.case.name: _case(result) for result in results},
    }
    return facts if reference is None else {**facts, "onnxruntime": dict(reference)}


def _case(result: Result) -> dict[str, Any]:
    facts = {"result": result.result, "reason": result.reason, "seconds": round(result.seconds, 3)}
    if not result.fixed:
        return facts
    return {**facts, "fixed": list(result.fixed), "constant": result.constant}


def from_json(cases: Iterable[Case], facts: Mapping[str, Any]) -> list[Result]:
    """The results that ``as_json`` wrote, of those ``cases`` that it has."""
    found = {case: facts["cases"].get(case.name) for case in cases}
    return [
        Result(
            case,
            one["result"],
            one["reason"],
            one["seconds"],
            tuple(one.get("fixed", ())),
            one.get("constant", False),
        )
        for case, one in found.items()
        if one is not None
    ]


def operator_rows(results: Sequence[Result]) -> list[list[str]]:
    """One row per operator: name, versions, passed, failed, skipped."""
    return [
        [name, versions(name, found), *(str(count) for count in counts(found).values())]
        for name, found in by_operator(results).items()
    ]


def glance_rows(results: Sequence[Result]) -> list[list[str]]:
    """Operators with their versions by how their cases end: all pass, some fail, left out."""
    ends: dict[str, list[str]] = {"every case passes": [], "some fail": [], "left out": []}
    for name, found in by_operator(results).items():
        count = counts(found)
        end = "some fail" if count["failed"] else "every case passes"
        if not count["passed"] and not count["failed"]:
            end = "left out"
        ends[end].append(f"{name} {versions(name, found)}")
    return [[f"{end} ({len(names)})", "; ".join(names)] for end, names in ends.items() if names]


def kind_rows(results: Sequence[Result]) -> list[list[str]]:
    """One row per kind of case, and the total."""
    rows = [
        [kind, *map(str, counts(r for r in results if r.case.kind == kind).values())]
        for kind in KINDS
        if any(r.case.kind == kind for r in results)
    ]
    return [*rows, ["all", *map(str, counts(results).values())]]


def page(results: Sequence[Result], onnx_version: str, reference: Mapping[str, Any] | None) -> str:
    """docs/OPERATORS.md."""
    found = counts(results)
    facts = as_json(results, None)
    lines = [
        "# Operators",
        "",
        "What works of ONNX, measured with the official backend tests of "
        f"onnx {onnx_version}. `python -m motet.benchmarks.onnx_backend_tests --markdown` "
        "makes this page.",
        "",
        f"**{found['passed']} of {len(results)} cases pass**, {found['failed']} fail, and "
        f"{found['skipped']} are left out with an error that says so (text, training, image "
        "files, classical machine learning).",
    ]
    if reference is not None:
        lines[-1] += (
            f" onnxruntime {reference['version']} on a CPU passes {reference['passed']} of them."
        )
    lines += [
        f"{facts['specialised']} of the passed cases have inputs whose values Motet needs when it "
        "compiles (axes, shapes, k): `motet.backend` specialises the model to those of the call; "
        "a bundle takes them from `values` of its specification or `--value`. In "
        f"{facts['specialised_to_a_constant']} of them that fixes every input.",
        "",
        *_table(["cases", *STATES], kind_rows(results)),
        "",
        "## At a glance",
        "",
        "Operators, each with the versions of its definition that were tested.",
        "",
        *_table(["cases", "operators"], glance_rows(results)),
        "",
        "## By operator",
        "",
        "The cases of kind node, by the operators that they hold (a case that holds several "
        "counts for each); versions are of the operator's definition. Opsets 1 to 6 are "
        "converted to a newer one first. Operators without a row have no official case.",
        "",
        *_table(["operator", "versions", *STATES], operator_rows(results)),
        "",
        "## Cases that fail",
        "",
        *_failures(results),
    ]
    return "\n".join(lines)


def _failures(results: Sequence[Result]) -> list[str]:
    """A line for each case that fails, or one that says there is none."""
    failed = [result for result in results if result.result == "failed"]
    lines = [f"- `{result.case.name}`: {_short(result.reason)}" for result in failed]
    return [*(lines or ["None."]), ""]


def _short(reason: str) -> str:
    """The beginning of a reason, as Markdown that shows no markup of its own."""
    plain = reason.replace("`", "'").replace("<", "&lt;").replace("[", "\\[")
    return plain if len(plain) <= _LONGEST else f"{plain[:_LONGEST]} ..."


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
