"""Models whose inputs have open sizes, where sizes are needed: each is taken as 1, and told.

For commands that ask what a model would cost; a bundle keeps open sizes open.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from msgspec.structs import replace

from motet.compiler.frontend.load import ImportedModel
from motet.compiler.spec import BundleSpec
from motet.runtime.errors import CompileError, ModelError, SpecError

Shapes = Mapping[str, tuple[int, ...]]
"""Input -> shape."""


def assumed_shapes(models: Sequence[ImportedModel]) -> dict[str, Shapes]:
    """By model: the inputs with open sizes, and their shapes with 1 for each."""
    return {
        model.name: {
            info.name: tuple(size if isinstance(size, int) else 1 for size in info.shape)
            for info in model.inputs
            if any(not isinstance(size, int) for size in info.shape)
        }
        for model in models
    }


def with_shapes(spec: BundleSpec, shapes: Mapping[str, Shapes]) -> BundleSpec:
    """``spec`` with these shapes of inputs."""
    models = tuple(
        replace(model, shapes={**model.shapes, **shapes[model.name]}) for model in spec.models
    )
    return replace(spec, models=models)


@contextmanager
def telling(shapes: Mapping[str, Shapes]) -> Iterator[None]:
    """Errors inside become ``SpecError`` that says what was assumed, where something was."""
    try:
        yield
    except (ModelError, CompileError) as error:
        if not any(shapes.values()):
            raise
        raise SpecError(
            f"open sizes were taken as 1 ({rendered(shapes.values())}), and that does not work: "
            f"give others with --shape. {error}"
        ) from error


def rendered(shapes: Iterable[Shapes]) -> str:
    """``image:1x3x224x224, ...``"""
    return ", ".join(
        f"{name}:{'x'.join(map(str, shape))}" for inputs in shapes for name, shape in inputs.items()
    )
