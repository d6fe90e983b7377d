"""``motet check --outputs all`` and ``--bisect``: what they compare, and how they print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from motet import api
from motet.bisect import APART, OWN_RUN, FirstDifference, first_difference
from motet.check import Difference
from motet.commands.common import Format, RunRequest, print_as
from motet.console import output, table, without_tvm_warnings
from motet.node_values import Compared, NodeChecker
from motet.runtime.progress import Show
from motet.runtime.session import ModelSession, Session

_NAMED = 12
"""Nodes that a line of text names."""
Given = tuple[float | None, float | None]
"""Absolute and relative tolerance as given."""


@dataclass
class ModelRows:
    """What was compared of one model: the worst of all runs by value, and the first found."""

    model: str
    total: int = 0
    rows: dict[str, Compared] = field(default_factory=dict)
    first: FirstDifference | None = None

    @property
    def passed(self) -> bool:
        """Whether every value is within tolerance."""
        return all(row.difference.passed for row in self.rows.values())

    def add(self, rows: Sequence[Compared], total: int) -> None:
        """Take a run's rows; of each value the worst stays."""
        self.total = total
        for row in rows:
            known = self.rows.get(row.difference.output)
            if known is None or row.difference.worst > known.difference.worst:
                self.rows[row.difference.output] = row

    @property
    def in_order(self) -> list[Compared]:
        """The rows in the graph's order."""
        return sorted(self.rows.values(), key=lambda row: row.node.index)


def compare_nodes(
    request: RunRequest,
    session: Session,
    paths: Mapping[str, Path],
    given: Given,
    runs: int,
    bisect: bool,
    show: Show,
) -> list[ModelRows]:
    """Every value that survived, of every model asked for; with ``bisect`` the first that differs.

    A model whose first difference is found is not run again.
    """
    api.compiler()  # says what is not installed
    models = request.models(session)
    target = request.compiling.target or session.bundle.manifest.target
    found = {model.name: ModelRows(model.name) for model in models}
    with without_tvm_warnings():
        checkers = {model.name: _checker(session, model, paths) for model in models}
        for run in range(runs):
            arrays = request.arrays(models, run)
            for name, checker in checkers.items():
                show(name)
                rows = found[name]
                if rows.first is not None:
                    continue
                compared = checker.compare(arrays[name], *given)
                rows.add(compared.rows, compared.total)
                if bisect:
                    rows.first = first_difference(
                        checker, compared, arrays[name], target, given, request.compiling.operators
                    )
    return list(found.values())


def _checker(session: Session, model: ModelSession, paths: Mapping[str, Path]) -> NodeChecker:
    path = paths.get(model.name, session.bundle.source_path(model.name))
    return NodeChecker(model, path, model.entry.source.sha256)


def print_nodes(form: Format, found: Sequence[ModelRows], target: str) -> None:
    """Every compared value."""
    facts = [_fact(row) for one in found for row in one.in_order]
    print_as(form, facts, lambda: _print_rows(found, target))


def print_first(form: Format, found: Sequence[ModelRows], target: str) -> None:
    """The first difference of every model; the rows too where a machine reads."""
    facts = [_first_fact(one) for one in found]
    rows = [_fact(row) for one in found for row in one.in_order]
    print_as(form, facts, lambda: _print_first(found, target), rows)


def _fact(row: Compared) -> dict[str, Any]:
    about = {"node": row.node.name, "operator": row.node.operator}
    unit = {"unit": row.unit.op if row.unit is not None else None}
    return asdict(row.difference) | {"passed": row.difference.passed} | about | unit


def _first_fact(one: ModelRows) -> dict[str, Any]:
    first = None
    if one.first is not None:
        unit = one.first.unit
        first = {
            **asdict(one.first.difference),
            "node": one.first.node,
            "operator": one.first.operator,
            "unit": unit.op if unit else None,
            "unit_nodes": list(unit.onnx_nodes) if unit else [],
            "inputs": [asdict(each) for each in one.first.inputs],
            "read_by": [{"node": node, "operator": kind} for node, kind in one.first.read_by],
            "suspects": list(one.first.suspects),
            "found_by": one.first.found_by,
            "finding_note": one.first.note,
        }
    rows = [_fact(row) for row in one.in_order]
    counts = {"compared": len(rows), "total": one.total}
    return {"model": one.model, "first": first, **counts, "rows": rows}


def _print_rows(found: Sequence[ModelRows], target: str) -> None:
    columns = [
        "model", "node", "operator", "output", ">absolute error", ">relative to largest", "result",
    ]  # fmt: skip
    rows = [_cells(one.model, row.node.name, row) for one in found for row in one.in_order]
    output().print(table(f"{target} against onnxruntime, node by node", columns, rows))
    for one in found:
        output().print(_counted(one))


def _cells(model: str, node: str, row: Compared) -> list[str]:
    difference = row.difference
    result = f"{'ok' if difference.passed else 'DIFFERS'} {difference.note}".rstrip()
    errors = [f"{difference.absolute:.3g}", f"{difference.relative:.3g}"]
    return [model, node, row.node.operator, difference.output, *errors, result]


def _counted(one: ModelRows) -> str:
    return (
        f"{one.model}: {len(one.rows)} of {one.total} values compared; "
        f"{one.total - len(one.rows)} did not survive (fused, folded, or views)"
    )


def _print_first(found: Sequence[ModelRows], target: str) -> None:
    for one in found:
        for line in [_counted(one), *_story(one, target)]:
            output().print(line)


def _story(one: ModelRows, target: str) -> list[str]:
    """What is to be said of the first difference, line by line."""
    first = one.first
    if first is None and not one.rows:
        return [
            f"{one.model}: no value is left to compare; motet check without --bisect and "
            "--outputs compares the model's outputs"
        ]
    if first is None:
        return [f"{one.model}: {target} agrees with onnxruntime in all of them"]
    lines = [
        f"{one.model}: the first value that differs is output {first.difference.output!r} of "
        f"node {first.node!r} ({first.operator})",
        f"  {_size(first.difference)}",
        *(f"  input {each.name!r}{_origin(each)}: {each.state}" for each in first.inputs),
        *(f"  read by node {node!r} ({operator})" for node, operator in first.read_by),
    ]
    if first.unit is not None:
        nodes = _some(first.unit.onnx_nodes)
        kind = f"{first.unit.kind}, {first.unit.target}"
        lines.append(f"  computed in unit {first.unit.op} ({kind}) of nodes {nodes}")
    return [*lines, *_how(first)]


def _size(difference: Difference) -> str:
    note = f" ({difference.note})" if difference.note else ""
    return (
        f"largest absolute error {difference.absolute:.3g}, relative to its largest element "
        f"{difference.relative:.3g}{note}"
    )


def _origin(each: Any) -> str:
    return f" of node {each.node!r} ({each.operator})" if each.node is not None else ""


def _some(names: Sequence[str]) -> str:
    """The names on one line, as far as a reader follows; --json has all."""
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more (--json has all)" if more > 0 else "")


def _how(first: FirstDifference) -> list[str]:
    suspects = _some(first.suspects)
    if first.found_by == OWN_RUN and not first.note:
        return ["  seen in the bundle's own run"]
    if first.found_by == APART:
        return [f"  seen when {suspects} were compiled apart, every value an output"]
    if first.note:
        return [f"  one of {suspects} is at fault; {first.note}"]
    return [
        f"  one of {suspects} is at fault: compiled apart, with every value an output, they "
        "agree, so fusion or a pass over more nodes matters"
    ]
