"""Sweeps over array descriptions: every combination simulated, and which are worth having.

A point of a sweep is a base description with some keys changed. Points run in parallel
through joblib, on local processes or on a cluster that joblib knows; finished ones are
appended to a file of JSON lines, so that a sweep that was stopped goes on where it was.
"""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from importlib import import_module
from itertools import product
from pathlib import Path
from typing import Any

import msgspec

from motet.runtime.errors import CompileError, EnvironmentLackError, MotetError, SpecError
from motet.simulating import ArraySimulator, combined
from motet.simulation_input import Work
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import from_json, to_json

Settings = Mapping[str, Any]

ALIASES = {
    "pods": ("pods.0.count",),
    "rows": ("pods.0.rows",),
    "columns": ("pods.0.columns",),
    "size": ("pods.0.rows", "pods.0.columns"),
    "scratchpad_bytes": ("pods.0.scratchpad.bytes",),
    "accumulator_bytes": ("pods.0.accumulators.bytes",),
    "lanes": ("pods.0.vector.lanes",),
    "bandwidth": ("dram.bytes_per_second",),
    "interconnect": ("interconnect.kind",),
}
"""Short names of keys; any other is the dotted path of a key of the description."""
FORMAT = "format"
"""The one key that is not of the description: the number format."""
OBJECTIVES = ("seconds_simulated", "energy_joules", "watts")
BACKENDS = ("loky", "dask", "ray")


@dataclass(frozen=True)
class Point:
    """One description of a sweep and what came of it.

    error: why it cannot work, or cannot run the models; then the figures are None.
    """

    settings: dict[str, Any]
    cycles: int | None = None
    seconds_simulated: float | None = None
    energy_joules: float | None = None
    watts: float | None = None
    utilisation: float | None = None
    array_share: float | None = None
    dram_bytes: int | None = None
    area_mm2: float | None = None
    error: str = ""

    @property
    def objectives(self) -> tuple[float, ...] | None:
        """What is to be small; None where there is nothing to compare."""
        values = [getattr(self, name) for name in OBJECTIVES]
        return None if self.seconds_simulated is None else tuple(v or 0.0 for v in values)


def parse_sweeps(sweeps: Sequence[str]) -> dict[str, list[Any]]:
    """``rows=16,32`` and so on as key -> values; raises ``SpecError`` for anything else."""
    found: dict[str, list[Any]] = {}
    for sweep in sweeps:
        key, separator, text = sweep.partition("=")
        values = [_value(part.strip()) for part in text.split(",") if part.strip()]
        if not separator or not key.strip() or not values:
            raise SpecError(f"--sweep {sweep}: give KEY=VALUE,VALUE,... as rows=16,32,64")
        if key.strip() in found:
            raise SpecError(
                f"--sweep {sweep}: {key.strip()} is swept twice; list all its values once"
            )
        found[key.strip()] = values
    return found


def _value(text: str) -> Any:
    try:
        number = float(text)
    except ValueError:
        return text
    return int(number) if number.is_integer() else number


def grid(sweeps: Mapping[str, Sequence[Any]]) -> list[dict[str, Any]]:
    """All combinations, the last key fastest."""
    return [dict(zip(sweeps, values, strict=True)) for values in product(*sweeps.values())]


def described(base: ArrayDescription, settings: Settings) -> ArrayDescription:
    """``base`` with ``settings``; raises ``SpecError`` for unknown keys and what cannot work."""
    facts = msgspec.to_builtins(base)
    for key, value in settings.items():
        if key == FORMAT:
            continue
        for path in ALIASES.get(key, (key,)):
            _set(facts, path, key, value)
    named = ", ".join(f"{key}={value}" for key, value in settings.items())
    facts["name"] = f"{base.name} with {named}" if named else base.name
    return from_json(json.dumps(facts).encode(), facts["name"])


def _set(facts: dict[str, Any], path: str, key: str, value: Any) -> None:
    *outer, last = path.split(".")
    inner: Any = facts
    try:
        for part in outer:
            inner = inner[int(part)] if isinstance(inner, (list, tuple)) else inner[part]
        known = inner is not None and last in inner
    except (KeyError, IndexError, ValueError, TypeError):
        known = False
    if not known:
        short = ", ".join([*ALIASES, FORMAT])
        raise SpecError(
            f"--sweep {key}: the description has no key {path!r}; short names are {short}, others "
            "are dotted paths as dram.latency_cycles"
        )
    inner[last] = float(value) if isinstance(inner[last], float) else value


def digest(work: Work, settings: Settings) -> str:
    """What a stored point is known by: the work, the base description, and what is changed."""
    body = pickle.dumps((work.models, work.number_format, work.stages), protocol=4)
    facts = json.dumps(settings, sort_keys=True).encode()
    return hashlib.sha256(body + to_json(work.description) + facts).hexdigest()


