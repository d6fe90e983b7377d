"""Builds a unit, compiles it to a library and runs it on numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tvm_ffi
from numpy.typing import NDArray

from motet.runtime.memory import compact
from motet.targets.host.build import build_library
from motet.targets.host.cost_model.unit_function import unit_function as unit_of
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import Machine, native_machine
from motet.targets.host.options import KernelOptions

__all__ = ["Array", "aligned", "run_unit", "unit_of"]

Array = NDArray[Any]


def aligned(array: Array) -> Array:
    """A copy of ``array`` at a multiple of 64 bytes."""
    raw = np.empty(array.nbytes + 64, np.uint8)
    start = -raw.ctypes.data % 64
    copy = raw[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def run_unit(
    folder: Path,
    build: Callable[..., Any],
    inputs: Sequence[Array],
    outputs: Sequence[Array],
    constants: Sequence[int] = (),
    shapes: Sequence[Sequence[int | str]] | None = None,
    machine: Machine | None = None,
    options: KernelOptions | None = None,
) -> list[Array]:
    """The unit's outputs for ``inputs``; ``outputs`` give their shapes and types."""
    machine = machine or native_machine()
    dtypes = [str(x.dtype) for x in inputs]
    unit = unit_of(shapes or [x.shape for x in inputs], dtypes, build)
    lowered = lower_unit(unit, frozenset(constants), machine, options)
    arguments = [lowered.packed(i, inputs) for i in range(len(inputs))]
    results = [np.full(y.shape, 99, y.dtype) for y in outputs]
    ran = run_kernel(folder, lowered.func, machine, [*arguments, *results])
    return ran[len(arguments) :]


def run_here(folder: Path, kernel: Any, machine: Machine, arrays: Sequence[Array]) -> list[Array]:
    """What the arrays of ``kernel`` hold once this CPU has run it."""
    path = folder / "kernels.so"
    path.write_bytes(build_library({"kernel": kernel}, machine))
    held = [aligned(x) for x in arrays]
    loaded = tvm_ffi.load_module(str(path))["kernel"]
    tensors = [compact(x) for x in held]
    loaded(*[tvm_ffi.from_dlpack(x, require_alignment=64 if x.size else 0) for x in tensors])
    return held


run_kernel: Callable[[Path, Any, Machine, Sequence[Array]], list[Array]] = run_here
"""What runs kernels; ``motet.benchmarks.emulated_kernels`` puts an emulator in its place."""
