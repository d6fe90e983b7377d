"""Kernels of integers for machines with VNNI: one instruction adds four products to a sum."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kernel_runner import unit_of
from tvm import relax

from motet.targets.host.blocked import blocked_layout
from motet.targets.host.kernels.blocked_conv.integer_groups import DOTS
from motet.targets.host.kernels.fours import fours_along
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import machine_for
from motet.targets.host.object_code import compile_kernel

MACHINES = ("x86-64-v3-vnni", "x86-64-v4-vnni")
Build = Callable[..., Any]


def _product(a: Any, b: Any) -> Any:
    return relax.op.matmul(a, b, out_dtype="int32")


def _convolution(pad: int, block: int) -> Build:
    layout = blocked_layout(block)

    def build(x: Any, w: Any) -> Any:
        padding, none = [pad] * 4, [1, 1]
        return relax.op.nn.conv2d(x, w, none, padding, none, 1, layout, "OIHW", layout, "int32")

    return build


def instructions(
    build: Build, shapes: list[tuple[int, ...]], dtypes: list[str], cpu: str, folder: Path
) -> Counter[str]:
    """How often each instruction is in the kernel with a constant second operand."""
    machine, file = machine_for(cpu), folder / "kernel.o"
    lowered = lower_unit(unit_of(shapes, dtypes, build), frozenset({1}), machine)
    file.write_bytes(compile_kernel("kernel", lowered.func, machine))
    done = subprocess.run(["objdump", "-d", file], capture_output=True, text=True, check=True)
    return Counter(re.findall(r"\t(?:{vex} )?(v?p(?:dp|madd|mull)\w+)", done.stdout))


needs_objdump = pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")


@needs_objdump
@pytest.mark.parametrize("cpu", MACHINES)
@pytest.mark.parametrize("pad", [0, 1])
def test_convolutions_of_bytes(cpu: str, pad: int, tmp_path: Path):
    block = machine_for(cpu).vector_bytes // 4
    shapes = [(1, 4, 14, 14, block), (64, 4 * block, 3, 3)]
    used = instructions(_convolution(pad, block), shapes, ["uint8", "int8"], cpu, tmp_path)
    assert set(used) == {"vpdpbusd"}


@needs_objdump
@pytest.mark.parametrize("cpu", MACHINES)
def test_matrix_products(cpu: str, tmp_path: Path):
    shapes = [(33, 70), (70, 100)]
    assert set(instructions(_product, shapes, ["uint8", "int8"], cpu, tmp_path)) == {"vpdpbusd"}
    pairs = instructions(_product, shapes, ["int16", "int8"], cpu, tmp_path)
    assert pairs["vpdpwssd"]
    assert set(pairs) <= {"vpdpwssd", "vpmaddwd"}  # LLVM splits some, where sums wait for sums


@needs_objdump
def test_machines_without_vnni_have_none_of_it(tmp_path: Path):
    block = machine_for("x86-64-v4").vector_bytes // 4
    shapes = [(1, 4, 14, 14, block), (64, 4 * block, 3, 3)]
    for build, sizes in ((_convolution(1, block), shapes), (_product, [(33, 70), (70, 100)])):
        used = instructions(build, sizes, ["uint8", "int8"], "x86-64-v4", tmp_path)
        assert used
        assert not [name for name in used if name.startswith("vpdp")]


def test_groups_of_any_weights_and_channels():
    weights = np.array([[-128, 127, -128, 127, 5]], np.int8).reshape(1, 5, 1, 1)
    packed = DOTS.packed(weights)
    assert packed.shape == (1, 2, 1, 1)
    assert packed.view(np.int8).ravel().tolist() == [-128, 127, -128, 127, 5, 0, 0, 0]
    matrix = np.arange(6, dtype=np.int8).reshape(3, 2)
    held = fours_along(matrix, 0)
    assert held.shape == (1, 2)
    assert held.view(np.int8).tolist() == [[0, 2, 4, 0, 1, 3, 5, 0]]
