"""``motet.compile`` and ``motet.load``: the Python API's two doors.

The compiler, and tvm with it, is imported when ``compile`` is called, so that a
program that only runs bundles never needs them.
"""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Union

from motet.placement_words import idle_models
from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.device import Accelerator
from motet.runtime.errors import EnvironmentLackError
from motet.runtime.policies import DEFAULT_POLICY
from motet.runtime.session import Session
from motet.targets.quick_tvm import quick_imports

if TYPE_CHECKING:
    from motet.compiler.compile import CompileOptions
    from motet.compiler.spec import BundleSpec

PathLike = Union[str, "os.PathLike[str]"]
Shapes = Mapping[str, Sequence[Any]]
Values = Mapping[str, Any]


def compile(  # noqa: A001 - the name that users of compilers expect
    models: BundleSpec | PathLike | Sequence[PathLike],
    *,
    target: PathLike | None = None,
    shapes: Shapes | None = None,
    values: Values | None = None,
    settings: Sequence[str] = (),
    operators: Sequence[PathLike] = (),
    timetable: PathLike | None = None,
    options: CompileOptions | None = None,
) -> Bundle:
    """Compile ONNX models into one bundle.

    Parameters
    ----------
    models: a ``BundleSpec``, the path of a specification (``.toml``), the path of one
        ``.onnx`` file, or a sequence of ``.onnx`` paths.
    target: ``"host"``, the name of a shipped array, or the path of an array description;
        None keeps the specification's own (host by default).
    shapes: input name (with several models ``model.input``) -> shape: sizes, or names of
        symbolic dimensions.
    values: input name (with several models ``model.input``) -> an array, a number, nested
        lists or ``"@FILE.npy"``: fixes that input, which the bundle then does not have.
    settings: overrides such as ``"models.faces.rate_hz=60"``.
    operators: Python files that register converters of your own operators, beside those
        that the specification names (``motet.operators``).
    timetable: a file of ``motet timetable -o`` for these models on this array: the bundle keeps
        it, and has the array programs for the pods that its slots give them (``Session.play``).
    options: progress and hooks around passes; they do not change the bundle.

    Warns (``UserWarning``) where nothing of a model runs on the array that is its target;
    ``options`` with a ``warn`` of their own leave that to their owner.

    Raises
    ------
    SpecError, ModelError (UnsupportedOperatorError), CompileError
        What is wrong with the specification or a model, with the remedy.
    EnvironmentLackError
        Where the compiler's packages or a C compiler are not installed.
    """
    wanted = specification(models, target, shapes or {}, settings, values or {}, operators)
    named = None if timetable is None else _named(timetable)
    bundle: Bundle = compiler().compile_bundle(wanted, options, named)
    if options is None or options.warn is type(options).warn:
        for line in idle_models(bundle).values():
            warnings.warn(line, UserWarning, stacklevel=2)
    return bundle


def _named(path: PathLike) -> Any:
    """The timetable of a file; raises ``SpecError`` for what is none."""
    from motet.runtime.timetable import read

    compiler()
    from motet.compiler.pod_programs import NamedTimetable

    return NamedTimetable(read(os.fspath(path)), f"timetable {os.fspath(path)}")


def compiler(module: str = "motet.compiler.compile") -> Any:
    """A module of the compiler; ``EnvironmentLackError`` says what it lacks."""
    try:
        with quick_imports():
            return import_module(module)
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "motet"):
            raise
        raise EnvironmentLackError(
            f"compiling needs the package {package!r}: pip install 'motet[compile]'"
        ) from error


