"""Mixed precision: a setting for each product, by what it costs and by what it errs.

A product's options are the rungs of a ladder of settings. The cost is the bytes of its weights
with their scales; products that share weights share a rung. Under a size the outputs' noise
is least; under a noise the bytes are least, and after that, with the bytes of every product as
they are, the bit operations (multiplications times both operands' bits). A product of computed
values stores nothing: float32, which would cost nothing, is none of its rungs.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from motet.compiler.quantizing.budgets import Items, Option, least_cost, least_noise
from motet.compiler.quantizing.choices import Choice
from motet.compiler.quantizing.figures import decibels
from motet.compiler.quantizing.products import Product
from motet.compiler.quantizing.sensitivity import Sensitivities, Sensitivity
from motet.targets.quantized.notation import Setting

Rung = Setting | None
"""A setting, or None: float32."""

_FLOAT_BITS = 32
_STORED_BITS = (4, 8, 16)
"""Bits that ONNX stores integers in."""


@dataclass(frozen=True)
class Mix:
    """A rung (its index) for every product, in the order of the graph; what that comes to.

    size: bytes of weights and their scales. noise: of the outputs, estimated: the sum of what
    each product alone gives.
    """

    rungs: tuple[int, ...]
    size: int
    noise: float


def stored_bytes(product: Product, choice: Choice | None) -> int:
    """Bytes of a product's weights and their scales in the file; 0 for computed ones."""
    values = product.weights.values
    if values is None:
        return 0
    if choice is None:
        return 4 * int(values.size)
    kind, axes = choice.weights, product.weights.axes
    channels = 1 if axes.channel is None else int(values.shape[axes.channel])
    if kind.granularity != "vector":
        scales = channels if kind.granularity == "channel" else 1
        return _bytes(int(values.size) + scales, kind.bits) + 4 * scales
    depth = int(values.shape[axes.reduction])
    vectors = int(values.size) // max(depth, 1) * -(-depth // kind.vector)
    if kind.scale_bits is None:
        return _bytes(values.size, kind.bits) + 4 * vectors
    return _bytes(values.size, kind.bits) + _bytes(vectors, kind.scale_bits) + 4 * channels


def _bytes(count: int, bits: int) -> int:
    stored = next(found for found in _STORED_BITS if bits <= found)
    return -(-count * stored // 8)


class Mixer:
    """Chooses among ``rungs`` by what ``found`` measured of them.

    beside: bytes by rung that a product costs beside its weights, for nodes and their names.
    """

    def __init__(
        self, found: Sensitivities, rungs: Sequence[Rung], beside: Sequence[int] = ()
    ) -> None:
        self.found, self.rungs = found, tuple(rungs)
        self._beside = beside or [0] * len(rungs)
        self._groups = _groups(found.rows)
        self._able = [self._rungs_of(group) for group in self._groups]
        self._items: Items = [
            [Option(self._cost(group, rung), self._noise(group, rung)) for rung in able]
            for group, able in zip(self._groups, self._able, strict=True)
        ]

    @property
    def weights(self) -> int:
        """Weights of all products, shared ones once."""
        firsts = [self.found.rows[group[0]].product.weights.values for group in self._groups]
        return sum(values.size for values in firsts if values is not None)

    @property
    def sizes(self) -> tuple[int, int]:
        """The least and the most bytes that a mix may cost."""
        costs = [[option.cost for option in options] for options in self._items]
        return sum(map(min, costs)), sum(map(max, costs))

    @property
    def quietest(self) -> Mix:
        """The least noise that there is, at the least bytes that have it."""
        return self._mix([min(range(len(o)), key=lambda i: (o[i].noise, o[i].cost))
                          for o in self._items])  # fmt: skip

    def uniform(self, rung: int) -> Mix:
        """Every product at ``rung``, also those that could not choose it."""
        return self._of([rung] * len(self._groups))

    def floats(self) -> dict[str, Rung]:
        """float32 for every product."""
        return {row.product.name: None for row in self.found.rows}

    @property
    def float_bytes(self) -> int:
        """Bytes of all products' weights as float32."""
        return 4 * self.weights

    def under_size(self, size: int) -> Mix | None:
        """The least noise at a cost of ``size`` bytes at most; None: nothing is so small."""
        places = least_noise(self._items, size)
        return None if places is None else self._mix(places)

    def under_noise(self, noise: float) -> Mix | None:
        """The fewest bytes at no more than ``noise``; None: nothing is so quiet."""
        places = least_cost(self._items, noise)
        if places is None:
            return None
        return self._mix(self._fewest_bit_operations(places, noise))

    def sqnr_db(self, noise: float) -> float:
        """What ``noise`` comes to, dB of the outputs."""
        return decibels(self.found.signal, noise)

    def settings(self, mix: Mix) -> Mapping[str, Rung]:
        """Each product's setting, by name."""
        rows = zip(self.found.rows, mix.rungs, strict=True)
        return {row.product.name: self.rungs[rung] for row, rung in rows}

    def _fewest_bit_operations(self, places: Sequence[int], noise: float) -> list[int]:
        """Other places of equal bytes, as the noise allows."""
        equal = [
            [i for i, option in enumerate(options) if option.cost == options[place].cost]
            for options, place in zip(self._items, places, strict=True)
        ]
        items = [
            [
                Option(self._bit_operations(group, able[i]), options[i].noise)
                for i in candidates
            ]
            for group, able, options, candidates in zip(
                self._groups, self._able, self._items, equal, strict=True
            )
        ]  # fmt: skip
        found = least_cost(items, noise)
        assert found is not None  # the places themselves are among them
        return [candidates[i] for candidates, i in zip(equal, found, strict=True)]

    def _rungs_of(self, group: Sequence[int]) -> list[int]:
        every = list(range(len(self.rungs)))
        if self.found.rows[group[0]].product.weights.values is not None:
            return every
        return [rung for rung in every if self.rungs[rung] is not None] or every

    def _cost(self, group: Sequence[int], rung: int) -> int:
        return self._size(group, rung) + len(group) * self._beside[rung]

    def _size(self, group: Sequence[int], rung: int) -> int:
        row = self.found.rows[group[0]]
        return stored_bytes(row.product, row.choices[rung])

    def _noise(self, group: Sequence[int], rung: int) -> float:
        return math.fsum(float(self.found.rows[index].noises[rung]) for index in group)

    def _bit_operations(self, group: Sequence[int], rung: int) -> int:
        setting = self.rungs[rung]
        bits = _FLOAT_BITS**2
        if setting is not None:
            bits = setting.weights.bits * setting.activations.bits
        return bits * sum(self.found.rows[index].macs for index in group)

    def _mix(self, places: Sequence[int]) -> Mix:
        return self._of([able[place] for able, place in zip(self._able, places, strict=True)])

    def _of(self, by_group: Sequence[int]) -> Mix:
        rungs = [0] * len(self.found.rows)
        for group, rung in zip(self._groups, by_group, strict=True):
            for index in group:
                rungs[index] = rung
        pairs = list(zip(self._groups, by_group, strict=True))
        size = sum(self._size(*pair) for pair in pairs)
        return Mix(tuple(rungs), size, math.fsum(self._noise(*pair) for pair in pairs))


def _groups(rows: Sequence[Sensitivity]) -> list[list[int]]:
    """Indices of products, those together that read the same stored weights."""
    found: dict[object, list[int]] = {}
    for index, row in enumerate(rows):
        weights = row.product.weights
        key = index if weights.values is None else weights.tensor
        found.setdefault(key, []).append(index)
    return list(found.values())
