"""Operators to measure for the cost model: layers of the zoo's networks, and relatives of them.

Families come in turns, each in an order shuffled by a fixed seed: however early measuring
stops, what was measured is a fair sample.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import islice

from motet.benchmarks.cost_model_convolutions import (
    LARGEST_FLOPS,
    convolutions,
    in_turns,
    integer_convolutions,
)
from motet.targets.host.kernels.attending.family import FAMILY_NAME as ATTENTION
from motet.targets.host.space import Problem

# (batch, rows, columns, depth): layers of transformers, classifiers of convolutional networks.
_CONSTANT_PRODUCTS = (
    (1, 128, 768, 768), (1, 128, 3072, 768), (1, 128, 768, 3072), (1, 128, 2304, 768),
    (1, 197, 192, 192), (1, 197, 576, 192), (1, 197, 768, 192), (1, 197, 192, 768),
    (1, 1, 1000, 512), (1, 1, 1000, 1024), (1, 1, 1000, 1280), (1, 1, 1000, 2048),
    (1, 1, 4096, 4096), (1, 1, 1280, 960), (1, 100, 1024, 256), (1, 10, 512, 512),
)  # fmt: skip
_COMPUTED_PRODUCTS = (
    (12, 128, 128, 64), (12, 128, 64, 128), (3, 197, 197, 64), (3, 197, 64, 197),
    (8, 16, 16, 32), (1, 256, 256, 256), (1, 64, 64, 1024), (12, 1, 128, 64),
)  # fmt: skip


def _product(sizes: Sequence[int], constant: int, form: str) -> Problem:
    batch, rows, columns, depth = sizes
    return Problem.of(
        "matmul", batch=batch, rows=rows, columns=columns, depth=depth, constant=constant,
        paired=0, transposed=int(form == "transposed"), computed=int(form != "plain"), bits=32,
    )  # fmt: skip


def _near(size: int, chance: random.Random) -> int:
    """An extent of that order; often a round one."""
    if size == 1:
        return chance.choice((1, 1, 2, 4, 8))
    changed = max(2, int(size * chance.choice((0.25, 0.4, 0.5, 0.75, 1, 1.3, 1.5, 2))))
    return changed if chance.random() < 0.3 else -(-changed // 8) * 8


def products() -> list[Problem]:
    """Problems of family ``matmul``."""
    chance = random.Random(1)
    found = list[Problem]()
    for turn in range(8):
        for constant, known in ((1, _CONSTANT_PRODUCTS), (0, _COMPUTED_PRODUCTS)):
            for sizes in known:
                batch, *others = sizes
                if turn:
                    batch, *others = sizes[0], *(_near(size, chance) for size in sizes[1:])
                    others[0] = -1 if constant and chance.random() < 0.1 else others[0]
                forms = ("plain", "transposed", "moved") if batch > 1 else ("plain", "transposed")
                form = forms[0] if constant and not turn else chance.choice(forms)
                found.append(_product((batch, *others), constant, form))
    chance.shuffle(found)
    return [problem for problem in dict.fromkeys(found) if _flops(problem) <= LARGEST_FLOPS]


def _flops(product: Problem) -> float:
    """Of a product, its open rows guessed."""
    batch, rows, columns, depth = (product[n] for n in ("batch", "rows", "columns", "depth"))
    return 2.0 * batch * (rows if rows > 0 else 96) * columns * depth


def pools(block: int) -> list[Problem]:
    """Problems of family ``pool``: between convolutions, and of whole planes."""
    chance = random.Random(2)
    found = list[Problem]()
    for _ in range(60):
        kernel, stride, padding = chance.choice(((3, 2, 1), (2, 2, 0), (3, 1, 1), (5, 1, 2)))
        size = chance.choice((7, 8, 14, 20, 28, 35, 56, 112))
        if chance.random() < 0.3:
            kernel, stride, padding = size, 1, 0
        out = (size + 2 * padding - kernel) // stride + 1
        found.append(Problem.of(
            "pool", batch=chance.choice((-1, 1, 1, 2)),
            channels=8 * chance.choice((2, 4, 8, 16, 24, 32, 64, 128, 256)),
            height=size, width=size, out_height=out, out_width=out,
            kernel_h=kernel, kernel_w=kernel, stride_h=stride, stride_w=stride,
            dilation_h=1, dilation_w=1, top=padding, left=padding,
            block=chance.choice((0, block, block, block)), item_bytes=4,
            maximum=int(kernel < size and chance.random() < 0.7),
        ))  # fmt: skip
    return [problem for problem in dict.fromkeys(found) if problem["channels"] % block == 0]


def recurrences() -> list[Problem]:
    """Problems of family ``recurrence``: LSTM, GRU and RNN."""
    chance = random.Random(3)
    found = list[Problem]()
    for _ in range(60):
        gates, together = chance.choice(((4, 4), (4, 4), (3, 2), (3, 3), (1, 1)))
        found.append(Problem.of(
            "recurrence", steps=chance.choice((-1, 1, 10, 32, 100)),
            batch=chance.choice((1, 1, 1, 2, 4, 8, -1)),
            hidden=chance.choice((16, 32, 50, 64, 100, 128, 200, 256, 384, 512)),
            gates=gates, together=together, lengths=0, bits=32,
        ))  # fmt: skip
    return list(dict.fromkeys(found))


# (heads, queries, keys, elements of a head): of transformers for text and pictures.
_ATTENTIONS = (
    (12, 128, 128, 64), (3, 197, 197, 64), (8, 16, 16, 32), (4, 64, 64, 16), (12, 1, 128, 64),
    (8, 512, 512, 64), (6, 50, 50, 64), (8, 100, 950, 32), (2, 1024, 1024, 32),
)  # fmt: skip


def attentions() -> list[Problem]:
    """Problems of family ``attention``."""
    chance = random.Random(5)
    found = list[Problem]()
    for turn in range(10):
        for heads, queries, keys, depth in _ATTENTIONS:
            same = queries == keys
            if turn:
                heads = max(1, int(heads * chance.choice((0.5, 1, 1, 1.5, 2))))
                queries, keys = _near(queries, chance), _near(keys, chance)
                depth = chance.choice((16, 24, 32, 48, 64, 64, 80, 128))
                opened = chance.random() < 0.1
                queries, keys = (-1, -1) if opened else (queries, queries if same else keys)
            found.append(Problem.of(
                ATTENTION, batch=chance.choice((1, 1, 1, 2, 4)) if turn else 1, heads=heads,
                queries=queries, keys=keys, depth=depth, width=depth,
                mask=int(chance.random() < 0.5),
            ))  # fmt: skip
    return [p for p in dict.fromkeys(found) if p["heads"] * p["queries"] * p["keys"] < 4e6]


def problems(lanes: int) -> list[Problem]:
    """Every problem there is to measure, in the order to measure them in."""
    small = iter(in_turns([pools(lanes), recurrences()]))
    others = [
        (iter(convolutions(lanes)), 5), (iter(integer_convolutions(lanes)), 2),
        (iter(products()), 2), (small, 1), (iter(attentions()), 1),
    ]  # fmt: skip
    found = list[Problem]()
    while together := [problem for source, count in others for problem in islice(source, count)]:
        found += together
    return found