def specification(
    models: BundleSpec | PathLike | Sequence[PathLike],
    target: PathLike | None,
    shapes: Shapes,
    settings: Sequence[str],
    values: Values = MappingProxyType({}),
    operators: Sequence[PathLike] = (),
) -> BundleSpec:
    """What ``compile`` compiles for these arguments; raises ``SpecError``."""
    from msgspec.structs import replace

    from motet.compiler.spec import BundleSpec
    from motet.compiler.spec_file import load_spec, override, spec_from_models

    assignments = [*settings]
    if target is not None:
        assignments.append(f"target={json.dumps(os.fspath(target))}")
    if isinstance(models, (str, os.PathLike)):
        if Path(models).suffix == ".toml":
            models = load_spec(models, assignments)
            assignments = []
        else:
            models = [models]
    if not isinstance(models, BundleSpec):
        models, shapes = spec_from_models(models, shapes=shapes), {}
    assignments += _shape_settings([model.name for model in models.models], shapes)
    models = override(models, assignments) if assignments else models
    models = _with_values(models, values) if values else models
    files = tuple(os.fspath(path) for path in operators)
    return replace(models, operators=(*models.operators, *files)) if files else models


def _with_values(spec: BundleSpec, values: Values) -> BundleSpec:
    """``spec`` with inputs fixed to ``values``, beside those that it fixes itself."""
    from msgspec.structs import replace

    from motet.compiler.spec_file import model_and_input

    names = [model.name for model in spec.models]
    fixed: dict[str, dict[str, Any]] = {name: {} for name in names}
    for key, value in values.items():
        model, tensor = model_and_input(key, names)
        fixed[model][tensor] = value
    models = [replace(m, values={**m.values, **fixed[m.name]}) for m in spec.models]
    return replace(spec, models=tuple(models))


def _shape_settings(names: Sequence[str], shapes: Shapes) -> list[str]:
    """``shapes`` as overrides of a specification with models ``names``."""
    from motet.compiler.spec_file import model_and_input

    settings = []
    for key, shape in shapes.items():
        model, tensor = model_and_input(key, names)
        value = json.dumps(list(shape))
        settings.append(f"models.{model}.shapes.{json.dumps(tensor)}={value}")
    return settings


def load(
    bundle: PathLike | Bundle, *, threads: int | None = None, policy: str = DEFAULT_POLICY
) -> Session:
    """Open a ``.motet`` file (or a bundle just compiled) and make it ready to run.

    threads: what one kernel call may use; None takes the bundle's, or all CPUs.
    policy: which of the runs of ``Session.submit`` goes first: ``priority``, ``fcfs`` or ``edf``.
    Array programs run on a simulated array, built from the description in the bundle.

    Raises ``BundleError`` for a damaged, foreign or newer file, ``EnvironmentLackError``
    where this CPU cannot run the bundle's kernels, ``SpecError`` for an unknown policy,
    ``ProgramError`` for an array program that breaks a rule, its model's quota of pods, or the
    pods of its slot in the bundle's timetable.
    """
    opened = bundle if isinstance(bundle, Bundle) else open_bundle(bundle)
    description = opened.array_description
    shares = {one.program: one.share for one in opened.manifest.pod_programs}
    accelerator = None if description is None else _simulated(description, shares)
    if description is not None:
        _check_pods(opened, description)
    return Session(opened, accelerator, threads, policy)


def _simulated(description: bytes, shares: Mapping[str, int]) -> Accelerator:
    """The simulated array of a bundle; shares: pods of programs that have not the whole of it."""
    from motet.targets.systolic.architecture_file import from_json

    try:
        from motet.targets.systolic.simulation.device import SimulatedArray
    except ImportError as error:
        if error.name != "numba":
            raise
        raise EnvironmentLackError(
            "the simulated array needs the package 'numba': pip install 'motet[simulate]'"
        ) from error
    return SimulatedArray(from_json(description), shares)


def _check_pods(bundle: Bundle, description: bytes) -> None:
    """Raise ``ProgramError`` where array programs use pods beyond a quota or a timetable's slot."""
    from motet.targets.systolic.architecture_file import from_json
    from motet.targets.timetables.pod_checks import check_pods_of_bundle

    check_pods_of_bundle(bundle, from_json(description))
