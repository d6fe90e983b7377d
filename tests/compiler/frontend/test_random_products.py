"""Products, transforms, recurrences and sequences over random shapes and attributes."""

from __future__ import annotations

from typing import Any

import numpy as np
from random_uses import Draw, Use, check_uses, drawn, seeds


def mat_mul(draw: Draw) -> Use:
    """Batches that broadcast; vectors on either side; weights or not."""
    m, k, n = (draw.int(1, 7) for _ in "mkn")
    left, right = draw.broadcasting(2, 3) if draw.flag() else ((), ())
    a = draw.tensor((k,) if draw.int(0, 4) == 0 else (*left, m, k))
    b = draw.tensor((k,) if draw.int(0, 4) == 0 else (*right, k, n))
    if draw.flag():
        return Use("MatMul", {"a": a}, {"b": b})
    return Use("MatMul", {"a": a, "b": b})


def gemm(draw: Draw) -> Use:
    m, k, n = (draw.int(1, 7) for _ in "mkn")
    across, down = draw.int(0, 1), draw.int(0, 1)
    feeds = {"a": draw.tensor((k, m) if across else (m, k))}
    constants = {"b": draw.tensor((n, k) if down else (k, n))}
    if draw.flag():
        constants["c"] = draw.tensor(draw.of((), (n,), (1, n), (m, 1), (m, n)))
    if draw.flag():
        feeds, constants = {**feeds, **constants}, {}
    given = {"transA": across, "transB": down}
    given |= {"alpha": draw.of(1.0, 0.5), "beta": draw.of(1.0, 0.0, 2.0)}
    return Use("Gemm", feeds, constants, given)


def einsum(draw: Draw) -> Use:
    """Of one, two or three operands; sums, transposes, batches, outer products, ellipses."""
    equation = draw.of(
        "ij->ji", "ijk->j", "ij,jk->ik", "ij,jk", "bij,bjk->bik", "bhid,bhjd->bhij", "i,j->ij",
        "ij,ij->", "ij,ij->i", "...ij,...jk->...ik", "...i->i...", "bi,bij,bj->b", "ab,bc,cd->da",
        "bij,jk->bki", "i,i", "abc,cd->dab",
    )  # fmt: skip
    extents = {label: draw.int(1, 4) for label in "abcdhijk"}
    rest = draw.shape(0, 2, 3)
    feeds = {}
    for number, term in enumerate(equation.partition("->")[0].split(",")):
        lead = rest if "..." in term else ()
        dims = [extents[c] for c in term.replace("...", "")]
        feeds[f"x{number}"] = draw.tensor((*lead, *dims))
    return Use("Einsum", feeds, attributes={"equation": equation})


def transform(draw: Draw) -> Use:
    """DFT of real and complex signals, one-sided, inverse."""
    parts = draw.int(1, 2)
    x = draw.tensor((draw.int(1, 2), draw.int(2, 9), draw.int(1, 3), parts))
    axis = draw.of(1, 2)
    given = {"inverse": draw.int(0, 1)}
    if parts == 1 and not given["inverse"]:
        given["onesided"] = draw.int(0, 1)
    return Use("DFT", {"x": x}, {"a": np.array(axis)}, given, order=["x", "", "a"])


def frames(draw: Draw) -> Use:
    """STFT with a window."""
    length, step = draw.int(3, 8), draw.int(1, 4)
    x = draw.tensor((draw.int(1, 2), draw.int(length, 20), 1))
    constants = {"s": np.array(step), "w": draw.tensor((length,), low=0, high=1)}
    return Use("STFT", {"x": x}, constants, {"onesided": draw.int(0, 1)})


def recurrent(draw: Draw) -> Use:
    """All three cells, every direction, biases and initial states or none."""
    op, gates = draw.of(("LSTM", 4), ("GRU", 3), ("RNN", 1))
    steps, batch, width, hidden = (draw.int(1, 4) for _ in range(4))
    direction = draw.of("forward", "reverse", "bidirectional")
    ways = 2 if direction == "bidirectional" else 1
    feeds = {"x": draw.tensor((steps, batch, width))}
    constants = {
        "w": draw.tensor((ways, gates * hidden, width)),
        "r": draw.tensor((ways, gates * hidden, hidden)),
    }
    order = ["x", "w", "r"]
    given: dict[str, Any] = {"hidden_size": hidden, "direction": direction}
    if draw.flag():
        constants["b"] = draw.tensor((ways, 2 * gates * hidden))
    order.append("b" if "b" in constants else "")
    if draw.flag():
        feeds["h"] = draw.tensor((ways, batch, hidden))
        order += ["", "h"]
    if op == "GRU":
        given["linear_before_reset"] = draw.int(0, 1)
    return Use(op, feeds, constants, given, 3 if op == "LSTM" else 2, order)


@seeds(3)
def test_products(seed: int) -> None:
    check_uses(drawn(seed, 4, mat_mul, gemm, einsum), rtol=1e-4, atol=1e-4)


@seeds(2)
def test_transforms(seed: int) -> None:
    check_uses(drawn(seed, 3, transform), opset=20, rtol=1e-4, atol=1e-4)
    check_uses(drawn(seed, 2, frames), rtol=1e-4, atol=1e-4, truth="onnxruntime")


@seeds(3)
def test_recurrences(seed: int) -> None:
    check_uses(drawn(seed, 3, recurrent), rtol=1e-4, atol=1e-4, truth="onnxruntime")
