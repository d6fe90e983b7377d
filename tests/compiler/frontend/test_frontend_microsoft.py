"""Fused operators of ``com.microsoft`` against onnxruntime, or numpy where it has no kernel."""

import numpy as np
import pytest
from frontend_models import load, operators
from microsoft_models import Uses, compare, floats

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(11)


def f(*shape: int, dtype: str = "float32") -> np.ndarray:
    return floats(RNG, *shape, dtype=dtype)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def gelu(x):
    from math import erf

    return x * (1 + np.vectorize(erf)(x / np.sqrt(2))) / 2


def fast_gelu(x):
    return 0.5 * x * (1 + np.tanh(0.7978845608 * (x + 0.044715 * x**3)))


def test_activations(tmp_path):
    uses = Uses()
    uses.add("Gelu", f(3, 8))
    uses.add("BiasGelu", f(2, 3, 8), f(8), constants=[1])
    uses.add("FastGelu", f(3, 8))
    uses.add("FastGelu", f(2, 3, 8), f(8))
    uses.add("QuickGelu", f(3, 8))
    uses.add("QuickGelu", f(3, 8), alpha=0.5)
    uses.add("GatedAdd", f(2, 3, 8), f(2, 3, 8), f(2, 3, 1))
    uses.add("ScaledSiLU", f(3, 8), alpha=0.5)
    uses.check(tmp_path)


def test_biased_operators_without_a_cpu_kernel(tmp_path):
    x, bias, skip = f(2, 3, 8), f(8), f(2, 3, 8)
    uses = Uses()
    uses.add("BiasAdd", x, bias, skip, constants=[1])
    uses.add("BiasSplitGelu", x, bias, constants=[1])
    uses.add("BiasSoftmax", x, f(1, 3, 8), axis=2, is_inner_broadcast=0)
    uses.add("BiasDropout", x, bias, skip, constants=[1], outputs=["float32", "bool"])
    scores = x + uses.feeds["in2_1"]
    exp = np.exp(scores - scores.max(-1, keepdims=True))
    left, right = np.split(x + bias, 2, -1)
    want = [
        x + bias + skip,
        (left * gelu(right)).astype("f"),
        exp / exp.sum(-1, keepdims=True),
        x + bias + skip,
        np.ones(x.shape, bool),
    ]
    compare(uses.run(tmp_path), want)


def test_bias_softmax_over_several_axes_is_refused(tmp_path):
    uses = Uses()
    uses.add("BiasSoftmax", f(2, 3, 8), f(2, 3, 8), axis=1, is_inner_broadcast=0)
    with pytest.raises(UnsupportedOperatorError, match=r"node0.*BiasSoftmax.*axis 1"):
        uses.run(tmp_path)


ACTIVATIONS = [
    ("Relu", []),
    ("Tanh", []),
    ("Sigmoid", []),
    ("LeakyRelu", [0.2]),
    ("Clip", [-0.5, 0.75]),
    ("HardSigmoid", [0.3, 0.4]),
]


def test_fused_conv(tmp_path):
    x, w, b = f(1, 4, 7, 6), f(6, 4, 3, 3), f(6)
    uses = Uses()
    for name, parameters in ACTIVATIONS:
        more = {"activation_params": parameters} if parameters else {}
        uses.add("FusedConv", x, w, b, constants=[1, 2], activation=name, pads=[1] * 4, **more)
    uses.add("FusedConv", x, f(6, 2, 3, 3), constants=[1], activation="Relu", group=2)
    more = {"activation": "Relu", "auto_pad": "SAME_UPPER", "strides": [2, 2]}
    uses.add("FusedConv", x, w, b, f(1, 6, 4, 3), constants=[1, 2], **more)
    uses.add("FusedConv", f(2, 4, 9), f(6, 4, 3), b, constants=[1, 2], activation="Relu")
    uses.check(tmp_path)


def test_fused_conv_is_conv_bias_activation(tmp_path):
    uses = Uses()
    uses.add("FusedConv", f(1, 2, 5, 5), f(2, 2, 3, 3), f(2), constants=[1, 2], activation="Relu")
    imported = load(uses.proto(), tmp_path)
    assert operators(imported) == ["relax.nn.conv2d", "relax.add", "relax.nn.relu"]


