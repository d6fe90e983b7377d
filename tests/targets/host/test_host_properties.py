"""Random units against numpy, a library of several at a time, and open batches of any size."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pytest
import tvm_ffi
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import Array, aligned, unit_of
from random_nests import (
    elementwise,
    gathers,
    movements,
    normalisations,
    pools,
    reductions,
    splits,
)
from random_units import RandomUnit, convolutions, products

from motet.runtime.memory import compact
from motet.targets.host.build import build_library
from motet.targets.host.lower_unit import LoweredUnit, lower_unit
from motet.targets.host.machine import native_machine

FAMILIES = {
    "convolution": convolutions(),
    "product": products(),
    "pool": pools(),
    "reduction": reductions(),
    "normalisation": normalisations(),
    "elementwise": elementwise(),
    "movement": st.one_of(movements(), splits(), gathers()),
}
TOLERANCE = {"float16": 1e-2, "float32": 1e-4, "float64": 1e-9}


def lowered(unit: RandomUnit) -> LoweredUnit:
    func = unit_of(unit.shapes, unit.dtypes, unit.build)
    return lower_unit(func, frozenset(unit.constants), native_machine())


def wide(array: Array) -> Array:
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def expected_of(unit: RandomUnit, inputs: Sequence[Array]) -> list[Array]:
    result = unit.reference(*map(wide, inputs))
    return [np.asarray(r) for r in result] if isinstance(result, list) else [np.asarray(result)]


def tensor(array: Array) -> Any:
    return tvm_ffi.from_dlpack(compact(array))


def run(kernel: Any, unit: RandomUnit, made: LoweredUnit, batch: int) -> None:
    inputs = unit.inputs(batch, np.random.default_rng(batch))
    expected = expected_of(unit, inputs)
    dtype = next(d for d in unit.dtypes if d != "bool")
    results = [aligned(np.full(e.shape, 99, dtype)) for e in expected]
    stored = [made.packings[i](x) if i in made.packings else x for i, x in enumerate(inputs)]
    kernel(*map(tensor, [*map(aligned, stored), *results]))
    for y, e in zip(results, expected, strict=True):
        allowed = TOLERANCE.get(str(y.dtype), 0)
        size = 1 + np.abs(e).max(initial=0) if y.dtype.kind == "f" else 0
        assert np.abs(wide(y) - wide(e)).max(initial=0) <= allowed * size, (unit.name, batch)


def check(units: Sequence[RandomUnit]) -> None:
    made = [lowered(unit) for unit in units]
    kernels = {f"k{i}": m.func for i, m in enumerate(made)}
    with TemporaryDirectory() as folder:
        path = Path(folder, "kernels.so")
        path.write_bytes(build_library(kernels, native_machine()))
        module = tvm_ffi.load_module(str(path))
        for i, (unit, m) in enumerate(zip(units, made, strict=True)):
            is_open = any("n" in shape for shape in unit.shapes)
            for batch in (1, 0, 3, 37) if is_open else (1,):
                run(module[f"k{i}"], unit, m, batch)


@pytest.mark.parametrize("family", FAMILIES)
def test_random_units(family: str):
    @settings(
        max_examples=4, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck)
    )
    @given(units=st.lists(FAMILIES[family], min_size=3, max_size=8))
    def property_(units: list[RandomUnit]) -> None:
        check(units)

    property_()
