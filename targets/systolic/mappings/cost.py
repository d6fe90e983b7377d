"""What a candidate mapping of a product costs, in closed form.

Cycles are the slowest of what overlaps, plus what does not:

* array: the tiles of the busiest pod one after another (``array_intervals``), each as long as
  what streams through it, and no shorter than the next one's capture;
* DRAM: bytes of all LOADs and STOREs at peak bandwidth, and their latency over the requests
  that may be in flight; interconnect: the same bytes over its links;
* rings: a tile can only be loaded when its slot is free, so that a ring of s slots turns in no
  less than s-th of latency + transfer + use;
* ports of the scratchpad, the vector unit and the way out of the accumulators, per pod;
* before: latency and the first tiles; after: the array's skew and the last tile's epilogue.

Halos of input tiles are estimated from whole output lines; a program's timing counts them
exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.formats import ACCUMULATOR_BYTES, Format
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.mappings.memory import Operands
from motet.targets.systolic.mappings.space import Candidates
from motet.targets.systolic.workload.graph import Step
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct, ProductShape

Numbers = Any
"""float64 array [candidates]."""
HANDOVER_CYCLES = 100
"""Interconnect, ports and semaphores between two engines, roughly."""


@dataclass(frozen=True)
class Question:
    """A step to be mapped, and the machine."""

    step: Step
    description: ArrayDescription
    format: Format
    operands: Operands
    stores_output: bool

    @property
    def layer(self) -> Convolution | MatrixProduct:
        """The product."""
        assert isinstance(self.step.layer, (Convolution, MatrixProduct))
        return self.step.layer

    @property
    def shape(self) -> ProductShape:
        """The product that the layer is."""
        return self.layer.product_shape

    @property
    def passes(self) -> int:
        """VECTORs per output tile."""
        epilogue = self.step.epilogue
        residual, scales = epilogue.residual is not None, epilogue.requantise is not None
        activation = epilogue.activation is not Activation.NONE
        if epilogue.dequantise is not None:
            return 1 + residual + (epilogue.bias is not None)
        return max(residual + scales, int(activation))

    @property
    def input_bytes(self) -> float:
        """Of a word of the input."""
        return self.format.input_bits / 8

    @property
    def weight_bytes(self) -> float:
        """Of a word of the weight."""
        return self.format.weight_bits / 8

    @property
    def output_bytes(self) -> float:
        """Of a value of the output, and of a residual."""
        return self.format.output_bits / 8


@dataclass(frozen=True)
class Rounds:
    """How often the loops turn, and how often operands are loaded; arrays [candidates]."""

    groups: Numbers
    rows: Numbers
    columns: Numbers
    deep: Numbers
    input_passes: Numbers
    weight_passes: Numbers

    @property
    def tiles(self) -> Numbers:
        """Output tiles of the busiest pod."""
        return self.groups * self.rows * self.columns


def estimate_cycles(made: Candidates, asked: Question) -> tuple[Numbers, Numbers]:
    """(cycles, DRAM bytes) of every candidate."""
    rounds = _rounds(made, asked)
    array = _array_cycles(made, asked, rounds)
    inputs, weights, others = _dram_bytes(made, asked, rounds)
    traffic = inputs + weights + others
    per_byte = 1 / asked.description.dram_bytes_per_cycle
    bound = np.maximum(array, traffic * per_byte)
    for other in (
        _link_cycles(made, asked, traffic),
        _request_cycles(made, asked, rounds),
        _ring_cycles(made, asked, rounds, array, inputs, weights),
        _pod_cycles(made, asked, rounds, array),
    ):
        bound = np.maximum(bound, other)
    return bound + _ends(made, asked), traffic


def _rounds(made: Candidates, asked: Question) -> Rounds:
    shape = asked.shape
    groups: Numbers = _ceil(shape.groups, made.group_pods)
    rows: Numbers = _ceil(_ceil(shape.m, made.tile_rows), made.row_pods)
    columns = _ceil(_ceil(shape.n, made.tile_columns), made.column_pods)
    deep = _ceil(shape.k, made.tile_depth)
    by_rows = made.rows_outermost == 1
    kept_inputs = made.input_slots >= np.where(by_rows, deep, deep * rows)
    kept_weights = made.weight_slots >= np.where(by_rows, deep * columns, deep)
    return Rounds(
        groups,
        rows,
        columns,
        deep,
        np.where(kept_inputs, 1, columns),
        np.where(kept_weights, 1, rows),
    )


def _array_cycles(made: Candidates, asked: Question, rounds: Rounds) -> Numbers:
    """The busiest pod's tiles back to back; narrow ports slow streaming down."""
    shape, pod = asked.shape, made.pod
    pods: Numbers
    width = pod.scratchpad.port_bytes
    inputs, weights = asked.input_bytes / width, asked.weight_bytes / width
    if made.dataflow == "weight-stationary":
        size, part, pods = shape.m, made.tile_rows, made.row_pods
        other, slow = rounds.columns * rounds.deep, made.tile_depth * inputs
    elif made.dataflow == "output-stationary":
        size, part, pods = shape.k, made.tile_depth, 1
        other = rounds.columns * rounds.rows
        slow = np.maximum(made.tile_rows * inputs, made.tile_columns * weights)
    else:
        size, part, pods = shape.n, made.tile_columns, made.column_pods
        other, slow = rounds.rows * rounds.deep, made.tile_depth * weights
    turns = _ceil(_ceil(size, part), pods)
    last = np.minimum(part, size - (turns - 1) * pods * part)
    slow = np.maximum(slow, 1.0)
    swept = (turns - 1) * np.maximum(part * slow, pod.rows) + np.maximum(last * slow, pod.rows)
    return rounds.groups * other * swept