def test_unknown_activation_is_refused(tmp_path):
    uses = Uses()
    uses.add("FusedConv", f(1, 2, 5, 5), f(2, 2, 3, 3), constants=[1], activation="Gelu")
    with pytest.raises(UnsupportedOperatorError, match="the activation 'Gelu'"):
        uses.run(tmp_path)


def test_fused_gemm(tmp_path):
    uses = Uses()
    a, b, c = f(3, 5), f(5, 4), f(4)
    uses.add("FusedGemm", a, b, c, constants=[1, 2], activation="Relu")
    uses.add("FusedGemm", a, b, c, activation="LeakyRelu", activation_alpha=0.2)
    more = {"activation": "HardSigmoid", "activation_alpha": 0.3, "activation_beta": 0.4}
    uses.add("FusedGemm", a, f(4, 5), c, constants=[1, 2], transB=1, alpha=0.5, beta=2.0, **more)
    uses.add("FusedGemm", a, b, activation="Elu", activation_alpha=0.7)
    uses.check(tmp_path)


def test_fused_mat_mul(tmp_path):
    uses = Uses()
    uses.add("FusedMatMul", f(2, 3, 5), f(2, 4, 5), transB=1, alpha=0.25)
    uses.add("FusedMatMul", f(2, 5, 3), f(5, 4), constants=[1], transA=1, alpha=2.0)
    uses.add("FusedMatMul", f(3, 5), f(5, 4))
    uses.add("TransposeMatMul", f(2, 5, 3), f(2, 5, 4), transA=1)
    uses.add("FusedMatMul", f(3, 2, 2, 5), f(5, 2, 2, 4), transBatchA=1, transBatchB=1)
    more = {"transA": 1, "transB": 1, "transBatchA": 1, "transBatchB": 1}
    uses.add("FusedMatMul", f(5, 2, 3), f(4, 2, 5), alpha=0.5, constants=[1], **more)
    uses.add("FusedMatMul", f(2, 3, 5), f(5), transB=1)
    uses.check(tmp_path)


def test_gemm_fast_gelu(tmp_path):
    x, w, b = f(2, 3, 5), f(5, 4), f(4)
    uses = Uses()
    uses.add("GemmFastGelu", x, w, b, constants=[1, 2])
    uses.add("GemmFastGelu", x, w, constants=[1])
    compare(uses.run(tmp_path), [fast_gelu(x @ w + b), fast_gelu(x @ w)])


def test_channels_last(tmp_path):
    x, w, b, z = f(1, 6, 5, 4), f(8, 4, 3, 3), f(8), f(1, 6, 5, 8)
    pixels = RNG.integers(0, 255, (1, 6, 5, 4), np.uint8)
    plain, last = Uses(), Uses()
    first = np.ascontiguousarray(x.transpose(0, 3, 1, 2))
    more = {"activation": "Relu", "pads": [1] * 4}
    plain.add("Conv", first, w, b, constants=[1, 2], domain="", strides=[2, 1])
    skip = np.ascontiguousarray(z.transpose(0, 3, 1, 2))
    plain.add("FusedConv", first, w, b, skip, constants=[1, 2], **more)
    last.add("NhwcConv", x, w, b, constants=[1, 2], strides=[2, 1])
    last.add("NhwcFusedConv", x, w, b, z, constants=[1, 2], **more)
    from microsoft_models import truth

    want = [y.transpose(0, 2, 3, 1) for y in truth(plain.proto(), plain.feeds)]
    pooled = Uses()
    pooled.add("NhwcMaxPool", pixels, outputs=["uint8"], kernel_shape=[2, 3], strides=[2, 1])
    compare(last.run(tmp_path), want)
    pooled.check(tmp_path)


