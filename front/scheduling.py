"""Scheduling of a file's models: how large the problem is, block by block."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from motet import api
from motet.opening import CompileRequest, check_files, is_source, refuse_compile_options
from motet.runtime.errors import BundleError, ModelError, SpecError
from motet.runtime.progress import Show
from motet.tensors import parse_shapes, parse_values

if TYPE_CHECKING:
    from motet.compiler.spec import BundleSpec
    from motet.compiler.unit_work import ModelUnits
    from motet.passes.scheduling.endings import Pruning
    from motet.passes.scheduling.graph import OperatorGraph
    from motet.passes.units import Units
    from motet.runtime.bundle import Bundle
    from motet.runtime.manifest import FixedInput, ModelEntry
    from motet.targets.systolic.architecture import ArrayDescription

COUNTABLE_STATES = 1 << 17
"""Blocks with more states are not counted: every state is compared with every other."""


@dataclass(frozen=True)
class BlockCount:
    """A block and the size of its scheduling problem.

    ends_with: what its last operator is called. bound: the paper's bound on the transitions
    without pruning. states, transitions, schedules: None where time was up, or where the block
    is_too_wide, which has more than ``COUNTABLE_STATES``.
    """

    ends_with: str
    operators: int
    width: int
    bound: float
    states: int | None = None
    transitions: int | None = None
    schedules: int | None = None
    is_too_wide: bool = False

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data."""
        return {
            "ends_with": self.ends_with,
            "operators": self.operators,
            "width": self.width,
            "states": self.states,
            "transitions": self.transitions,
            "schedules": self.schedules,
            "transition_bound": self.bound,
        }


@dataclass(frozen=True)
class ModelCount:
    """The blocks of a model; r and s: how it was pruned, None without a bound."""

    model: str
    blocks: tuple[BlockCount, ...]
    r: int | None
    s: int | None

    @property
    def totals(self) -> dict[str, Any]:
        """Over all blocks, which are scheduled one by one; None where one was not counted."""
        blocks = self.blocks
        return {
            "blocks": len(blocks),
            "operators": sum(block.operators for block in blocks),
            "width": max((block.width for block in blocks), default=0),
            "states": _over(sum, [block.states for block in blocks]),
            "transitions": _over(sum, [block.transitions for block in blocks]),
            "schedules": _over(math.prod, [block.schedules for block in blocks]),
        }

    def to_dict(self) -> dict[str, Any]:
        """All figures as plain data."""
        blocks = [{"block": n, **block.to_dict()} for n, block in enumerate(self.blocks)]
        return {
            "model": self.model, "r": self.r, "s": self.s, "blocks": blocks,
            "totals": self.totals,
        }  # fmt: skip