def _dram_bytes(
    made: Candidates, asked: Question, rounds: Rounds
) -> tuple[Numbers, Numbers, Numbers]:
    """Bytes of input, of weights, and of all else (output, residual, vectors)."""
    groups, m, n, k = asked.shape
    parts = asked.operands
    inputs = np.zeros(len(made.grid))
    if parts.loads_input:
        tiles = groups * (m / made.tile_rows) * (k / made.tile_depth)
        inputs = tiles * _tile_words(made, asked) * rounds.input_passes * made.input_copies
        inputs = inputs * asked.input_bytes
    weights = groups * k * n * rounds.weight_passes * made.weight_copies * asked.weight_bytes
    values = groups * m * n * (int(parts.loads_residual) + int(asked.stores_output))
    others = values * asked.output_bytes
    vectors = parts.vectors * groups * n * ACCUMULATOR_BYTES
    return inputs, weights, others + vectors * made.weight_copies


def _tile_words(made: Candidates, asked: Question) -> Numbers:
    """Different words of DRAM in an input tile."""
    dense = made.tile_rows * made.tile_depth
    layer = asked.layer
    if isinstance(layer, MatrixProduct):
        return dense
    (_, width), taps = layer.out_size, layer.kernel[0] * layer.kernel[1]
    channels = made.tile_depth / taps + np.where(made.tile_depth % taps, 1 - 1 / taps, 0)
    channels = np.minimum(channels, layer.in_channels // layer.groups)
    lines = made.tile_rows / width + np.where(made.tile_rows % width, 1 - 1 / width, 0)
    high = _reach(lines, layer.kernel[0], layer.stride[0], layer.dilation[0])
    wide = _reach(
        np.minimum(made.tile_rows, width), layer.kernel[1], layer.stride[1], layer.dilation[1]
    )
    wide = np.minimum(wide, layer.in_width)
    high = np.minimum(high, layer.in_height * layer.batch)
    return np.minimum(dense, channels * high * wide)


def _reach(outputs: Numbers, kernel: int, stride: int, dilation: int) -> Numbers:
    """Different inputs along one axis that ``outputs`` positions read."""
    return np.minimum(outputs * kernel, (outputs - 1) * stride + dilation * (kernel - 1) + 1)


def _link_cycles(made: Candidates, asked: Question, traffic: Numbers) -> Numbers:
    """Bytes over the links: one for all on a bus, else one per DRAM channel and pod."""
    interconnect, dram = asked.description.interconnect, asked.description.dram
    links = 1 if interconnect.kind == "bus" else dram.channels
    outputs = 0 if asked.stores_output else asked.shape.groups * asked.shape.m * asked.shape.n
    pods = made.group_pods * made.row_pods * made.column_pods
    moved = outputs * asked.output_bytes * np.where(pods > 1, 1, 0)
    return traffic / links / interconnect.link_bytes + moved / interconnect.link_bytes


def _loads(made: Candidates, asked: Question, rounds: Rounds) -> tuple[Numbers, Numbers]:
    """LOADs of input and of weight tiles, of all pods."""
    shape = asked.shape
    inputs = np.zeros(len(made.grid))
    if asked.operands.loads_input:
        tiles = shape.groups * _ceil(shape.m, made.tile_rows) * rounds.deep
        inputs = tiles * rounds.input_passes * made.input_copies
    tiles = shape.groups * _ceil(shape.n, made.tile_columns) * rounds.deep
    return inputs, tiles * rounds.weight_passes * made.weight_copies


def _request_cycles(made: Candidates, asked: Question, rounds: Rounds) -> Numbers:
    """Every LOAD is a DMA request for at least a latency; so many are in flight at once."""
    inputs, weights = _loads(made, asked, rounds)
    dram = asked.description.dram
    return (inputs + weights) * dram.latency_cycles / dram.dma_requests


def _ring_cycles(
    made: Candidates,
    asked: Question,
    rounds: Rounds,
    array: Numbers,
    inputs: Numbers,
    weights: Numbers,
) -> Numbers:
    """A slot is taken for latency, transfer and use of its tile before the next can have it."""
    use = array / (rounds.tiles * rounds.deep)
    links = asked.description.interconnect.link_bytes
    per_byte = 1 / min(asked.description.dram_bytes_per_cycle, links)
    per_byte += 1 / made.pod.scratchpad.port_bytes  # the last of it is written after that
    late = asked.description.dram.latency_cycles + HANDOVER_CYCLES
    late += made.pod.rows + made.pod.columns  # a product frees its operands when it is complete
    input_loads, weight_loads = _loads(made, asked, rounds)
    input_held, weight_held = _held(made, rounds)
    bound = _sum_ring_cycles(made, asked, rounds, use)
    for moved, loads, slots, own, held in (
        (inputs, input_loads, made.input_slots, rounds.rows * rounds.input_passes, input_held),
        (weights, weight_loads, made.weight_slots, rounds.columns * rounds.weight_passes,
         weight_held),
    ):  # fmt: skip
        one = late + moved / np.maximum(loads, 1) * per_byte + use * held
        turns = np.where(loads > 0, rounds.groups * own * rounds.deep / slots, 0)
        bound = np.maximum(bound, np.where(turns > 1, turns * one, 0))
    return bound


def _held(made: Candidates, rounds: Rounds) -> tuple[Numbers, Numbers]:
    """Products from an input (a weight) tile's first use to its last, both counted."""
    by_rows, deep = made.rows_outermost == 1, rounds.deep
    inputs = np.where(by_rows, deep, deep * rounds.rows) * (rounds.columns - 1) + 1
    weights = np.where(by_rows, deep * rounds.columns, deep) * (rounds.rows - 1) + 1
    return (
        np.where(rounds.input_passes == 1, inputs, 1),
        np.where(rounds.weight_passes == 1, weights, 1),
    )


def _sum_ring_cycles(made: Candidates, asked: Question, rounds: Rounds, use: Numbers) -> Numbers:
    """An accumulator slot is taken until its tile has been stored."""
    pod = made.pod
    tile = made.tile_rows * made.tile_columns
    after: Numbers = pod.rows + pod.columns + HANDOVER_CYCLES
    after = after + tile * ACCUMULATOR_BYTES / _accumulator_bytes(made)
    after = after + asked.passes * (tile / pod.vector.lanes + pod.vector.latency_cycles)
    turns = rounds.tiles / made.accumulator_slots
    return np.where(turns > 1, turns * (rounds.deep * use + after), 0)


def _pod_cycles(made: Candidates, asked: Question, rounds: Rounds, array: Numbers) -> Numbers:
    """Scratchpad ports, vector unit and the way out, of the busiest pod."""
    pod, parts = made.pod, asked.operands
    tile = made.tile_rows * made.tile_columns
    ports = array * (2.0 if made.dataflow == "output-stationary" else 1.0)
    if made.dataflow != "output-stationary":
        ports = ports + rounds.tiles * rounds.deep * pod.rows
    per_byte = 1 / pod.scratchpad.port_bytes
    if parts.loads_input:
        dense = made.tile_rows * made.tile_depth * per_byte * asked.input_bytes
        ports = ports + rounds.groups * rounds.rows * rounds.deep * rounds.input_passes * dense
    dense = made.tile_depth * made.tile_columns * per_byte * asked.weight_bytes
    ports = ports + rounds.groups * rounds.columns * rounds.deep * rounds.weight_passes * dense
    if asked.step.epilogue.residual is not None:
        residual = rounds.tiles * tile * per_byte * asked.output_bytes
        ports = ports + residual * (1 + int(parts.loads_residual))
    vector = rounds.tiles * asked.passes * tile / pod.vector.lanes
    out = rounds.tiles * tile * ACCUMULATOR_BYTES / _accumulator_bytes(made)
    return np.maximum(np.maximum(ports / pod.scratchpad.ports, vector), out)


def _accumulator_bytes(made: Candidates) -> float:
    return float(made.pod.accumulators.port_bytes)


def _ends(made: Candidates, asked: Question) -> Numbers:
    """Before the first product and after the last."""
    pod, dram = made.pod, asked.description.dram
    tile = made.tile_rows * made.tile_columns
    first = made.tile_depth * made.tile_columns * asked.weight_bytes
    if asked.operands.loads_input:
        first = first + _tile_words(made, asked) * asked.input_bytes
    last = asked.passes * (tile / pod.vector.lanes + pod.vector.latency_cycles)
    last = last + tile * ACCUMULATOR_BYTES / _accumulator_bytes(made) + pod.columns + 2 * pod.rows
    return dram.latency_cycles + first / asked.description.dram_bytes_per_cycle + last


def _ceil(value: Numbers, divisor: Numbers) -> Numbers:
    return -(-value // divisor)
