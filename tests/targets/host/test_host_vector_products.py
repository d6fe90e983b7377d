"""Products of vectors with scales: the integers of ``targets/quantized``, exactly."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import unit_of
from vector_cases import Convolution, Product, Types, run_convolution, run_product

from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import machine_for
from motet.targets.host.object_code import compile_kernel
from motet.targets.operators.vectors import vector_matmul

SETTINGS = {
    "4/8/6/10": Types(),
    "4/8/6/10, unsigned": Types(signed=False),
    "4/8/6/10, V=64": Types(vector=64),
    "4/8/6/10, unsigned, V=128": Types(vector=128, signed=False),
    "4/8/6/10, V=6": Types(vector=6),
    "4/8/6/10, V=28": Types(vector=28),
    "4/4/4/4": Types(a=4, ws=4, xs=4),
    "4/4/4/4, unsigned, V=6": Types(a=4, ws=4, xs=4, vector=6, signed=False),
    "8/8/6/10": Types(w=8),
    "8/8/6/10, V=128": Types(w=8, vector=128),
    "6/8/6/10, V=32": Types(w=6, vector=32),
    "7/8/4/4": Types(w=7, ws=4, xs=4),
    "2/2/2/2": Types(w=2, a=2, ws=2, xs=2, vector=4),
    "8/8/16/16": Types(w=8, ws=16, xs=16),
    "4/8/16/16": Types(ws=16, xs=16),
    "scale products of 8 bits": Types(product_bits=8),
    "scale products of 6 bits, 8/8": Types(w=8, product_bits=6, vector=32),
    "scale products of 16 bits, 8/8/16/16": Types(w=8, ws=16, xs=16, product_bits=16),
    "sums": Types(raw=True),
    "sums, 8/8/16/16": Types(w=8, ws=16, xs=16, raw=True),
    "computed": Types(constant=False),
    "computed, 8/8/6/10, V=10": Types(w=8, vector=10, constant=False),
    "computed, 4/4/4/4": Types(a=4, ws=4, xs=4, constant=False),
    "computed, rounded": Types(product_bits=8, constant=False),
}
CONVOLUTIONS = {
    "3x3": Convolution(),
    "uneven padding, stride, dilation": Convolution(
        strides=(2, 1), pads=(0, 1, 1, 0), dilations=(1, 2)
    ),
    "1x1": Convolution(taps=(1, 1), pads=(0, 0, 0, 0)),
    "1x1, stride": Convolution(taps=(1, 1), pads=(0, 0, 0, 0), strides=(2, 2), outputs=40),
    "groups": Convolution(inputs=6, outputs=15, groups=3),
    "1-D": Convolution((17,), (3,), strides=(2,), pads=(1, 1), dilations=(1,)),
    "3-D": Convolution(
        (4, 5, 6), (2, 3, 1), strides=(1, 1, 2), pads=(1, 1, 0, 0, 1, 0), dilations=(1, 1, 1)
    ),
    "open batch": Convolution(symbolic=True, batch=3),
    "deep": Convolution(space=(3, 3), inputs=40),
}
PRODUCTS = {
    "rows": Product(),
    "one row": Product(rows=1, columns=70),
    "batch": Product(batch=(2, 3)),
    "batch of both": Product(batch=(2, 3), shared=False),
    "open rows": Product(batch=(2,), symbolic=True),
    "all open": Product(batch=(2, 3), symbolic=True, shared=False),
    "deep": Product(rows=70, columns=33, count=50),
}


def equal(pair: tuple[np.ndarray, np.ndarray]) -> bool:
    """Whether what was computed is what was expected, type and all."""
    found, expected = pair
    return found.dtype == expected.dtype and np.array_equal(found, expected)


@pytest.mark.parametrize("data", ["random", "extreme"])
@pytest.mark.parametrize("types", SETTINGS.values(), ids=SETTINGS)
def test_every_setting(types: Types, data: str):
    assert equal(run_product(Product(), replace(types, data=data)))


@pytest.mark.parametrize("types", [Types(), Types(w=8)], ids=["4/8/6/10", "8/8/6/10"])
@pytest.mark.parametrize("case", CONVOLUTIONS.values(), ids=CONVOLUTIONS)
def test_convolutions(case: Convolution, types: Types):
    assert equal(run_convolution(case, types))


@pytest.mark.parametrize("case", PRODUCTS.values(), ids=PRODUCTS)
def test_products(case: Product):
    assert equal(run_product(case, Types(constant=case.shared)))


@pytest.mark.parametrize("data", ["largest", "outlier"])
@pytest.mark.parametrize("name", ["4/8/6/10", "8/8/6/10", "4/4/4/4", "sums, 8/8/16/16"])
def test_sums_at_the_edge(name: str, data: str):
    assert equal(run_product(Product(count=60), replace(SETTINGS[name], data=data)))


@pytest.mark.parametrize("space", [(9, 10), (7, 7)])
def test_what_follows_is_computed_with_it(space: tuple[int, int]):
    assert equal(run_convolution(Convolution(space=space), Types(), bias=True))


@pytest.mark.parametrize("w", [4, 8])
@pytest.mark.parametrize("constant", [True, False])
def test_scales_of_one_level(w: int, constant: bool):
    types = Types(w=w, ws=0, xs=0, constant=constant)
    for found, expected in (
        run_product(Product(), types), run_convolution(Convolution(), types)
    ):  # fmt: skip
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=2e-6 * np.abs(expected).max())


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_sizes(data: st.DataObject):
    def size(name: str, low: int, high: int) -> int:
        return data.draw(st.integers(low, high), label=name)

    types = Types(
        size("w", 2, 8), size("a", 2, 8), size("ws", 2, 16), size("xs", 2, 16), size("V", 4, 128),
        data.draw(st.booleans(), label="signed"), data.draw(st.sampled_from([None, 4, 10, 16])),
        data.draw(st.booleans(), label="raw"), data.draw(st.booleans(), label="constant"),
        data.draw(st.sampled_from(["random", "extreme", "outlier"])),
    )  # fmt: skip
    if data.draw(st.booleans(), label="convolution"):
        groups = size("groups", 1, 2)
        space = size("height", 3, 9), size("width", 3, 9)
        case = Convolution(
            space, (size("kh", 1, 3), size("kw", 1, 3)), groups * size("in", 1, 3),
            groups * size("out", 1, 40), (size("sh", 1, 2), size("sw", 1, 2)),
            tuple(size("pad", 0, 2) for _ in range(4)), groups=groups,
        )  # fmt: skip
        assert equal(run_convolution(case, types))
    else:
        case = Product(size("rows", 1, 20), size("columns", 1, 40), size("G", 1, 9))
        assert equal(run_product(case, types))


@pytest.mark.skipif(shutil.which("objdump") is None, reason="needs objdump")
@pytest.mark.parametrize(
    ("cpu", "w", "expected"),
    [
        ("x86-64-v3", 4, {"vpmaddubsw", "vpmaddwd", "vpmulld"}),
        ("x86-64-v3", 8, {"vpmaddwd", "vpmuldq"}),
        ("x86-64-v4", 4, {"vpmaddubsw", "vpmaddwd", "vpmulld"}),
        ("x86-64-v4-vnni", 4, {"vpdpbusd", "vpmulld"}),
        ("x86-64-v4-vnni", 8, {"vpdpbusd"}),
        ("x86-64-v3-vnni", 8, {"vpdpbusd"}),
    ],
)
def test_instructions(cpu: str, w: int, expected: set[str], tmp_path: Path):
    types, machine, file = Types(w=w), machine_for(cpu), tmp_path / "kernel.o"
    shapes = [(40, 3, 16), (40, 3), (64, 3, 16), (64, 3), (64,)]
    dtypes = ["int8", "uint16", "int8", "uint16", "float32"]
    unit = unit_of(shapes, dtypes, lambda *p: vector_matmul(types.what, p))
    lowered = lower_unit(unit, frozenset({2, 3}), machine)
    file.write_bytes(compile_kernel("kernel", lowered.func, machine))
    done = subprocess.run(["objdump", "-d", file], capture_output=True, text=True, check=True)
    used = set(re.findall(r"\t(?:{vex} )?(v?p(?:dp|madd|mul)\w+)", done.stdout))
    assert expected <= used
    if "vnni" not in cpu:
        assert not [name for name in used if name.startswith("vpdp")]


@pytest.mark.parametrize("w", [4, 8])
def test_without_such_instructions(w: int, tmp_path: Path):
    machine = machine_for("x86-64-v2")
    assert equal(run_product(Product(), Types(w=w), machine))
    unit = unit_of(
        [(5, 2, 16), (5, 2), (8, 2, 16), (8, 2), (8,)],
        ["int8", "uint16", "int8", "uint16", "float32"],
        lambda *p: vector_matmul(Types(w=w).what, p),
    )
    other = machine_for("aarch64")
    assert compile_kernel("kernel", lower_unit(unit, frozenset({2, 3}), other).func, other)