def _over(together: Callable[[Iterable[int]], int], figures: Sequence[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return together(known) if len(known) == len(figures) else None


class _TimeUpError(Exception):
    """The budget is spent."""


class Counter:
    """Counts blocks within a budget of time; equal blocks once.

    budget_seconds: for all blocks together. show: told what is counted, now and then.
    """

    def __init__(self, pruning: Pruning, budget_seconds: float, show: Show) -> None:
        self.pruning = pruning
        self.end = time.monotonic() + budget_seconds
        self.show = show
        self._known: dict[tuple[int, ...], tuple[int, int, int] | bool] = {}

    def model(self, work: ModelUnits) -> ModelCount:
        """Every block of a model, the small ones first."""
        blocks = work.units.blocks()
        found = {
            place: self.block(blocks[place], work.units, f"{work.model}, block {place}")
            for place in sorted(range(len(blocks)), key=lambda place: len(blocks[place]))
        }
        ordered = tuple(found[place] for place in range(len(blocks)))
        return ModelCount(work.model, ordered, self.pruning.r, self.pruning.s)

    def block(self, graph: OperatorGraph, units: Units, title: str) -> BlockCount:
        """One block; its figures are None where it is too wide, or time is up."""
        from motet.passes.scheduling.counts import Counts, width

        wide = width(graph)
        if graph.successors not in self._known:
            self._known[graph.successors] = self._counted(graph, title)
        known = self._known[graph.successors]
        is_wide = known is True
        states, transitions, schedules = (None,) * 3 if isinstance(known, bool) else known
        last = units.named(graph.names[-1:])[0].title
        bound = Counts(len(graph), wide, 0, 0, 0).transition_bound
        return BlockCount(last, len(graph), wide, bound, states, transitions, schedules, is_wide)

    def _counted(self, graph: OperatorGraph, title: str) -> tuple[int, int, int] | bool:
        """States, transitions, schedules; True for a block too wide, False where time was up."""
        from motet.passes.scheduling.counts import count
        from motet.passes.scheduling.endings import states_of

        self.show(f"{title}: {len(graph)} operators")

        def in_time(_: int) -> None:
            if time.monotonic() >= self.end:
                raise _TimeUpError

        def check(states: int) -> None:
            in_time(states)
            if states % 256 == 0:
                self.show(f"{title}: {len(graph)} operators, {states} states")

        try:
            if len(states_of(graph, COUNTABLE_STATES, spend=in_time)) > COUNTABLE_STATES:
                return True
            made = count(graph, self.pruning, check)
        except _TimeUpError:
            return False
        return made.states, made.transitions, made.schedules


@dataclass(frozen=True)
class Work:
    """Models as units, and what they are scheduled for.

    array: None for the host. number_format: of the array. cpu, threads: of the host. algorithm:
    how stages are found. merge: whether convolutions of one value may become one. spec: what the
    models are of.
    """

    models: tuple[ModelUnits, ...]
    array: ArrayDescription | None
    number_format: str
    cpu: str
    threads: int | None
    algorithm: str
    merge: bool
    spec: BundleSpec


def work_of(
    file: str,
    request: CompileRequest,
    model: str | None,
    show: Show,
    folder: Path,
    *,
    as_written: bool,
) -> Work:
    """What there is to schedule in a model, a specification or a bundle.

    folder: takes the array's description of a bundle, which is read as long as the work is.

    Raises ``SpecError`` where it lacks ``model``; ``ModelError`` where the ONNX file of a bundle
    is gone or has changed.
    """
    api.compiler("motet.compiler.unit_work")
    from motet.compiler.unit_work import unit_work

    spec, array = _source(file, request) if is_source(file) else _bundle(file, request, folder)
    names = [one.name for one in spec.models]
    if model is not None and model not in names:
        raise SpecError(f"{file}: no model {model!r}; its models are {', '.join(names)}")
    units = unit_work(spec, show, as_written=as_written)
    options = spec.passes.schedule
    chosen = tuple(one for one in units if model in (None, one.model))
    return Work(
        chosen,
        array,
        spec.array.format,
        spec.host.cpu,
        spec.host.threads,
        options.algorithm,
        array is not None and options.merge and options.algorithm == "ios",
        spec,
    )


def _source(file: str, request: CompileRequest) -> tuple[BundleSpec, ArrayDescription | None]:
    from motet.targets.systolic.architecture_file import load_architecture

    check_files([file])
    shapes, values = parse_shapes(request.shapes), parse_values(request.values)
    spec = api.specification(
        file, request.target, shapes, request.settings, values, request.operators
    )
    return spec, None if spec.target == "host" else load_architecture(spec.target)


def _bundle(
    file: str, request: CompileRequest, folder: Path
) -> tuple[BundleSpec, ArrayDescription | None]:
    """The ONNX files of a bundle, with the shapes, values and array that it was compiled for."""
    from motet.compiler.spec import ArrayOptions, BundleSpec, HostOptions, ModelSpec
    from motet.runtime.bundle import open_bundle
    from motet.targets.systolic.architecture_file import from_json

    if Path(file).suffix != ".motet" and not Path(file).is_file():
        raise BundleError(f"{file}: give a .motet bundle, an .onnx model or a .toml specification")
    refuse_compile_options(file, request)
    bundle = open_bundle(file)
    models = []
    for entry in bundle.manifest.models:
        path = bundle.source_path(entry.name)
        _check_source(path, entry)
        inputs = bundle.programs[entry.name].inputs
        shapes = {info.name: _plain(info.shape) for info in inputs}
        values = {name: _value(fixed) for name, fixed in entry.fixed.items()}
        models.append(ModelSpec(path=str(path), name=entry.name, shapes=shapes, values=values))
    described = bundle.array_description
    array = None if described is None else from_json(described)
    spec = BundleSpec(
        name=bundle.manifest.name,
        models=tuple(models),
        target="host" if described is None else _written(described, folder),
        host=HostOptions(threads=bundle.manifest.threads),
        array=ArrayOptions(format=_format_of(bundle)),
    )
    return spec, array


def _written(description: bytes, folder: Path) -> str:
    """The path of a stored description of an array, which need not be one that has a name here."""
    from motet.compiler.spec_table import toml_lines

    path = folder / "array.toml"
    path.write_text("\n".join(toml_lines(msgspec.json.decode(description))), encoding="utf-8")
    return str(path)


def _format_of(bundle: Bundle) -> Any:
    """The number format of a bundle's array programs."""
    from motet.targets.systolic.instructions.encoding import decode

    return next((decode(code).format for code in bundle.array_programs.values()), "fp32")


def _plain(shape: Sequence[object]) -> tuple[int | str, ...]:
    """The shape of an input: sizes and names of open ones."""
    return tuple(size if isinstance(size, int) else str(size) for size in shape)


def _value(fixed: FixedInput) -> Any:
    return np.frombuffer(fixed.data, fixed.dtype).reshape(fixed.shape)


def _check_source(path: Path, entry: ModelEntry) -> None:
    """Raise ``ModelError`` unless the ONNX file of a bundle's model is where it was, unchanged."""
    what = f"model {entry.name!r}: {path}"
    if not path.is_file():
        raise ModelError(
            f"{what}: there is no such file (a bundle names its models' files relative to its "
            "folder), and operators are counted in it: give the .onnx or .toml file instead"
        )
    if sha256(path.read_bytes()).hexdigest() != entry.source.sha256:
        raise ModelError(
            f"{what} is not the file that was compiled (its SHA-256 differs): compile it again"
        )
