"""Whether a specification as a whole makes sense; the compiler calls ``validate`` first.

Specifications from TOML and from Python pass the same checks, and errors of both
speak in TOML's key paths.
"""

from __future__ import annotations

import graphlib
import itertools
from pathlib import Path

from motet.compiler.spec import (
    LEAST_RATE_HZ,
    MOST_RATE_HZ,
    BundleSpec,
    ModelSpec,
    split_wire,
)
from motet.compiler.spec_keys import DEFAULT_SOURCE, Keys, check, short, suggestion
from motet.runtime.exact_numbers import exact
from motet.targets.systolic.architecture_file import shipped_architectures


def validate(spec: BundleSpec, source: str = DEFAULT_SOURCE, base: Path | None = None) -> None:
    """Raise ``SpecError`` unless ``spec`` can be compiled, as far as it alone tells.

    Checks types and ranges of every key, names, wires and order between models, and
    that the files exist. Whether the models have the inputs and outputs that are
    named here is known only once they are read.

    source: put in front of messages, usually the specification's file.
    base: directory that the relative paths of ``source`` were taken from, for the
        message about a missing file; the current directory where None.
    """
    keys = Keys(source)
    check_names(spec, keys)
    for model in spec.models:
        check(model, ModelSpec, keys.child("models").child(model.name))
    check(spec, BundleSpec, keys)
    _check_references(spec, keys)
    _check_chances(spec, keys)
    _check_rates(spec, keys)
    run_order(spec, source)
    _check_files(spec, keys, base)


def check_names(spec: BundleSpec, keys: Keys) -> None:
    """Raise ``SpecError`` unless there is a model and each has a name of its own."""
    if not isinstance(spec, BundleSpec):
        raise keys.error(f"expected a BundleSpec, got {type(spec).__name__}")
    place = keys.child("models")
    if not isinstance(spec.models, tuple):
        raise place.error(f"expected a sequence of ModelSpec, got {type(spec.models).__name__}")
    if not spec.models:
        raise place.error("at least one model is required: a table [models.NAME] with a path")
    seen = set()
    for index, model in enumerate(spec.models):
        if not isinstance(model, ModelSpec):
            raise place.item(index).error(f"expected a ModelSpec, got {type(model).__name__}")
        for key in ("path", "name"):
            if not isinstance(getattr(model, key), str):
                raise place.item(index).child(key).error("expected a string")
        if model.name in seen:
            raise place.child(model.name).error(
                f"two models have this name; give the one of {model.path} another `name`"
            )
        seen.add(model.name)


def run_order(spec: BundleSpec, source: str = DEFAULT_SOURCE) -> tuple[str, ...]:
    """Names of the models so that each comes behind those it waits for.

    Raises ``SpecError`` that shows the cycle where ``after`` and ``inputs`` have one.
    """
    waits = {model.name: _waits_for(model) for model in spec.models}
    try:
        return tuple(graphlib.TopologicalSorter(waits).static_order())
    except graphlib.CycleError as error:
        cycle = list(reversed(error.args[1]))
        steps = [
            f"{name} waits for {other} ({waits[name][other]})"
            for name, other in itertools.pairwise(cycle)
        ]
        place = Keys(source).child("models").child(cycle[0])
        raise place.error(f"the order between models is a cycle: {', '.join(steps)}") from error


def _waits_for(model: ModelSpec) -> dict[str, str]:
    """Models that must run before ``model``, each with the key that says so."""
    wires = {
        split_wire(wire)[0]: Keys(path="inputs").child(name).path
        for name, wire in model.inputs.items()
    }
    return {**wires, **dict.fromkeys(model.after, "after")}


def _check_references(spec: BundleSpec, keys: Keys) -> None:
    """Every model that ``after`` or ``inputs`` names is in the bundle."""
    known = [model.name for model in spec.models]
    for model in spec.models:
        place = keys.child("models").child(model.name)
        named = [(place.child("after").item(i), name) for i, name in enumerate(model.after)]
        named += [
            (place.child("inputs").child(key), split_wire(wire)[0])
            for key, wire in model.inputs.items()
        ]
        for where, name in named:
            if name not in known:
                raise where.error(
                    f'no model "{name}" in this bundle{suggestion(name, known)};'
                    f" its models: {', '.join(known)}"
                )


def _check_chances(spec: BundleSpec, keys: Keys) -> None:
    """A probability is that of following another model."""
    for model in spec.models:
        if model.probability < 1 and not (model.after or model.inputs):
            place = keys.child("models").child(model.name).child("probability")
            raise place.error(
                f"{model.probability:g} is the chance that a run follows another model's:"
                " give after or inputs, or leave it out"
            )


def _check_rates(spec: BundleSpec, keys: Keys) -> None:
    """A rate that is a fraction keeps to the same bounds as one that is a number."""
    for model in spec.models:
        rate = model.rate_hz
        if isinstance(rate, str) and not LEAST_RATE_HZ <= exact(rate) <= MOST_RATE_HZ:
            raise (
                keys.child("models")
                .child(model.name)
                .child("rate_hz")
                .error(
                    f"expected a rate from {short(LEAST_RATE_HZ)} to {short(MOST_RATE_HZ)}, got"
                    f' "{rate}", which is {short(float(exact(rate)))}'
                )
            )


def _check_files(spec: BundleSpec, keys: Keys, base: Path | None) -> None:
    for model in spec.models:
        _check_file(model.path, keys.child("models").child(model.name).child("path"), base)
    for index, path in enumerate(spec.operators):
        _check_file(path, keys.child("operators").item(index), base)
    _check_target(spec.target, keys.child("target"), base)
    for name, key in (
        ("merge_depth", "decisions"),
        ("replace_depthwise", "decisions"),
        ("schedule", "file"),
    ):
        if file := getattr(getattr(spec.passes, name), key):
            _check_file(file, keys.child("passes").child(name).child(key), base)


def _check_target(target: str, keys: Keys, base: Path | None) -> None:
    known = ("host", *shipped_architectures())
    if target.endswith(".toml"):
        _check_file(target, keys, base)
    elif target not in known:
        raise keys.error(
            f'no target "{target}"{suggestion(target, known)}; expected one of'
            f" {', '.join(known)}, or the path of an array description ending in .toml"
        )


def _check_file(path: str, keys: Keys, base: Path | None) -> None:
    if Path(path).is_file():
        return
    problem = "is not a file" if Path(path).exists() else "does not exist"
    raise keys.error(f"{path} {problem}; {_relative_to(base)}")


def _relative_to(base: Path | None) -> str:
    if base is None:
        return f"relative paths start at the current directory, {Path.cwd()}"
    return f"relative paths of a specification start at its own directory, {base.absolute()}"
