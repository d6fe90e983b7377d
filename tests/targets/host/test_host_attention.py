"""Attention as one kernel against numpy in double precision, every point of its space alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kernel_runner import Array, run_unit

from motet.targets.host.kernels.attending.family import FAMILY
from motet.targets.host.machine import native_machine
from motet.targets.host.space import Problem, forced
from motet.targets.operators.attention import Attention, attention

RNG = np.random.default_rng(5)
PLAIN = ("BHSD", "BHSD", "BHSD", "BHSD")


@dataclass(frozen=True)
class Case:
    """sizes: batch, heads, queries, keys, elements of a key and of a value."""

    sizes: tuple[int, int, int, int, int, int]
    words: tuple[str, str, str, str] = PLAIN
    mask: tuple[int, ...] | None = None
    scale: float = 0.4
    symbolic: bool = False

    def operands(self) -> list[Array]:
        """Queries, keys, values [B, H, S, D], and the mask."""
        b, h, q, k, d, w = self.sizes
        shapes = [(b, h, q, d), (b, h, k, d), (b, h, k, w)]
        shapes += [] if self.mask is None else [self.mask]
        return [RNG.standard_normal(shape).astype(np.float32) for shape in shapes]


def expected(case: Case, operands: Sequence[Array]) -> Array:
    q, k, v, *mask = (x.astype(np.float64) for x in operands)
    scores = np.einsum("bhqd,bhkd->bhqk", q, k) * case.scale
    scores = scores + mask[0] if mask else scores
    with np.errstate(invalid="ignore"):
        powers = np.exp(scores - scores.max(-1, keepdims=True))
    return np.einsum("bhqk,bhkd->bhqd", powers / powers.sum(-1, keepdims=True), v)


def laid(x: Array, word: str) -> Array:
    """``x`` [B, H, S, D] in a layout."""
    return np.ascontiguousarray(x.transpose(["BHSD".index(letter) for letter in word]))


def symbols(case: Case) -> list[list[int | str]]:
    _, h, _, _, d, w = case.sizes
    named: list[dict[str, int | str]] = [
        {"B": "b", "H": h, "S": "q", "D": d},
        {"B": "b", "H": h, "S": "k", "D": d},
        {"B": "b", "H": h, "S": "k", "D": w},
    ]
    return [[sizes[a] for a in word] for sizes, word in zip(named, case.words[:3], strict=True)]


def outcome(case: Case, operands: Sequence[Array], folder: Path) -> Array:
    """What the kernel computes, as [B, H, S, D]."""
    what = Attention(*case.words, case.scale)
    inputs = [laid(x, word) for x, word in zip(operands[:3], case.words[:3], strict=True)]
    inputs += list(operands[3:])
    b, h, q, _, _, w = case.sizes
    like = laid(np.zeros((b, h, q, w), np.float32), case.words[3])
    shapes = None
    if case.symbolic:
        mask = [] if case.mask is None else [list(case.mask)]
        shapes = [*symbols(case), *mask]
    (y,) = run_unit(folder, lambda *p: attention(what, p), inputs, [like], shapes=shapes)
    return y.transpose([case.words[3].index(letter) for letter in "BHSD"])


def check(case: Case, operands: Sequence[Array] | None = None) -> None:
    operands = case.operands() if operands is None else operands
    with TemporaryDirectory() as folder:
        result = outcome(case, operands, Path(folder))
    np.testing.assert_allclose(result, expected(case, operands), rtol=1e-5, atol=1e-5)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    b, h = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    q, k = draw(st.integers(1, 40)), draw(st.integers(1, 70))
    d, w = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    layouts = st.sampled_from(["BHSD", "BSHD", "HBSD", "BHDS", "SBHD"])
    words = (draw(layouts), draw(layouts), draw(layouts), draw(st.sampled_from(["BHSD", "BSHD"])))
    full = [draw(st.sampled_from([1, size])) for size in (b, h, q, k)]
    symbolic = draw(st.booleans())
    mask = draw(st.sampled_from([None, full, full[2:], full[3:]]))
    if symbolic:
        mask = None if mask is None else [1] * len(mask)
    return Case((b, h, q, k, d, w), words, None if mask is None else tuple(mask),
                draw(st.sampled_from([1.0, 0.125, -0.5])), symbolic)  # fmt: skip


@settings(max_examples=12, deadline=None, derandomize=True,
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(cases())
def test_any_sizes_layouts_and_masks(case: Case) -> None:
    check(case)


@pytest.mark.parametrize(
    "case",
    [
        Case((1, 3, 197, 197, 64, 64), ("BSHD",) * 4, None, 0.125),
        Case((1, 2, 128, 128, 64, 64), ("BSHD",) * 4, (1, 1, 1, 128), 0.125),
        Case((2, 2, 50, 70, 16, 20), ("BSHD", "BSHD", "BSHD", "BSHD"), (1, 1, 1, 1), 0.3, True),
        Case((2, 2, 3, 70, 16, 16), PLAIN, None, 0.3, True),
    ],
)
def test_networks_shapes(case: Case) -> None:
    check(case)


def test_operands_in_one_tensor(tmp_path: Path) -> None:
    q, k, v = case_operands = Case((2, 3, 19, 19, 12, 12)).operands()
    together = np.stack([laid(x, "BSHD") for x in case_operands], 2)
    what = Attention("BS0HD", "BS1HD", "BS2HD", "BSHD", 0.4)
    like = np.zeros((2, 19, 3, 12), np.float32)
    (y,) = run_unit(tmp_path, lambda x: attention(what, [x, x, x]), [together], [like])
    want = laid(expected(Case((2, 3, 19, 19, 12, 12)), [q, k, v]), "BSHD")
    np.testing.assert_allclose(y, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("keys", [32, 37])
def test_keys_that_are_masked_out(keys: int, tmp_path: Path) -> None:
    """Of rows with nothing but -inf numpy has NaN; -inf elsewhere is a weight of 0."""
    case = Case((1, 2, 9, keys, 8, 8), mask=(9, keys))
    operands = case.operands()
    operands[3] = np.where(RNG.random((9, keys)) < 0.5, np.float32(-np.inf), operands[3])
    operands[3][4] = -np.inf
    y = outcome(case, operands, tmp_path)
    assert np.isnan(y[:, :, 4]).all()
    kept = [row for row in range(9) if row != 4]
    np.testing.assert_allclose(
        y[:, :, kept], expected(case, operands)[:, :, kept], rtol=1e-5, atol=1e-5
    )


def test_points_agree(tmp_path: Path) -> None:
    case, machine = Case((1, 3, 29, 45, 12, 20), mask=(29, 45)), native_machine()
    operands = case.operands()
    problem = Problem.of(
        "attention", batch=1, heads=3, queries=29, keys=45, depth=12, width=20, mask=1
    )
    space = FAMILY.points(problem, machine)
    assert len(space) == len(set(space)) > 6
    for number, point in enumerate((space[0], space[-1], space[len(space) // 2])):
        folder = tmp_path / str(number)
        folder.mkdir()
        with forced({problem: point}):
            y = outcome(case, operands, folder)
        np.testing.assert_allclose(y, expected(case, operands), rtol=1e-5, atol=1e-5)
        nest = FAMILY.describe(problem, point, machine)
        assert nest.executed_flops >= nest.flops > 0
