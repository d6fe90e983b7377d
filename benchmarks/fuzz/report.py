"""What a run found: kept files, figures, and a line per kind of finding."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .run import FINE, UNJUDGED, Result


@dataclass
class Summary:
    """Figures over results; findings, and what nobody could judge, are kept whole."""

    kinds: Counter[str] = field(default_factory=Counter)
    findings: list[Result] = field(default_factory=list)
    unjudged: list[Result] = field(default_factory=list)

    def add(self, result: Result) -> None:
        """Count a result."""
        self.kinds[result.kind] += 1
        if result.is_finding:
            self.findings.append(result)
        if result.kind == UNJUDGED:
            self.unjudged.append(result)

    def as_json(self) -> dict[str, Any]:
        """Counts by kind, and every finding by case number."""
        return {
            "cases": self.kinds.total(),
            "findings": len(self.findings),
            "kinds": dict(sorted(self.kinds.items())),
            "cases_with_findings": _listed(self.findings),
            "cases_unjudged": _listed(self.unjudged),
        }

    def lines(self) -> list[str]:
        """For people: what nobody could judge, then the figures."""
        judged = [f"case {r.case.number} is unjudged: {_brief(r)}" for r in self.unjudged]
        return [*judged, *self.figures()]

    def figures(self) -> list[str]:
        """Counts by kind, the fine ones first; and how many findings there are."""
        kinds = (*FINE, *sorted(set(self.kinds) - set(FINE)))
        counts = ", ".join(f"{self.kinds[kind]} {kind}" for kind in kinds if self.kinds[kind])
        return [f"{self.kinds.total()} cases: {counts}", f"{len(self.findings)} findings"]


def _listed(results: list[Result]) -> list[dict[str, Any]]:
    """Results by case number, with how each file was made."""
    return [
        {
            "case": result.case.number,
            "kind": result.kind,
            "origin": result.case.origin,
            "steps": list(result.case.steps),
            "detail": result.detail,
        }
        for result in sorted(results, key=lambda r: r.case.number)
    ]


def _brief(result: Result) -> str:
    return " ".join(result.detail.split())[:160]


def describe(result: Result) -> str:
    """One line of a finding."""
    steps = "; ".join(result.case.steps)
    where = f"case {result.case.number} ({result.case.origin}: {steps})"
    return f"{where}: {result.kind}: {_brief(result)}"


def keep(result: Result, folder: Path) -> None:
    """Write the file, its inputs and what happened into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    stem = folder / f"case_{result.case.number}"
    stem.with_suffix(".onnx").write_bytes(result.case.content)
    inputs: dict[str, Any] = dict(result.case.inputs)
    with stem.with_suffix(".npz").open("wb") as file:
        np.savez(file, **inputs)
    text = f"{describe(result)}\n\n{result.detail}\n\n{result.trace}\n"
    stem.with_suffix(".txt").write_text(text, encoding="utf-8", errors="backslashreplace")


def save_json(summary: Summary, file: Path, seed: int, seconds: float) -> None:
    """The summary as a JSON document."""
    document = {"seed": seed, "seconds": round(seconds, 1)} | summary.as_json()
    file.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
