"""Runs all models of a bundle together: wired inputs read upstream outputs in place.

The frames of one round belong together, because a downstream frame is bound to the
memory of the upstream ones. Such a chain is kept per input shapes and serves one round
at a time, as a frame serves one call. A model that reads an output whose shape depends on
data has no place in a chain: it is given a copy of that output, in a frame of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from motet.runtime.device import Array
from motet.runtime.element_types import to_bits
from motet.runtime.errors import InputError
from motet.runtime.late import waiting
from motet.runtime.model import ModelSession
from motet.runtime.pool import IdlePool
from motet.runtime.symbols import ShapeKey
from motet.runtime.vm import Frame, fill

Chain = dict[str, Frame]
"""A frame per model that can be bound before a round, in the order in which they run."""

MAX_IDLE_CHAINS = 8
"""Chains that stay bound between rounds."""


class WiredModels:
    """The models of a bundle and the wires between them; may be used from many threads."""

    def __init__(self, models: Mapping[str, ModelSession]) -> None:
        self._models = models
        self._unsettled = _unsettled(models)
        self._pool = IdlePool[tuple[ShapeKey, ...], Chain](MAX_IDLE_CHAINS)

    def run(self, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """One round: model -> output -> new array. Raises ``InputError`` on wrong inputs."""
        given = self.check(inputs)
        key = tuple(tuple(array.shape for array in arrays.values()) for arrays in given.values())
        chain = self._pool.take(key) or self.bind(given)
        results: dict[str, dict[str, Array]] = {}
        try:
            for name, model in self._models.items():
                if name in self._unsettled:
                    results[name] = model.run_arrays(self._with_wired(name, given[name], results))
                else:
                    fill(chain[name], given[name])
                    chain[name].run()
                    results[name] = model.copy_outputs(chain[name])
            return {
                name: model.outputs.grouped(results[name]) for name, model in self._models.items()
            }
        finally:
            self._pool.give(key, chain)

    def check(self, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[int, Array]]:
        """The inputs of all models that no wire feeds; raises ``InputError`` on wrong ones."""
        return {name: self._given(name, inputs.get(name, {})) for name in self._models}

    def _given(self, name: str, inputs: Mapping[str, Any]) -> dict[int, Array]:
        """The checked inputs of a model that no wire feeds, by input number."""
        model = self._models[name]
        for own, wire in model.entry.wires.items():
            if own in inputs:
                raise InputError(
                    f"model {name!r}: input {own!r} is wired to {wire!r}: leave it out, or run "
                    "the model alone"
                )
        return model.check_inputs(inputs, model.entry.wires)

    def _with_wired(
        self, name: str, given: Mapping[int, Array], results: Mapping[str, Mapping[str, Array]]
    ) -> dict[int, Array]:
        """All inputs of a model by number, the wired ones out of ``results``."""
        model = self._models[name]
        arrays = dict(given)
        for number, info in enumerate(model.program.inputs):
            if info.name in model.entry.wires:
                source, _, output = model.entry.wires[info.name].partition(".")
                arrays[number] = to_bits(results[source][output], info.dtype)
        return dict(sorted(arrays.items()))

    def bind(self, given: Mapping[str, Mapping[int, Array]]) -> Chain:
        """A new chain for inputs of these shapes (model -> input number -> array)."""
        chain: Chain = {}
        for name, model in self._models.items():
            if name in self._unsettled:
                continue
            numbers = {info.name: i for i, info in enumerate(model.program.inputs)}
            wired = {
                numbers[own]: self._output(chain, wire) for own, wire in model.entry.wires.items()
            }
            arrays = {**given[name], **wired}
            chain[name] = model.bind(tuple(arrays[i].shape for i in range(len(arrays))), wired)
        return chain

    def _output(self, chain: Chain, wire: str) -> Array:
        model, _, output = wire.partition(".")
        names = [info.name for info in self._models[model].program.outputs]
        return chain[model].output(names.index(output))


def _unsettled(models: Mapping[str, ModelSession]) -> frozenset[str]:
    """The models whose wired inputs have no place before a round, and those behind them."""
    late: dict[str, frozenset[str]] = {}
    unsettled: set[str] = set()
    for name, model in models.items():
        sources = [wire.partition(".")[::2] for wire in model.entry.wires.values()]
        if any(source in unsettled or output in late[source] for source, output in sources):
            unsettled.add(name)
        program, waits = model.program, waiting(model.program).registers
        pairs = zip(program.outputs, program.output_registers, strict=True)
        late[name] = frozenset(info.name for info, register in pairs if register in waits)
    return frozenset(unsettled)
