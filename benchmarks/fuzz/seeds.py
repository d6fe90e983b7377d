"""The models that mutations start from, with inputs that suit them.

They are ONNX's official tests (its package brings them), the example models of a clone,
and a small SqueezeNet of the zoo.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests

from motet.benchmarks.zoo import registry

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")
EXAMPLES = Path("examples/models")


@dataclass(frozen=True)
class Seed:
    """A correct model.

    content: the ONNX file. inputs: name -> array, as far as the test brings tensors.
    """

    name: str
    content: bytes
    inputs: dict[str, NDArray[Any]]


def official(kinds: Sequence[str] = KINDS) -> list[Seed]:
    """ONNX's own tests of these kinds, sorted by name."""
    found = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for kind in kinds:
            found += [_official(case) for case in load_model_tests(kind=kind) if _is_here(case)]
    return sorted(found, key=lambda seed: seed.name)


def networks() -> list[Seed]:
    """A small SqueezeNet, and the examples where the command runs in a clone."""
    squeezenet = registry.build("squeezenet", "@32").SerializeToString(deterministic=True)
    examples = [Seed(p.stem, p.read_bytes(), {}) for p in sorted(EXAMPLES.glob("*.onnx"))]
    return [Seed("squeezenet", squeezenet, {}), *examples]


def _is_here(case: Any) -> bool:
    """Whether the test's model is at hand: some would have to be downloaded."""
    return case.model is not None or (case.model_dir and Path(case.model_dir).is_dir())


def _official(case: Any) -> Seed:
    if case.model is None:
        folder = Path(case.model_dir)
        content = (folder / "model.onnx").read_bytes()
        model = onnx.load_from_string(content)
        arrays = list(_stored(folder / "test_data_set_0"))
    else:
        model = case.model
        content = model.SerializeToString(deterministic=True)
        arrays = list(case.data_sets[0][0]) if case.data_sets else []
    names = [info.name for info in model.graph.input]
    inputs = {
        name: np.asarray(array)
        for name, array in zip(names, arrays, strict=False)
        if isinstance(array, (np.ndarray, np.generic)) and array.dtype.kind not in "OSUc"
    }
    return Seed(case.name, content, inputs)


def _stored(folder: Path) -> Iterator[NDArray[Any] | None]:
    """The inputs that lie beside a model; None for one that is no tensor."""
    for index in range(len(list(folder.glob("input_*.pb")))):
        tensor = onnx.TensorProto()
        try:
            tensor.ParseFromString((folder / f"input_{index}.pb").read_bytes())
            yield numpy_helper.to_array(tensor)
        except Exception:  # a sequence: protobuf, onnx and numpy each refuse in their own way
            yield None
