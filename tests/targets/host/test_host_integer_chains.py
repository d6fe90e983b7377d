"""Weights in chains: what is paired fits 16 bits, and nothing is lost."""

from __future__ import annotations

import numpy as np
import pytest

from motet.targets.host.kernels.blocked_conv.chain_weights import ChainLayout, pack_chains

LAYOUT = ChainLayout(panels=3, chunks=2, rows=2, in_blocks=5, split=3, steps=6, width=16, ones=32)


def _fours(most: int, seed: int) -> np.ndarray:
    chance = np.random.default_rng(seed)
    shape = (LAYOUT.panels, LAYOUT.in_blocks, LAYOUT.rows, LAYOUT.steps, 4 * LAYOUT.width)
    return chance.integers(-most, most + 1, shape).astype(np.int8).view("<i4")


def _segments(packed: np.ndarray):
    """(panel, chunk, row, eights, offsets, weights as bytes) of every segment."""
    headers = packed[LAYOUT.ones : LAYOUT.offsets].reshape(-1, 2)
    weights = packed[LAYOUT.weights :].reshape(-1, LAYOUT.width)
    places = np.ndindex(LAYOUT.panels, LAYOUT.chunks, LAYOUT.rows)
    for (panel, chunk, row), (eights, first) in zip(places, headers, strict=True):
        count = LAYOUT.chunk_fours(chunk)
        offsets = packed[LAYOUT.offsets + first : LAYOUT.offsets + first + count]
        yield panel, chunk, row, int(eights), offsets, weights[first : first + count].view(np.int8)


@pytest.mark.parametrize("most", [3, 25, 64])
def test_eights_fit_and_every_four_is_there_once(most: int):
    fours = _fours(most, most)
    reads = np.arange(LAYOUT.fours, dtype=np.int32)
    packed = pack_chains(fours, reads, LAYOUT)
    where = reads.reshape(LAYOUT.in_blocks, LAYOUT.rows, LAYOUT.steps)
    seen = 0
    for panel, chunk, row, eights, offsets, weights in _segments(packed):
        blocks = slice(chunk * LAYOUT.split, (chunk + 1) * LAYOUT.split)
        expected = where[blocks, row].reshape(-1)
        np.testing.assert_array_equal(np.sort(offsets), expected)
        flat = fours[panel].reshape(-1, LAYOUT.width).view(np.int8)
        np.testing.assert_array_equal(weights, flat[offsets])
        lanes = weights[: 2 * eights].astype(int).reshape(eights, 2, 2 * LAYOUT.width, 2)
        assert np.maximum(lanes, 0).sum((1, 3)).max(initial=0) <= 128
        assert np.minimum(lanes, 0).sum((1, 3)).min(initial=0) >= -128
        seen += 2 * eights
    share = seen / (LAYOUT.panels * LAYOUT.fours)
    assert share == 1 if most == 3 else share < 1 if most == 64 else share > 0.5


def test_fours_that_fit_only_others_than_their_neighbours_find_them():
    layout = ChainLayout(panels=1, chunks=1, rows=1, in_blocks=1, split=1, steps=4, width=8, ones=8)
    fours = np.zeros((4, 8, 4), np.int8)
    fours[:2], fours[2:] = 64, -64
    packed = pack_chains(fours.view("<i4"), np.arange(4, dtype=np.int32), layout)
    assert packed[layout.ones] == 2
    pairs = packed[layout.offsets : layout.offsets + 4].reshape(2, 2)
    assert all(low < 2 <= high for low, high in np.sort(pairs, 1))
