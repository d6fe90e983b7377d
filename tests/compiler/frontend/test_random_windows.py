"""Convolutions and pools over random kernels, strides, dilations, pads and groups."""

from __future__ import annotations

from typing import Any

from random_uses import Draw, Use, check_uses, drawn, int64, seeds


def window(draw: Draw, rank: int, pads: bool = True) -> dict[str, Any]:
    """Kernel and, each half of the time, strides, dilations and pads (below the kernel)."""
    kernel = [draw.int(1, 3) for _ in range(rank)]
    given: dict[str, Any] = {"kernel_shape": kernel}
    if draw.flag():
        given["strides"] = [draw.int(1, 3) for _ in range(rank)]
    if draw.flag():
        given["dilations"] = [draw.int(1, 2) for _ in range(rank)]
    if pads and draw.flag():
        given["pads"] = [draw.int(0, k - 1) for k in kernel * 2]
    elif pads and "dilations" not in given and draw.flag():
        # onnxruntime has no SAME with dilations, and none with strides beyond the kernel.
        given["auto_pad"] = draw.of("SAME_UPPER", "SAME_LOWER", "VALID")
        given["strides"] = [draw.int(1, k) for k in kernel]
    return given


def image(draw: Draw, channels: int, rank: int) -> Any:
    return draw.tensor((draw.int(1, 2), channels, *(draw.int(6, 9) for _ in range(rank))))


def conv(draw: Draw) -> Use:
    rank, groups = draw.of(1, 2, 2, 3), draw.of(1, 1, 2, 3)
    given = window(draw, rank)
    ins, outs = groups * draw.int(1, 3), groups * draw.int(1, 3)
    constants = {"w": draw.tensor((outs, ins // groups, *given["kernel_shape"]))}
    if draw.flag():
        constants["b"] = draw.tensor((outs,))
    return Use("Conv", {"x": image(draw, ins, rank)}, constants, {**given, "group": groups})


def conv_transpose(draw: Draw) -> Use:
    """With pads, ``output_padding``, ``output_shape`` or ``auto_pad``."""
    rank, groups = draw.of(1, 2, 2), draw.of(1, 1, 2)
    given = window(draw, rank, pads=False)
    strides = given.setdefault("strides", [1] * rank)
    ins, outs = groups * draw.int(1, 3), draw.int(1, 3)
    x = draw.tensor((1, ins, *(draw.int(3, 5) for _ in range(rank))))
    reach = [(k - 1) * d + 1 for k, d in zip(given["kernel_shape"],
             given.get("dilations", [1] * rank), strict=True)]  # fmt: skip
    full = [(e - 1) * s + r for e, s, r in zip(x.shape[2:], strides, reach, strict=True)]
    match draw.int(0, 3):
        case 0:
            given["pads"] = [draw.int(0, k - 1) for k in given["kernel_shape"] * 2]
        case 1:
            given["output_padding"] = [draw.int(0, s - 1) for s in strides]
        case 2:
            given["output_shape"] = [f - draw.int(0, min(r - 1, 2))
                                     for f, r in zip(full, reach, strict=True)]  # fmt: skip
        case 3:
            given["auto_pad"] = draw.of("SAME_UPPER", "SAME_LOWER")
            given["strides"] = [draw.int(1, r) for r in reach]
    constants = {"w": draw.tensor((ins, outs, *given["kernel_shape"]))}
    if draw.flag():
        constants["b"] = draw.tensor((groups * outs,))
    return Use("ConvTranspose", {"x": x}, constants, {**given, "group": groups})


def pool(draw: Draw) -> Use:
    op, rank = draw.of("MaxPool", "AveragePool"), draw.of(1, 2, 2, 3)
    given = window(draw, rank)
    if "auto_pad" not in given:
        given["ceil_mode"] = draw.int(0, 1)
    if op == "AveragePool":
        given["count_include_pad"] = draw.int(0, 1)
    return Use(op, {"x": image(draw, draw.int(1, 3), rank)}, attributes=given)


def lp_pool(draw: Draw) -> Use:
    given = window(draw, 2)
    del given["kernel_shape"][2:]
    given["p"] = draw.of(1, 2, 3)
    return Use("LpPool", {"x": image(draw, 2, 2)}, attributes=given)


def whole(draw: Draw) -> Use:
    op = draw.of("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    given = {"p": draw.of(1, 2, 3)} if op == "GlobalLpPool" else {}
    return Use(op, {"x": image(draw, draw.int(1, 3), draw.int(1, 3))}, attributes=given)


def columns(draw: Draw) -> Use:
    """Col2Im, where blocks overlap too."""
    rank = draw.of(1, 2)
    block = [draw.int(1, 3) for _ in range(rank)]
    strides = [draw.int(1, 2) for _ in range(rank)]
    steps = [draw.int(1, 4) for _ in range(rank)]
    sizes = [(n - 1) * s + b for n, s, b in zip(steps, strides, block, strict=True)]
    cells, places = 1, 1
    for b, n in zip(block, steps, strict=True):
        cells, places = cells * b, places * n
    x = draw.tensor((1, cells * draw.int(1, 2), places))
    constants = {"i": int64(*sizes), "b": int64(*block)}
    return Use("Col2Im", {"x": x}, constants, {"strides": strides})


@seeds(3)
def test_convolutions(seed: int) -> None:
    check_uses(drawn(seed, 4, conv), truth="onnxruntime", rtol=1e-4, atol=1e-4)


@seeds(3)
def test_transposed_convolutions(seed: int) -> None:
    check_uses(drawn(seed, 4, conv_transpose), truth="onnxruntime", rtol=1e-4, atol=1e-4)


@seeds(3)
def test_pools(seed: int) -> None:
    check_uses(drawn(seed, 5, pool), opset=19, truth="onnxruntime")


@seeds(2)
def test_other_windows(seed: int) -> None:
    uses = [*drawn(seed, 2, whole), *drawn(seed, 2, lp_pool)]
    check_uses(uses, truth="onnxruntime", rtol=1e-4, atol=1e-4)
    check_uses(drawn(seed, 3, columns))
