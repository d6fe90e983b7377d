"""The blocks of the papers' networks as edge lists, one operator per line of the network."""

from __future__ import annotations

from motet.passes.scheduling.graph import OperatorGraph

Edges = dict[str, str]
"""For each operator, in order, the operators that it reads, with blanks between them."""


def graph_of(reads: Edges) -> OperatorGraph:
    edges = [(producer, name) for name, before in reads.items() for producer in before.split()]
    return OperatorGraph.from_edges(reads, edges)


FIRE_BYPASS = {
    "squeeze": "",
    "expand3": "squeeze",
    "expand1": "squeeze",
    "concat": "expand1 expand3",
    "bypass": "",
    "join": "concat bypass",
}
FIRE_IDENTITY = {
    "squeeze": "",
    "expand3": "squeeze",
    "expand1": "squeeze",
    "concat": "expand1 expand3",
    "join": "concat",
}


def _branches(*lengths: int) -> Edges:
    """Chains side by side that one join ends."""
    reads: Edges = {}
    for chain, length in enumerate(lengths):
        for step in range(length):
            reads[f"b{chain}.{step}"] = f"b{chain}.{step - 1}" if step else ""
    reads["join"] = " ".join(f"b{chain}.{n - 1}" for chain, n in enumerate(lengths))
    return reads


INCEPTION_A = _branches(1, 2, 3, 2)
INCEPTION_B = _branches(1, 3, 1)
INCEPTION_C = _branches(1, 3, 5, 2)
INCEPTION_D = _branches(2, 4, 1)
INCEPTION_E = {
    "b1": "",
    "b3": "",
    "b3a": "b3",
    "b3b": "b3",
    "d1": "",
    "d2": "d1",
    "d2a": "d2",
    "d2b": "d2",
    "pool": "",
    "pool1": "pool",
    "join": "b1 b3a b3b d2a d2b pool1",
}


def _separable(name: str, reads: str) -> Edges:
    return {f"{name}.0": reads, f"{name}.1": f"{name}.0"}


NASNET_NORMAL = {
    "left": "",
    "right": "",
    **_separable("sep0", "right"),
    **_separable("sep1", "left"),
    **_separable("sep2", "left"),
    **_separable("sep3", "left"),
    "avg0": "right",
    "avg1": "left",
    "avg2": "left",
    **_separable("sep4", "right"),
    "join": "left right sep0.1 sep1.1 sep2.1 sep3.1 avg0 avg1 avg2 sep4.1",
}
NASNET_REDUCTION = {
    "left": "",
    "right": "",
    **_separable("sep0", "right"),
    **_separable("sep1", "left"),
    "c0": "sep0.1 sep1.1",
    "max0": "right",
    **_separable("sep2", "left"),
    "c1": "max0 sep2.1",
    "avg0": "right",
    **_separable("sep3", "left"),
    "avg1": "c0",
    **_separable("sep4", "c0"),
    "max1": "right",
    "join": "c1 avg0 sep3.1 avg1 sep4.1 max1",
}


def nasnet_first() -> Edges:
    """The first cell: left is a concatenation of two convolutions, the first pair reads right."""
    reads = NASNET_NORMAL | _separable("sep1", "right")
    del reads["left"]
    return {"half0": "", "half1": "", "left": "half0 half1", **reads}


RANDWIRE = {
    "ws-16-2": "0>6,7,9 1>6,7,15 2>6,10,11 3>9,13 4>6,9,13,14,15 5>8,10,15 6>8,9,12 7>11,15 8>11 "
    "9>11 10>14 11>14 12>14 13>14,15 14>15",
    "ws-32-3": "0>2,13,25,30 1>8,20,22 2>3,16,24,30 3>6,7,26 4>12,22 5>15,21,27 6>11,21,31 "
    "7>8,9,15 8>23,27 9>10,11,19 10>12,30 11>13,15,17,28 12>14,26,31 13>14,16,21,31 14>16,28,29 "
    "15>19,22 16>18 17>18,19 18>24,31 20>21,22 21>23,26 22>31 24>31 25>26 26>31 27>29 29>30,31",
    "ws-32-4": "0>9,11,14,17,31 1>2,3,31 2>4,11,12,14,30 3>4,25 4>9,20,29 5>6,27 6>7,21,27 7>30,31 "
    "8>10,25 9>10,14 10>11,16,22,28 11>16,24 12>13,14,15,16 13>14,22,26 14>23 15>29 16>21 17>26 "
    "18>19,20 19>22,27 20>22 22>25,30 23>27 24>25,26 25>28 26>28 27>28,29 28>29 29>30,31 30>31",
    "ws-32-5": "0>17,20,24 1>10,22,26,29 2>19,22,28 3>6,7,8,9 4>5,7,26 5>6,23,24 6>8 7>8,11,18,23 "
    "8>11,25 9>11,19,27,29 10>12,17,30 11>14,23,30 12>13,25,31 13>16,27,28 14>24 15>16,18,21 "
    "16>17,22 17>21 18>24 19>22 20>23,28,29 22>25 23>30 24>26 25>28 26>28 27>28,29,30 29>31 30>31",
}


def randwire(name: str) -> Edges:
    """A stage: every node is one operator, and a join sums the nodes that no other reads."""
    size = int(name.split("-")[1])
    reads: dict[int, list[str]] = {node: [] for node in range(size)}
    loose = set(range(size))
    for part in RANDWIRE[name].split():
        producer, consumers = part.split(">")
        loose.discard(int(producer))
        for consumer in consumers.split(","):
            reads[int(consumer)].append(f"n{producer}")
    edges = {f"n{node}": " ".join(before) for node, before in reads.items()}
    return edges | {"join": " ".join(f"n{node}" for node in sorted(loose))}
