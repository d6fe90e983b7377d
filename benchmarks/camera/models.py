"""The benchmark's models: real ones from the folder in MOTET_MODELS, or like-sized ones of the zoo.

What is done to a file before anyone sees it: initializers that it lists among its inputs too are
taken out there, which lets every engine fold them, and open sizes get the specification's.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from motet.api import compile as compile_bundle
from motet.api import load
from motet.benchmarks.zoo import registry
from motet.compiler.spec_file import load_spec
from motet.runtime.atomic import write_atomically
from motet.runtime.exact_numbers import exact

SPECIFICATION = Path(__file__).parent.parent / "camera.toml"
REAL = {
    "ultraface": "ultraface_rfb320_simp.onnx", "minifas": "minifas.onnx",
    "yolox_nano": "yolox_nano.onnx", "yunet": "yunet_n_320.onnx",
}  # fmt: skip
ALIKE = {
    "ultraface": ("mobilenet_v2", "@128"), "minifas": ("shufflenet_v2", "@192"),
    "yolox_nano": ("mobilenet_v2", "@288"), "yunet": ("mobilenet_v1", "0.5"),
}  # fmt: skip
"""Of the zoo, with about as many multiply-accumulates: 100, 104, 523 and 136 millions."""
BATCH = 1
"""What open sizes become."""


@dataclass(frozen=True)
class Camera:
    """Files in a folder: a bundle of all, and of each model an ONNX file and inputs.

    source: of each model, where it is from.
    """

    bundle: Path
    rates_hz: Mapping[str, float]
    source: Mapping[str, str]

    def file(self, model: str) -> Path:
        """The model's ONNX file."""
        return self.bundle.with_name(f"{model}.onnx")

    def inputs(self, model: str) -> Path:
        """Its inputs, as numpy's npz."""
        return self.bundle.with_name(f"{model}.npz")

    def asked(self) -> list[dict[str, object]]:
        """What a worker is told of the models."""
        return [
            {"name": name, "file": str(self.file(name)), "inputs": str(self.inputs(name)),
             "rate_hz": rate}
            for name, rate in self.rates_hz.items()
        ]  # fmt: skip


def prepare(folder: Path) -> Camera:
    """Lay models, specification, bundle and inputs into ``folder``."""
    specification = folder / SPECIFICATION.name
    source = {name: _lay(name, folder) for name in REAL}
    shutil.copyfile(SPECIFICATION, specification)
    spec = load_spec(specification)
    made = compile_bundle(specification)
    bundle = folder / "camera.motet"
    made.save(bundle)
    for name, model in load(made, threads=1).items():
        arrays: dict[str, Any] = dict(model.random_inputs())
        np.savez(folder / f"{name}.npz", **arrays)
    rates = {m.name: float(exact(str(m.rate_hz or 0))) for m in spec.models}
    return Camera(bundle, rates, source)


def _lay(name: str, folder: Path) -> str:
    """Write the model's file; says what it is."""
    given = os.environ.get("MOTET_MODELS")
    target = folder / f"{name}.onnx"
    real = Path(given) / REAL[name] if given else None
    if real is None or not real.is_file():
        family, variant = ALIKE[name]
        model = registry.build(family, variant)
        write_atomically(target, [model.SerializeToString(deterministic=True)])
        return f"zoo's {family} {variant}"
    model = onnx.load(real)
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    for value in inputs:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param:
                dimension.dim_value = BATCH
    del model.graph.input[:]
    model.graph.input.extend(inputs)
    model.ir_version = max(model.ir_version, 4)  # from which on weights need be no inputs
    write_atomically(target, [model.SerializeToString(deterministic=True)])
    return real.name
