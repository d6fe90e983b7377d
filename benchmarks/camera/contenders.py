"""Who runs: each engine in the ways that could be its best, and as it comes."""

from __future__ import annotations

from motet.benchmarks.camera.processes import Contender

MOTET, DEFAULTS, TUNED, OPENVINO = "motet", "onnxruntime", "onnxruntime tuned", "openvino"
GROUPS = (MOTET, DEFAULTS, TUNED, OPENVINO)
"""Of each the best contender stands for all."""

SERIAL = Contender("motet, one after another", "motet", "serial", 2)
"""For batches alone: every run has both threads, and no other runs beside it."""


def contenders(openvino: str | None) -> list[Contender]:
    """All of them; ``openvino``: the Python that has it, None leaves it out."""
    found = [Contender(MOTET, "motet", "submit", 1, workers=2),
             Contender(MOTET, "motet", "submit", 2, workers=2),
             Contender(MOTET, "motet", "submit", 2, workers=1),
             Contender(DEFAULTS, "onnxruntime", "own", None),
             Contender(TUNED, "onnxruntime", "own", 1),
             Contender(TUNED, "onnxruntime", "own", 2),
             Contender(TUNED, "onnxruntime", "queue", 1, workers=2),
             Contender(TUNED, "onnxruntime", "queue", 1, workers=3),
             Contender(TUNED, "onnxruntime", "queue", 2, workers=1)]  # fmt: skip
    if openvino is None:
        return found
    ways = (("own", 1, 1, "LATENCY"), ("own", 2, 1, "LATENCY"), ("own", 2, 1, "THROUGHPUT"),
            ("queue", 1, 2, "LATENCY"), ("queue", 1, 3, "LATENCY"),
            ("queue", 2, 1, "LATENCY"))  # fmt: skip
    return found + [
        Contender(OPENVINO, "openvino", way, threads, workers, hint, openvino)
        for way, threads, workers, hint in ways
    ]