def simulated(work: Work, settings: Settings) -> Point:
    """One point, in whatever process; an array that cannot work is a point with an error."""
    kept = dict(settings)
    try:
        description = described(work.description, settings)
        number_format = str(settings.get(FORMAT, work.number_format))
        if number_format not in description.formats:
            raise CompileError(f"it has no pod for {number_format}")
        simulator = ArraySimulator(description, number_format, schedule=work.stages, pods=work.pods)
        models = [simulator.model(model) for model in work.models]
    except MotetError as error:
        return Point(kept, error=str(error))
    totals = combined(models)
    if not totals["array_macs"]:
        return Point(kept, error="nothing of the models runs on it: motet inspect says why")
    seconds, joules = totals["seconds_simulated"], totals["energy_joules"]
    macs, cycles = totals["macs"], int(totals["cycles"])
    return Point(
        kept,
        cycles=cycles,
        seconds_simulated=seconds,
        energy_joules=joules or None,
        watts=joules / seconds if joules and seconds else None,
        utilisation=totals["array_macs"] / (cycles * description.elements) if cycles else None,
        array_share=totals["array_macs"] / macs if macs else None,
        dram_bytes=int(totals["dram_bytes"]),
        area_mm2=_area(description),
    )


def _area(description: ArrayDescription) -> float | None:
    from motet.targets.systolic.simulation.area import area_mm2

    return sum(area_mm2(description).values()) or None


@dataclass(frozen=True)
class Workers:
    """Where points run: joblib's ``backend`` with ``jobs`` at once (-1: all CPUs).

    address: of a running Dask scheduler or Ray head; None starts a local one.
    """

    jobs: int = -1
    backend: str = "loky"
    address: str | None = None


def explore(
    work: Work,
    points: Sequence[Settings],
    workers: Workers,
    store: Path | None = None,
    on_point: Callable[[Point], None] = lambda point: None,
) -> list[Point]:
    """All points, in the order of ``points``; those in ``store`` are not simulated again.

    Raises ``EnvironmentLackError`` where joblib or the backend is not installed, ``SpecError``
    where ``store`` is not a file of this command.
    """
    joblib = _module("joblib", "'motet[explore]'")
    keys = [digest(work, settings) for settings in points]
    known = dict(stored(store)) if store is not None else {}
    todo = [(key, settings) for key, settings in zip(keys, points, strict=True) if key not in known]
    with _backend(joblib, workers):
        pool = joblib.Parallel(n_jobs=workers.jobs, return_as="generator_unordered")
        jobs = (joblib.delayed(_keyed)(key, work, settings) for key, settings in todo)
        for key, point in pool(jobs):
            known[key] = point
            if store is not None:
                _append(store, key, point)
            on_point(point)
    return [known[key] for key in keys]


def _keyed(key: str, work: Work, settings: Settings) -> tuple[str, Point]:
    return key, simulated(work, settings)


def _module(name: str, wanted: str) -> Any:
    """A package that is there on demand; ``wanted`` is what pip is asked for."""
    try:
        return import_module(name)
    except ImportError as error:
        package = name.partition(".")[0]
        raise EnvironmentLackError(
            f"this needs the package {package!r}: pip install {wanted}"
        ) from error


def _backend(joblib: Any, workers: Workers) -> AbstractContextManager[Any]:
    if workers.backend == "loky":
        return nullcontext()
    if workers.backend == "dask":
        client = _module("distributed", "distributed").Client(workers.address)
        on_dask: AbstractContextManager[Any] = joblib.parallel_config("dask", client=client)
        return on_dask
    ray = _module("ray", "'ray[default]'")
    ray.init(address=workers.address, ignore_reinit_error=True)
    _module("ray.util.joblib", "'ray[default]'").register_ray()
    on_ray: AbstractContextManager[Any] = joblib.parallel_config("ray")
    return on_ray


def stored(path: Path) -> Iterator[tuple[str, Point]]:
    """The points of a file of results; a half-written last line is left out."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            facts = json.loads(line)
            yield facts.pop("key"), Point(**facts)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if number == len(lines):
                return
            raise SpecError(
                f"{path}, line {number}: not a result of motet explore; name another file"
            ) from error


def _append(path: Path, key: str, point: Point) -> None:
    existing = path.read_text(encoding="utf-8") if path.exists() else ""
    if existing and not existing.endswith("\n"):  # a line that an interrupt cut off
        path.write_text(existing[: existing.rfind("\n") + 1], encoding="utf-8")
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"key": key, **asdict(point)}) + "\n")


def pareto(points: Iterable[Point]) -> list[Point]:
    """The points that no other beats in one objective without losing in another."""
    rated = [(point, o) for point in points if (o := point.objectives) is not None]
    return [
        point
        for point, mine in rated
        if not any(
            all(a <= b for a, b in zip(other, mine, strict=True)) and other != mine
            for _, other in rated
        )
    ]
