"""Compiles operators with all their points, and measures them: what ``cost_model`` trains from.

Both can be stopped and go on where they were. Compiled operators are kept in a folder, so that
nothing is compiled while the machine measures, and so that they can be measured again.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path

from motet.benchmarks.cost_model_problems import problems
from motet.console import progress, warn
from motet.targets.host.cost_model.dataset import Host, Sample, read_lines, sample_line, this_host
from motet.targets.host.cost_model.measure import Measurer
from motet.targets.host.cost_model.prepared import Candidates, Prepared, keep, kept
from motet.targets.host.families import families
from motet.targets.host.machine import native_machine
from motet.targets.host.space import Problem

BATCH_KERNELS = 96
"""Kernels of one library: enough to keep all compiling processes busy."""


def batches(wanted: Sequence[Problem]) -> Iterator[list[Candidates]]:
    """Problems with all their points, as many as go well together."""
    machine, known = native_machine(), families()
    batch: list[Candidates] = []
    for problem in wanted:
        points = tuple(known[problem.family].points(problem, machine))
        batch.append(Candidates(problem, points))
        if sum(len(candidates.points) for candidates in batch) >= BATCH_KERNELS:
            yield batch
            batch = []
    if batch:
        yield batch


def compile_into(
    folder: Path, minutes: float, jobs: int | None = None, part: tuple[int, int] = (0, 1),
    only: Sequence[str] = (),
) -> int:  # fmt: skip
    """Compile for about ``minutes`` what ``folder`` lacks; how many problems were added.

    part: (which, of how many) of the batches are this process's, where several compile.
    only: the families to compile; all where there is none.
    """
    machine = native_machine()
    which, parts = part
    known = {candidates.problem for one in kept(folder) for candidates in one.batch}
    every = problems(machine.vector_bytes // 4)
    missing = [p for p in every if p not in known and (not only or p.family in only)]
    wanted = list(batches(missing))[which::parts]
    end, added = time.monotonic() + 60 * minutes, 0
    with progress("compile", len(wanted)) as show, Measurer(machine, jobs, warn=warn) as measurer:
        for batch in wanted:
            keep(measurer.prepared(batch), folder, f"{every.index(batch[0].problem):05d}")
            added += len(batch)
            show(batch[0].problem.key)
            if time.monotonic() > end:
                break
    return added


def collect_into(out: Path, folder: Path, threads: int, minutes: float) -> int:
    """Measure for about ``minutes`` what ``folder`` holds; how many times were added to ``out``.

    What was measured least often comes first.
    """
    machine, host = native_machine(), this_host()
    times = Counter(s.problem for s in measured(out) if s.threads == threads)
    order = sorted(kept(folder), key=lambda one: times[one.batch[0].problem])
    end, added = time.monotonic() + 60 * minutes, 0
    with progress("measure", len(order)) as show, Measurer(machine, warn=warn) as measurer:
        for prepared in order:
            added += _measured(measurer, prepared, threads, host, out)
            show(prepared.batch[0].problem.key)
            if time.monotonic() > end:
                break
    return added


def measured(out: Path) -> tuple[Sample, ...]:
    """What the file holds; nothing where there is none."""
    return read_lines(out).samples if out.exists() and out.stat().st_size else ()


def _measured(measurer: Measurer, prepared: Prepared, threads: int, host: Host, out: Path) -> int:
    found = [sample for sample in measurer.run(prepared, threads) if sample is not None]
    with out.open("a", encoding="utf-8") as file:
        file.writelines(sample_line(host, sample) + "\n" for sample in found)
    return len(found)
