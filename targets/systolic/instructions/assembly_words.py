"""The words of the assembly language: what every field of an instruction is called in text.

A field goes by a name that fits the opcode (``address`` is ``in`` in a matmul and ``to`` in a
load). Every opcode has a name for every field, so that any record at all has a text, also
one that breaks the rules: ``docs/ARRAY_ISA.md`` has the language.
"""

from __future__ import annotations

import enum
from functools import lru_cache

import numpy as np

from motet.targets.systolic.instructions.isa import (
    ENGINES,
    INSTRUCTION,
    Activation,
    Dataflow,
    Engine,
    Flag,
    Function,
    Opcode,
    empty_instructions,
)

FIELDS: tuple[str, ...] = INSTRUCTION.names or ()
PLACE = {name: number for number, name in enumerate(FIELDS)}
FLOATS = ("low", "high", "alpha")
ADDRESSES = ("address", "second_address", "third_address", "accumulator_address")

BITS = np.dtype(
    [(name, f"<u{INSTRUCTION[name].itemsize}") for name in FIELDS],
)
"""``INSTRUCTION`` with its floats as their bits, so that no NaN or -0 is lost."""

DEFAULTS: tuple[int, ...] = tuple(int(x) for x in empty_instructions(1).view(BITS)[0].tolist())
"""Field values that are not written."""

LIMITS: tuple[int, ...] = tuple(1 << (8 * BITS[name].itemsize) for name in FIELDS)

DATAFLOWS = {
    "ws": Dataflow.WEIGHT_STATIONARY,
    "os": Dataflow.OUTPUT_STATIONARY,
    "is": Dataflow.INPUT_STATIONARY,
    "sos": Dataflow.SPATIAL_OUTPUT_STATIONARY,
}
FLAGS = {
    "+acc": Flag.ACCUMULATE,
    "+bias": Flag.BIAS,
    "+resident": Flag.RESIDENT,
    "+accumulators": Flag.ACCUMULATORS,
    "+lowest": Flag.PAD_LOWEST,
}
ALL_FLAGS = sum(int(flag) for flag in Flag)


def _words(values: type[enum.IntEnum]) -> dict[str, int]:
    return {value.name.lower(): int(value) for value in values if value}


FUNCTIONS = _words(Function)
ACTIVATIONS = _words(Activation)
MNEMONICS = _words(Opcode)
ENGINE_NAMES = {engine.name.lower(): int(engine) for engine in Engine}

_SHORT = {"operand": "view", "column": "col", "columns": "cols", "activation": "act",
          "target_pod": "target", "target_pods": "targets",
          "accumulator_address": "acc"}  # fmt: skip
_PRODUCT = {"address": "in", "second_address": "w", "third_address": "bias"}
_OF_OPCODE: dict[int, dict[str, str]] = {
    Opcode.LOAD: {"address": "to"},
    Opcode.MATMUL: _PRODUCT,
    Opcode.CONV1D: {**_PRODUCT, "value": "stride"},
    Opcode.VECTOR: {"second_address": "s", "third_address": "vector"},
    Opcode.TRANSFER: {"address": "to", "second_address": "from", "third_address": "to_acc"},
    Opcode.WAIT: {"semaphore": "queue", "value": "count"},
}
_ORDER = ("operand", "group", "row", "column", "address", "second_address", "third_address",
          "accumulator_address", "rows", "depth", "columns", "semaphore", "value", "activation",
          "alpha", "low", "high", "target_pod", "target_pods", "pod", "function", "dataflow",
          "reserved", "flags")  # fmt: skip
_TILE = ("rows", "columns")
_VIEW = ("operand", "row", "column")


def key(opcode: int, field: str) -> str:
    """What an instruction calls a field; all fields of an instruction have different names."""
    return _OF_OPCODE.get(opcode, {}).get(field) or _SHORT.get(field, field)


@lru_cache(256)
def keys(opcode: int) -> dict[str, int]:
    """Numbers of an opcode's fields by name."""
    return {key(opcode, field): PLACE[field] for field in FIELDS if field != "opcode"}


@lru_cache(256)
def printed(opcode: int) -> list[tuple[int, str, str]]:
    """Fields in the order of the text: number, name with =, and how the value is written."""
    made = []
    for field in (*_ORDER, "step"):
        style = "address" if field in ADDRESSES else "float" if field in FLOATS else "number"
        style = {"activation": "activation", "flags": "flags"}.get(field, style)
        if opcode == Opcode.WAIT and field == "semaphore":
            style = "queue"
        made.append((PLACE[field], f"{key(opcode, field)}=", style))
    return made


@lru_cache(4096)
def always(opcode: int, flags: int, function: int, has_view: bool) -> frozenset[int]:
    """Numbers of the fields that are written even where they are zero: those that it uses."""
    return frozenset(PLACE[field] for field in _used(opcode, flags, function, has_view))


def _used(opcode: int, flags: int, function: int, has_view: bool) -> tuple[str, ...]:
    in_sums = flags & Flag.ACCUMULATORS
    if opcode == Opcode.LOAD:
        return (*_VIEW, "accumulator_address" if in_sums else "address", *_TILE)
    if opcode in (Opcode.MATMUL, Opcode.CONV1D):
        source = _VIEW if flags & Flag.RESIDENT else ("address",)
        bias = ("third_address",) if flags & Flag.BIAS else ()
        stride = ("value",) if opcode == Opcode.CONV1D else ()
        places = ("second_address", "accumulator_address")
        return (*source, *places, *bias, *_TILE, "depth", *stride)
    if opcode == Opcode.VECTOR:
        return (*_vector_source(flags, function), "accumulator_address", *_TILE)
    if opcode == Opcode.STORE or (opcode == Opcode.TRANSFER and has_view):
        return (*_VIEW, "accumulator_address", *_TILE)
    if opcode == Opcode.TRANSFER:
        places = ("accumulator_address", "third_address")
        return (*(places if in_sums else ("second_address", "address")), *_TILE)
    return ("semaphore", "value") if opcode == Opcode.WAIT else ()


def _vector_source(flags: int, function: int) -> tuple[str, ...]:
    if function in (Function.NONE, Function.SCALE):
        return ()
    if Function.COPY <= function <= Function.MAXIMUM:
        return _VIEW if flags & Flag.RESIDENT else ("second_address",)
    return ("third_address",)


def queue_text(number: int) -> str:
    """A queue as ``pod.engine``."""
    return f"{number // ENGINES}.{Engine(number % ENGINES).name.lower()}"


@lru_cache(4096)
def float_text(bits: int) -> str:
    """Bits of an fp32 as the shortest decimal with these bits; NaN as hexadecimal bits."""
    value = np.uint32(bits).view(np.float32)
    return f"0x{bits:08x}" if np.isnan(value) else str(value)


@lru_cache(4096)
def float_bits(text: str) -> int:
    """The bits of what ``float_text`` writes; ``ValueError`` for anything else."""
    if text.startswith("0x"):
        return int(text, 16)
    with np.errstate(over="ignore"):
        value = np.float32(float(text))
    if np.isnan(value) or (np.isinf(value) and "inf" not in text.lower()):
        raise ValueError(text)
    return int(value.view(np.uint32))
