"""Attention operators of ``com.microsoft`` against onnxruntime."""

import numpy as np
import pytest
from microsoft_models import Uses, compare, floats, run, truth

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(5)
B, S, N, H, D = 2, 4, 2, 8, 12


def f(*shape: int, dtype: str = "float32") -> np.ndarray:
    return floats(RNG, *shape, dtype=dtype)


def i(*values: object) -> np.ndarray:
    return np.array(values, np.int32)


def projection(sizes: tuple[int, int, int] = (16, 16, 16)) -> tuple[np.ndarray, ...]:
    return f(B, S, D), f(D, sum(sizes)) / 3, f(sum(sizes))


def raw(*shape: int) -> np.ndarray:
    mask = (RNG.random(shape) > 0.4).astype(np.int32)
    mask[..., 0] = 1
    return mask


MASKS = {
    "none": None,
    "lengths": i(3, 2),
    "ends and starts": i(4, 3, 1, 0),
    "raw": raw(B, S),
    "per query": raw(B, S, S),
}


@pytest.mark.parametrize("causal", [0, 1])
def test_attention_masks(tmp_path, causal):
    uses = Uses()
    for mask in MASKS.values():
        x, w, b = projection()
        uses.add("Attention", x, w, b, mask, constants=[1, 2], num_heads=N, unidirectional=causal)
    uses.check(tmp_path)


def test_attention_options(tmp_path):
    uses = Uses()
    x, w, b = projection((8, 8, 16))
    uses.add("Attention", x, w, b, constants=[1, 2], num_heads=N, qkv_hidden_sizes=[8, 8, 16])
    x, w, b = projection()
    uses.add("Attention", x, w, b, constants=[1, 2], num_heads=4, scale=0.7)
    bias = f(B, N, S, S)
    more = {"num_heads": N, "mask_filter_value": -3.0}
    uses.add("Attention", x, w, b, MASKS["raw"], None, bias, constants=[1, 2], **more)
    uses.add("Attention", x, w, b, None, None, f(1, N, S, S), num_heads=N, unidirectional=1)
    more = {"unidirectional": 1, "mask_filter_value": float(np.finfo("f").min)}
    blind = i([0, 0, 1, 1], [0, 1, 1, 1])  # the first queries see no key
    uses.add("Attention", x, w, b, blind, num_heads=N, constants=[1, 2], **more)
    uses.check(tmp_path)


def test_attention_without_bias(tmp_path):
    """Which crashes onnxruntime 1.31: a bias of zeros is what it means."""
    x, w, b = projection()
    without, zeros = Uses(), Uses()
    without.add("Attention", x, w, None, constants=[1], num_heads=N)
    zeros.add("Attention", x, w, 0 * b, constants=[1], num_heads=N)
    compare(without.run(tmp_path), truth(zeros.proto(), zeros.feeds))


def test_attention_past(tmp_path):
    uses = Uses()
    for mask, causal in ((None, 1), (raw(B, 3 + S), 1), (raw(B, 3 + S), 0), (raw(B, S, 3 + S), 1)):
        x, w, b = projection()
        more = {"num_heads": N, "unidirectional": causal, "outputs": ["float32"] * 2}
        uses.add("Attention", x, w, b, mask, f(2, B, N, 3, H), constants=[1, 2], **more)
    x, w, b = projection()
    uses.add("Attention", x, w, b, constants=[1, 2], num_heads=N, outputs=["float32"] * 2)
    uses.check(tmp_path)


def test_attention_megatron_mask(tmp_path):
    """The mask of four axes, which onnxruntime has on GPUs alone, is a part of one of three."""
    x, w, b = projection()
    mask = raw(B, 1, 9, 9)
    whole, part = Uses(), Uses()
    past = f(2, B, N, 3, H)
    more = {"num_heads": N, "outputs": ["float32"] * 2}
    whole.add("Attention", x, w, b, mask, past, constants=[1, 2], **more)
    cut = np.ascontiguousarray(mask[:, 0, 3:7, :7])
    part.add("Attention", x, w, b, cut, past, constants=[1, 2], **more)
    compare(whole.run(tmp_path), truth(part.proto(), part.feeds))


def test_attention_symbolic(tmp_path):
    uses = Uses(symbolic=(B, S))
    x, w, b = projection()
    more = {"num_heads": N, "unidirectional": 1}
    uses.add("Attention", x, w, b, i(3, 2), constants=[1, 2], **more)
    uses.check(tmp_path)


def test_attention_refusals(tmp_path):
    for more in ({"do_rotary": 1}, {"past_present_share_buffer": 1}):
        uses = Uses()
        uses.add("Attention", *projection(), num_heads=N, **more)
        with pytest.raises(UnsupportedOperatorError, match=f"node0.*Attention.*{next(iter(more))}"):
            uses.run(tmp_path)
    uses = Uses()
    uses.add("Attention", *projection(), i(*range(8)), num_heads=N)
    with pytest.raises(UnsupportedOperatorError, match="a mask of 8 numbers for a batch of 2"):
        uses.run(tmp_path)


