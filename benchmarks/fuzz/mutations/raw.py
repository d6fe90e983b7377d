"""The file's bytes: flipped, cut, repeated, put in between."""

from __future__ import annotations

from random import Random


def mutate_bytes(content: bytes, chance: Random) -> tuple[bytes, str]:
    """The content with bytes changed, and what was done."""
    what = chance.choice(("flipped", "flipped", "flipped", "cut off", "deleted", "inserted"))
    data = bytearray(content)
    if not data:
        return content, "an empty file"
    start = chance.randrange(len(data))
    if what == "flipped":
        count = chance.choice((1, 1, 2, 4, 16))
        for _ in range(count):
            data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        return bytes(data), f"{count} bits are flipped"
    if what == "cut off":
        return bytes(data[:start]), f"cut off after {start} bytes"
    length = chance.choice((1, 2, 8, 64))
    if what == "deleted":
        del data[start : start + length]
    else:
        data[start:start] = bytes(chance.randrange(256) for _ in range(length))
    return bytes(data), f"{length} bytes {what} at {start}"
