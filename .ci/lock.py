"""Rewrite constraints.txt: resolve the `dev` extra anew on every supported Python.

usage: lock.py PYTHON... (one interpreter per supported version)

The part of constraints.txt above the line ``# Resolved`` is written by hand: pins
that have a reason, each with its reason. It constrains the resolution. The part below
is what pip chooses on each interpreter, merged: a version that is not the same
everywhere gets an environment marker.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CONSTRAINTS = Path("constraints.txt")
HEADING = "# Resolved"
WANTED = [".[dev]", "setuptools"]


def canonical(name: str) -> str:
    """The normalised name of a distribution."""
    return re.sub(r"[-_.]+", "-", name).lower()


def resolve(python: str, held: str) -> tuple[str, dict[str, str]]:
    """The interpreter's ``X.Y`` and the version that pip chooses for each distribution."""
    with tempfile.TemporaryDirectory() as folder:
        constraints, report = Path(folder, "held.txt"), Path(folder, "report.json")
        constraints.write_text(held, encoding="utf-8")
        subprocess.run([python, "-m", "venv", f"{folder}/venv"], check=True)
        pip = [f"{folder}/venv/bin/python", "-m", "pip", "-qq"]
        subprocess.run([*pip, "install", "--upgrade", "pip"], check=True)
        options = ["--dry-run", "--ignore-installed", "--report", str(report), "-c"]
        subprocess.run([*pip, "install", *options, str(constraints), *WANTED], check=True)
        found = json.loads(report.read_text(encoding="utf-8"))
    names = [item["metadata"] for item in found["install"]]
    version = ".".join(found["environment"]["python_version"].split(".")[:2])
    return version, {canonical(item["name"]): item["version"] for item in names}


def marker(pythons: list[str], every: list[str]) -> str:
    """The environment marker that selects ``pythons``, a run of neighbours in ``every``."""
    parts = []
    if pythons[0] != every[0]:
        parts.append(f"python_version >= '{pythons[0]}'")
    if pythons[-1] != every[-1]:
        after = every[every.index(pythons[-1]) + 1]
        parts.append(f"python_version < '{after}'")
    return f" ; {' and '.join(parts)}" if parts else ""


def runs(name: str, resolved: dict[str, dict[str, str]]) -> list[tuple[str, list[str]]]:
    """Versions of ``name`` with the neighbouring Pythons that take each, oldest first."""
    found: list[tuple[str, list[str]]] = []
    for python, versions in resolved.items():
        version = versions.get(name, "")
        if found and found[-1][0] == version:
            found[-1][1].append(python)
        else:
            found.append((version, [python]))
    return [(version, pythons) for version, pythons in found if version]


def main(pythons: list[str]) -> None:
    """Resolve on each of ``pythons`` and rewrite constraints.txt."""
    held = CONSTRAINTS.read_text(encoding="utf-8").partition(HEADING)[0]
    by_hand = {canonical(name) for name in re.findall(r"^([A-Za-z0-9._-]+)==", held, re.M)}
    answers = dict(resolve(python, held) for python in pythons)
    resolved = dict(sorted(answers.items(), key=lambda item: int(item[0].split(".")[1])))
    names = sorted(set().union(*resolved.values()) - by_hand - {"motet"})
    every = list(resolved)
    lines = [
        f"{name}=={version}{marker(taken, every)}"
        for name in names
        for version, taken in runs(name, resolved)
    ]
    heading = f"{HEADING} by `make lock` on Python {', '.join(every)}; not edited by hand."
    CONSTRAINTS.write_text(held + "\n".join([heading, *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