KV_MASKS = [None, i(5, 3), raw(B, 5), raw(B, S, 5)]


@pytest.mark.parametrize("causal", [0, 1])
def test_multi_head_attention(tmp_path, causal):
    uses = Uses()
    for mask in KV_MASKS:
        q, k, v = f(B, S, 16), f(B, 5, 16), f(B, 5, 24)
        if not causal:
            uses.add("MultiHeadAttention", q, k, v, f(56), mask, num_heads=N, constants=[3])
            continue
        q, k = f(B, 5, 16), f(B, 5, 16)
        mask = raw(B, 5, 5) if mask is not None and mask.ndim == 3 else mask
        uses.add("MultiHeadAttention", q, k, v, None, mask, num_heads=N, unidirectional=1)
    uses.check(tmp_path)


def test_multi_head_attention_options(tmp_path):
    uses = Uses()
    q, k, v, bias = f(B, S, 16), f(B, 5, 16), f(B, 5, 16), f(1, N, S, 5)
    uses.add("MultiHeadAttention", q, k, v, None, None, bias, num_heads=N, scale=0.3)
    more = {"num_heads": N, "mask_filter_value": -2.0}
    uses.add("MultiHeadAttention", q, k, v, None, raw(B, 5), f(B, 1, S, 5), **more)
    cross = (f(B, N, 5, H), f(B, N, 5, H))
    uses.add("MultiHeadAttention", q, *cross, f(48), num_heads=N, constants=[3])
    four = ["float32"] * 4
    uses.add("MultiHeadAttention", q, k, v, f(48), num_heads=N, outputs=four)
    more = {"num_heads": N, "outputs": ["float32", None, None, "float32"]}
    uses.add("MultiHeadAttention", q, k, v, None, raw(B, 5), bias, **more)
    uses.check(tmp_path)


def test_multi_head_attention_past(tmp_path):
    uses = Uses()
    for mask, causal in ((None, 0), (raw(B, S + 3), 0), (None, 1), (raw(B, S, S + 3), 1)):
        q, k, v, past = f(B, S, 16), f(B, S, 16), f(B, S, 16), (f(B, N, 3, H), f(B, N, 3, H))
        more = {"num_heads": N, "unidirectional": causal, "outputs": ["float32"] * 3}
        uses.add("MultiHeadAttention", q, k, v, f(48), mask, None, *past, **more)
    uses.check(tmp_path)


def test_packed_inputs_are_the_separate_ones(tmp_path):
    q, k, v, bias = f(B, S, 16), f(B, S, 16), f(B, S, 16), f(48)
    heads = [x.reshape(B, S, N, H) for x in (q, k, v)]
    packed, apart = Uses(), Uses()
    packed.add("MultiHeadAttention", np.stack(heads, 3), None, None, bias, num_heads=N)
    packed.add("MultiHeadAttention", q, np.stack(heads[1:], 3), None, bias, num_heads=N)
    for _ in range(2):
        apart.add("MultiHeadAttention", q, k, v, bias, num_heads=N)
    compare(packed.run(tmp_path), truth(apart.proto(), apart.feeds))


def test_half_precision(tmp_path):
    uses = Uses()
    q, k, v = (f(B, S, 16, dtype="float16") for _ in range(3))
    mask, half = raw(B, S), ["float16"]
    uses.add("MultiHeadAttention", q, k, v, None, mask, num_heads=N, outputs=half)
    uses.check(tmp_path, rtol=1e-2, atol=1e-2)


def test_symbols_that_only_the_run_knows_to_be_equal(tmp_path):
    """A step of a decoder whose inputs name every length on their own."""
    uses = Uses()
    q, k, v, past = f(B, 1, 16), f(B, 1, 16), f(B, 1, 16), (f(B, N, 3, H), f(B, N, 3, H))
    more = {"num_heads": N, "outputs": ["float32"] * 3}
    uses.add("MultiHeadAttention", q, k, v, None, raw(B, 4), f(B, 1, 1, 4), *past, **more)
    uses.add("SkipLayerNormalization", f(B, 3, 16), f(B, 3, 16), f(16), f(16), constants=[2, 3])
    proto = uses.proto()
    for index, name, axis in (
        *((0, n, 2) for n in ("past_key", "past_value")),
        (0, "mask", 1),
        (0, "bias", 3),
        (1, "x", 1),
        (1, "skip", 1),
    ):
        place = {"mask": 4, "bias": 5, "past_key": 6, "past_value": 7, "x": 0, "skip": 1}[name]
        (info,) = (i for i in proto.graph.input if i.name == f"in{index}_{place}")
        info.type.tensor_type.shape.dim[axis].dim_param = f"{name}_length"
    compare(run(proto, uses.feeds, tmp_path), truth(proto, uses.feeds))
