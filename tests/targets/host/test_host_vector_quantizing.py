"""Quantisation of vectors on the host: integers and scales of ``targets/quantized``, exactly."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import run_unit
from tvm import relax

from motet.targets.operators.vectors import Quantizing, quantize_vectors
from motet.targets.quantized import vectors as reference
from motet.targets.quantized.types import QuantType

EIGHT = QuantType(8, True, "vector", 16, 10)


@dataclass(frozen=True)
class Case:
    """worth: gamma, as a share of what the data would have; inside: gamma as a constant."""

    shape: tuple[int, ...]
    axis: int
    kind: QuantType = EIGHT
    paper: bool = False
    worth: float = 1.0
    inside: bool = False
    symbolic: bool = False


def kind(bits: int, signed: bool, vector: int, scale_bits: int | None) -> QuantType:
    return QuantType(bits, signed, "vector", vector, scale_bits)


CASES = {
    "channels": Case((2, 37, 5, 7), 1),
    "channels, unsigned": Case((2, 37, 5, 7), 1, kind(8, False, 16, 10)),
    "channels, one level": Case((2, 37, 5, 7), 1, kind(4, True, 16, None)),
    "channels, paper": Case((2, 37, 5, 7), 1, paper=True, worth=30.0),
    "channels, small scales": Case((2, 37, 5, 7), 1, kind(4, True, 8, 2), worth=0.2),
    "channels, asymmetric": Case((2, 32, 4, 4), 1, QuantType(4, True, "vector", 4, 4, False)),
    "channels, open": Case((2, 37, 5, 7), 1, symbolic=True),
    "constant gamma": Case((2, 16, 5, 7), 1, inside=True),
    "few positions": Case((2, 33, 3), 1, kind(8, True, 30, 10)),
    "rows": Case((3, 5, 40), 2),
    "rows, tail": Case((3, 5, 43), 2, kind(8, False, 10, 10)),
    "rows, one level": Case((3, 43), 1, kind(8, True, 6, None)),
    "rows, open": Case((3, 5, 43), 2, symbolic=True),
    "first axis": Case((30, 2), 0, kind(8, True, 7, 6)),
    "long vectors": Case((4, 300), 1, kind(8, True, 128, 16)),
}


def data_of(case: Case, seed: int) -> np.ndarray:
    """Heavy tails, a part that is zero, values that are halves of steps."""
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(case.shape) * np.exp(2 * rng.standard_normal(case.shape))
    x[..., :1] = np.rint(x[..., :1] * 4) / 4
    x[:1] = 0
    return x.astype(np.float32)


def check(case: Case, seed: int = 0) -> None:
    x, what = data_of(case, seed), Quantizing(case.axis, case.kind, case.paper)
    gamma = None
    if case.kind.scale_bits is not None:
        top = np.abs(x).max() / case.kind.largest / case.kind.largest_scale
        gamma = np.array([max(top * case.worth, 1e-6)], np.float32)
    spread = None if gamma is None else gamma.reshape((1,) * x.ndim)
    expected = reference.quantize_vectors(x, case.axis, case.kind, spread, paper=case.paper)
    inputs = [x] if gamma is None or case.inside else [x, gamma]
    shapes = [tuple(f"d{i}" for i in range(x.ndim)), *[y.shape for y in inputs[1:]]]

    def build(*p: relax.Var) -> relax.Call:
        constant = [relax.const(gamma.reshape(()))] if case.inside and gamma is not None else []
        return quantize_vectors(what, *p, *constant)

    found = run_unit(
        Path(mkdtemp()), build, inputs, [expected.integers, expected.scales],
        shapes=shapes if case.symbolic else None,
    )  # fmt: skip
    np.testing.assert_array_equal(found[1], expected.scales)
    np.testing.assert_array_equal(found[0], expected.integers)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_integers_and_scales(case: Case):
    check(case)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_data(data: st.DataObject):
    shape = tuple(data.draw(st.lists(st.integers(1, 40), min_size=1, max_size=3)))
    made = QuantType(
        data.draw(st.integers(2, 8)), data.draw(st.booleans()), "vector",
        data.draw(st.integers(4, 128)), data.draw(st.one_of(st.none(), st.integers(2, 16))),
        data.draw(st.booleans()),
    )  # fmt: skip
    axis = data.draw(st.integers(0, len(shape) - 1))
    paper = made.scale_bits is not None and data.draw(st.booleans())
    worth = data.draw(st.sampled_from([0.01, 1.0, 7.0]))
    check(Case(shape, axis, made, paper, worth), data.draw(st.integers(0, 2**31)))