def test_layer_normalization(tmp_path):
    uses = Uses()
    x, skip, gamma, beta, bias = f(2, 3, 8), f(2, 3, 8), f(8), f(8), f(8)
    three = ["float32"] * 3
    uses.add("SkipLayerNormalization", x, skip, gamma, beta, bias, constants=[2, 3, 4])
    four = ["float32", None, None, "float32"]
    uses.add("SkipLayerNormalization", x, skip, gamma, beta, bias, outputs=four, epsilon=0.1)
    uses.add("SkipLayerNormalization", x, f(3, 8), gamma, beta, None, outputs=four)
    uses.add("SkipLayerNormalization", x, f(1, 3, 8), gamma, constants=[2])
    uses.add("SkipSimplifiedLayerNormalization", x, skip, gamma, bias, outputs=four)
    uses.add("SkipSimplifiedLayerNormalization", x, skip, gamma, constants=[2], epsilon=0.1)
    uses.add("LayerNormalization", x, gamma, beta, domain="", constants=[1, 2], outputs=three)
    uses.check(tmp_path)


def test_what_onnxruntime_adds_to_the_default_domain(tmp_path):
    uses = Uses(opset=13)
    x, gamma, beta = f(2, 3, 8), f(8), f(8)
    uses.add("LayerNormalization", x, gamma, beta, domain="", constants=[1, 2], axis=-1)
    uses.add("LayerNormalization", x, gamma, beta, domain="", outputs=["float32"] * 3)
    uses.add("SimplifiedLayerNormalization", x, gamma, domain="", constants=[1], epsilon=0.1)
    two = ["float32"] * 2
    uses.add("SimplifiedLayerNormalization", x, f(3, 8), domain="", axis=1, outputs=two)
    uses.check(tmp_path)


def test_embed_layer_normalization(tmp_path):
    ids, segments = (RNG.integers(0, 5, (2, 4)).astype(np.int32) for _ in range(2))
    mask = np.array([[1, 1, 1, 0], [1, 1, 0, 0]], np.int32)
    positions = np.array([[3, 2, 1, 0]], np.int32)
    words, places, kinds, gamma, beta = f(5, 8), f(6, 8), f(5, 8), f(8), f(8)
    weights = [2, 3, 4, 5, 6]
    uses = Uses()
    tables = (words, places, kinds, gamma, beta)
    types = ["float32", "int32", "float32"]
    uses.add(
        "EmbedLayerNormalization", ids, segments, *tables, mask, constants=weights, outputs=types
    )
    tables = (words, places, None, gamma, beta)
    uses.add(
        "EmbedLayerNormalization",
        ids,
        None,
        *tables,
        None,
        positions,
        constants=[2, 3, 5, 6],
        outputs=["float32", "int32"],
        epsilon=0.01,
    )
    uses.check(tmp_path)


def test_group_norm(tmp_path):
    x, skip, gamma, beta, bias = f(2, 3, 5, 8), f(2, 8), f(8), f(8), f(8)

    def norm(s, groups, epsilon=1e-5):
        parts = s.reshape(2, 15, groups, -1)
        mean, var = parts.mean((1, 3), keepdims=True), parts.var((1, 3), keepdims=True)
        return ((parts - mean) / np.sqrt(var + epsilon)).reshape(s.shape) * gamma + beta

    total = x + skip.reshape(2, 1, 1, 8) + bias
    uses = Uses()
    uses.add("GroupNorm", x, gamma, beta, constants=[1, 2], groups=4, activation=0)
    uses.add("GroupNorm", x, gamma, beta, constants=[1, 2], groups=2, activation=1, epsilon=0.1)
    more = {"groups": 4, "activation": 0, "outputs": ["float32"] * 2}
    uses.add("SkipGroupNorm", x, gamma, beta, skip, bias, constants=[1, 2, 4], **more)
    y = norm(x, 2, 0.1)
    compare(uses.run(tmp_path), [norm(x, 4), y * sigmoid(y), norm(total, 4), total])


def test_half_precision(tmp_path):
    def h(*shape: int) -> np.ndarray:
        return f(*shape, dtype="float16")

    half = ["float16"]
    uses = Uses()
    uses.add("SkipLayerNormalization", h(2, 3, 8), h(2, 3, 8), h(8), h(8), h(8), outputs=half)
    uses.add("SkipSimplifiedLayerNormalization", h(2, 3, 8), h(2, 3, 8), h(8), outputs=half)
    uses.check(tmp_path, rtol=1e-2, atol=1e-2)
