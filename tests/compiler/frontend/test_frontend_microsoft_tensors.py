"""Further operators of ``com.microsoft`` against onnxruntime, or numpy where it has no kernel."""

import numpy as np
import pytest
from microsoft_models import Uses, compare, floats

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(8)


def f(*shape: int) -> np.ndarray:
    return floats(RNG, *shape)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def test_what_onnx_has_too(tmp_path):
    uses = Uses()
    uses.add("Trilu", f(3, 4), ints(1).reshape(()), constants=[1], upper=0)
    uses.add("ExpandDims", f(3, 4), np.array(-1, np.int32), constants=[1])
    uses.add("ExpandDims", f(3, 4), np.array(1, np.int32), constants=[1])
    uses.add("GatherND", f(2, 3, 4), np.array([[0, 1], [1, 0]]), constants=[1])
    pads = ints(1, 0, 2, 1)
    uses.add("Pad", f(3, 4), pads, np.array([7], "f"), constants=[1, 2])
    uses.add("Pad", f(3, 4), pads.reshape(1, 4), constants=[1], mode="reflect")
    uses.add("SampleOp", f(3))
    uses.add("GridSample", f(1, 2, 4, 5), RNG.uniform(-1, 1, (1, 3, 3, 2)).astype("f"))
    uses.check(tmp_path)


def test_unique(tmp_path):
    uses = Uses()
    x = np.array([2, 1, 1, 3, 4, 3], "f")
    uses.add("Unique", x, outputs=["float32", "int64", "int64"])
    uses.check(tmp_path)


def test_distances_crops_and_pads(tmp_path):
    uses = Uses()
    uses.add("CDist", f(3, 5), f(4, 5))
    uses.add("CDist", f(3, 5), f(4, 5), metric="euclidean")
    uses.add("UnfoldTensor", f(2, 7, 3), dim=1, size=3, step=2)
    uses.add("UnfoldTensor", f(2, 7), size=2)
    x, w, pads = f(1, 2, 4, 4), f(2, 3, 3, 3), ints(1, 0, 1, 0)
    uses.add("ConvTransposeWithDynamicPads", x, w, pads, f(3), constants=[1, 2, 3], strides=[2, 2])
    image = f(2, 3, 6, 5)
    boxes = np.array([[0, 0, 1, 1], [0.2, 0.1, 0.7, 0.6], [-0.3, 0.5, 0.4, 1.2]], "f")
    which, size = np.array([0, 1, 0], np.int32), np.array([4, 3], np.int32)
    uses.add("CropAndResize", image, boxes, which, size, constants=[3])
    more = {"mode": "nearest", "extrapolation_value": 5.0}
    uses.add("CropAndResize", image, boxes, which, size, constants=[3], **more)
    uses.add("CropAndResize", image, boxes, which, np.array([1, 1], np.int32), constants=[3])
    uses.check(tmp_path)


def test_complex_numbers(tmp_path):
    a, b, x = f(2, 3, 2), f(2, 3, 2), f(2, 8)
    bins = np.fft.rfft(x)
    spectrum = np.stack([bins.real, bins.imag], -1).astype("f")
    uses = Uses()
    uses.add("ComplexMul", a, b)
    uses.add("ComplexMulConj", a, b)
    uses.add("Rfft", x, signal_ndim=1)
    uses.add("Irfft", spectrum, signal_ndim=1)
    c, d = a[..., 0] + 1j * a[..., 1], b[..., 0] + 1j * b[..., 1]
    products = [np.stack([p.real, p.imag], -1) for p in (c * d, c * d.conj())]
    compare(uses.run(tmp_path), [*products, spectrum, x], atol=1e-5)


def t5_bucket(place: int, buckets: int, most: int, both: bool) -> int:
    """One bucket, as the model's authors wrote it."""
    result, n = 0, -place
    if both:
        buckets //= 2
        result = buckets if n < 0 else 0
        n = abs(n)
    else:
        n = max(n, 0)
    single = buckets // 2
    if n < single:
        return result + n
    large = single + int(np.log(n / single) / np.log(most / single) * (buckets - single))
    return result + min(large, buckets - 1)


@pytest.mark.parametrize("both", [0, 1])
def test_relative_position_bias(tmp_path, both):
    table, uses = f(8, 3), Uses()
    uses.add(
        "RelativePositionBias",
        table,
        ints(9),
        ints(9),
        constants=[0, 1, 2],
        max_distance=20,
        is_bidirectional=both,
    )
    uses.add("SampleOp", f(1))
    found = [[t5_bucket(k - q, 8, 20, bool(both)) for k in range(9)] for q in range(9)]
    want = table[np.array(found)].transpose(2, 0, 1)[None]
    compare(uses.run(tmp_path), [want, uses.feeds["in1_0"]])


def test_gated_relative_position_bias(tmp_path):
    query, bias, places = f(2, 4, 6), f(6), f(1, 2, 4, 4)
    weight, more, eco = f(3, 8), f(8), f(1, 2, 1, 1)
    uses = Uses()
    inputs = (query, bias, places, weight, more, eco)
    uses.add("GatedRelativePositionBias", *inputs, constants=[1, 3, 4, 5], num_heads=2)
    heads = (query + bias).reshape(2, 4, 2, 3).transpose(0, 2, 1, 3)
    gates = (heads @ weight + more).reshape(2, 2, 4, 2, 4).sum(-1)
    update, reset = np.split(1 / (1 + np.exp(-gates)), 2, -1)
    want = (update * (reset * eco - 1) + 2) * places
    compare(uses.run(tmp_path), [want])


def test_inverse(tmp_path):
    uses = Uses()
    swap = np.array([[0, 2], [4, 1]], "f")  # needs a pivot
    uses.add("Inverse", swap)
    uses.add("Inverse", f(2, 3, 4, 4))
    uses.check(tmp_path, rtol=1e-3, atol=1e-4)


def test_causal_convolution_with_state(tmp_path):
    uses, two = Uses(), ["float32"] * 2
    w, b = f(3, 1, 4), f(3)
    uses.add("CausalConvWithState", f(2, 3, 6), w, b, constants=[1, 2], outputs=two)
    more = {"activation": "silu", "outputs": two}
    uses.add("CausalConvWithState", f(2, 3, 1), w, b, f(2, 3, 3), constants=[1, 2], **more)
    uses.add("CausalConvWithState", f(2, 3, 5), w, constants=[1], dilation=2, outputs=two)
    uses.check(tmp_path)


def test_refusals(tmp_path):
    uses = Uses()
    uses.add("CDist", f(3, 5), f(4, 5), metric="cosine")
    with pytest.raises(UnsupportedOperatorError, match="the metric 'cosine'"):
        uses.run(tmp_path)
    uses = Uses()
    uses.add("MurmurHash3", ints(3), outputs=["uint32"])
    with pytest.raises(UnsupportedOperatorError, match="MurmurHash3"):
        uses.run(tmp_path)
