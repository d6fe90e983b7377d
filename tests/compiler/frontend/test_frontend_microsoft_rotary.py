"""Rotary embeddings and GroupQueryAttention of ``com.microsoft`` against onnxruntime."""

import numpy as np
import pytest
from microsoft_models import Uses, compare, floats, truth

from motet.runtime.errors import UnsupportedOperatorError

RNG = np.random.default_rng(6)
B, S, N, G, H = 2, 4, 4, 2, 16


def f(*shape: int, dtype: str = "float32") -> np.ndarray:
    return floats(RNG, *shape, dtype=dtype)


def table(half: int, rows: int = 12) -> tuple[np.ndarray, np.ndarray]:
    angle = np.outer(np.arange(rows), 10.0 ** -np.arange(half))
    return np.cos(angle).astype("f"), np.sin(angle).astype("f")


def test_rotary_embedding(tmp_path):
    uses = Uses()
    offset, places = np.array([3]), RNG.integers(0, 12, (B, S))
    for interleaved in (0, 1):
        more = {"constants": [2, 3], "interleaved": interleaved}
        uses.add("RotaryEmbedding", f(B, S, N * H), offset, *table(H // 2), **more)
        uses.add("RotaryEmbedding", f(B, N, S, H), places, *table(H // 2), **more)
    more = {"constants": [2, 3], "num_heads": N, "rotary_embedding_dim": 8}
    uses.add("RotaryEmbedding", f(B, S, N * H), places, *table(4), **more)
    uses.check(tmp_path)


def inputs(past: int = 0, packed: bool = False, new: int = S, batch: int = B):
    """Query, key, value and the two caches of ``past`` rows."""
    caches = [f(batch, G, past, H), f(batch, G, past, H)] if past else [None, None]
    if packed:
        return [f(batch, new, (N + 2 * G) * H), None, None, *caches]
    return [f(batch, new, N * H), f(batch, new, G * H), f(batch, new, G * H), *caches]


def ends(*lengths: int) -> np.ndarray:
    return np.array(lengths, np.int32) - 1


HEADS = {"num_heads": N, "kv_num_heads": G, "outputs": ["float32"] * 3}


def test_prompt(tmp_path):
    uses = Uses()
    lengths, total = ends(S, S), np.array(S, np.int32)
    uses.add("GroupQueryAttention", *inputs(), lengths, total, constants=[6], **HEADS)
    more = {"do_rotary": 1, "constants": [6, 7, 8]}
    uses.add(
        "GroupQueryAttention", *inputs(packed=True), lengths, total, *table(8), **more, **HEADS
    )
    more["rotary_interleaved"] = 1
    uses.add(
        "GroupQueryAttention", *inputs(), lengths, total, *table(8), scale=0.4, **more, **HEADS
    )
    uses.check(tmp_path)


def test_options(tmp_path):
    uses = Uses()
    lengths, total, none = ends(S, S), np.array(S, np.int32), [None] * 3
    more = {"constants": [6], **HEADS}
    uses.add("GroupQueryAttention", *inputs(), lengths, total, local_window_size=2, **more)
    uses.add("GroupQueryAttention", *inputs(), lengths, total, softcap=0.5, **more)
    uses.add("GroupQueryAttention", *inputs(), lengths, total, smooth_softmax=1, **more)
    uses.add("GroupQueryAttention", *inputs(), lengths, total, *none, f(1, N, S, S), **more)
    uses.add("GroupQueryAttention", *inputs(), lengths, total, *none, None, f(N), **more)
    uses.add("GroupQueryAttention", *inputs(), lengths, total, causal=0, **more)
    uses.check(tmp_path)


def test_growing_cache(tmp_path):
    uses = Uses()
    more = {"do_rotary": 1, "constants": [6, 7, 8], **HEADS}
    total = np.array(6, np.int32)
    uses.add("GroupQueryAttention", *inputs(5, new=1), ends(6, 6), total, *table(8), **more)
    uses.add("GroupQueryAttention", *inputs(5, new=1), ends(6, 4), total, *table(8), **more)
    one = inputs(2, packed=True, batch=1)
    uses.add("GroupQueryAttention", *one, ends(6), total, *table(8), local_window_size=3, **more)
    got, want = uses.run(tmp_path), truth(uses.proto(), uses.feeds)
    for outputs in (got, want):  # beyond the second sequence's end is what nobody reads
        for cache in outputs[4:6]:
            cache[1, :, 4:] = 0
    compare(got, want)


def test_cache_of_fixed_length(tmp_path):
    uses = Uses()
    more = {"do_rotary": 1, "constants": [6, 7, 8], **HEADS}
    total = np.array(6, np.int32)
    uses.add("GroupQueryAttention", *inputs(9, new=1), ends(6, 3), total, *table(8), **more)
    uses.add("GroupQueryAttention", *inputs(9, batch=1), ends(6), total, *table(8), **more)
    prompt = np.array(S, np.int32)
    uses.add("GroupQueryAttention", *inputs(9), ends(S, S), prompt, *table(8), **more)
    got, want = uses.run(tmp_path), truth(uses.proto(), uses.feeds)
    compare(got[0::3], want[0::3])
    for cache in (1, 2, 4, 5, 7, 8):
        rows = (6, 6, S)[cache // 3]
        for b, (a, c) in enumerate(zip(got[cache], want[cache], strict=True)):
            rows = 3 if cache in (1, 2) and b == 1 else rows
            np.testing.assert_allclose(a[:, :rows], c[:, :rows], rtol=1e-5, atol=1e-6)


def test_number_of_tokens_at_run_time(tmp_path):
    uses = Uses(symbolic=(5,))
    total, query = np.array(6, np.int32), inputs(5, new=1, packed=True)
    uses.add("GroupQueryAttention", *query, ends(6, 6), total, **HEADS)
    uses.check(tmp_path)


def test_refusals(tmp_path):
    uses = Uses()
    more = {"k_quant_type": "PER_TENSOR", **HEADS}
    uses.add("GroupQueryAttention", *inputs(), ends(S, S), np.array(S, np.int32), **more)
    with pytest.raises(UnsupportedOperatorError, match="a quantised cache"):
        uses.run(tmp_path)
