"""What a systolic array is: data that a user writes in TOML, checked into a frozen struct.

The first version knows one pod, weight-stationary, in fp32; every other value is
refused with what is allowed, so that a description never promises what the
simulators do not do.
"""

from __future__ import annotations

import math
import sys
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import msgspec

from motet.runtime.errors import SpecError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.10
    import tomli as tomllib

FP32_BYTES = 4
DATAFLOWS = ("weight-stationary",)
FORMATS = ("fp32",)
MAX_SIDE = 4096
MAX_MEMORY_BYTES = 2**31


class ArrayDescription(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One systolic array and the memories around it.

    Attributes
    ----------
    name: what reports call the array.
    pods: number of equal arrays; 1.
    rows, columns: processing elements along the reduction and along the outputs.
    dataflows: dataflows that a pod offers; ("weight-stationary",).
    formats: number formats of the multiply-accumulate units; ("fp32",).
    scratchpad_bytes: on-chip memory for input and weight tiles, in bytes.
    accumulator_bytes: on-chip memory for partial sums, in bytes.
    dram_bytes_per_second: peak DRAM bandwidth, in bytes per second.
    dram_latency_cycles: cycles of the array's clock until the first byte arrives.
    clock_hz: the array's clock, in hertz.
    """

    name: str
    pods: int
    rows: int
    columns: int
    dataflows: tuple[str, ...]
    formats: tuple[str, ...]
    scratchpad_bytes: int
    accumulator_bytes: int
    dram_bytes_per_second: float
    dram_latency_cycles: int
    clock_hz: float

    @property
    def scratchpad_words(self) -> int:
        """Capacity of the scratchpad in fp32 values."""
        return self.scratchpad_bytes // FP32_BYTES

    @property
    def accumulator_words(self) -> int:
        """Capacity of the accumulator memory in fp32 values."""
        return self.accumulator_bytes // FP32_BYTES


def shipped_descriptions() -> tuple[str, ...]:
    """Names that ``load_description`` takes without a file, sorted."""
    return tuple(sorted(_shipped()))


def load_description(name_or_path: str | Path) -> ArrayDescription:
    """The description of a shipped name, or of a ``.toml`` file.

    Raises
    ------
    SpecError: an unknown name, an unreadable file, or a wrong key or value; the
        message names the file, the key and what is allowed.
    """
    text = str(name_or_path)
    if text in _shipped():
        return _parse(_shipped()[text], f"array description {text!r}")
    if not text.endswith(".toml"):
        raise SpecError(
            f"unknown array description {text!r}: give a .toml file or one of "
            + ", ".join(shipped_descriptions())
        )
    try:
        content = Path(text).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{text}: cannot read this array description: {error}") from error
    return _parse(content, text)


def to_json(description: ArrayDescription) -> bytes:
    """``description`` as JSON, the same bytes for the same description."""
    return msgspec.json.encode(description)


def from_json(data: bytes, where: str = "stored array description") -> ArrayDescription:
    """The inverse of ``to_json``, with all checks; raises ``SpecError``."""
    try:
        value = msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise SpecError(f"{where}: not JSON: {error}") from error
    return _convert(value, where)


@cache
def _shipped() -> dict[str, str]:
    folder = resources.files("motet.targets.systolic.descriptions")
    files = [item for item in folder.iterdir() if item.name.endswith(".toml")]
    return {item.name[: -len(".toml")]: item.read_text(encoding="utf-8") for item in files}


def _parse(content: str, where: str) -> ArrayDescription:
    try:
        value = tomllib.loads(content)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise SpecError(f"{where}: not TOML: {error}") from error
    return _convert(value, where)


def _convert(value: Any, where: str) -> ArrayDescription:
    try:
        description = msgspec.convert(value, ArrayDescription)
    except msgspec.ValidationError as error:
        keys = ", ".join(ArrayDescription.__struct_fields__)
        raise SpecError(f"{where}: {error} (the keys are: {keys})") from error
    _check_values(description, where)
    _check_capacity(description, where)
    return description


def _check_values(description: ArrayDescription, where: str) -> None:
    if not description.name:
        raise SpecError(f"{where}: name must not be empty")
    if description.pods != 1:
        raise SpecError(f"{where}: pods = {description.pods}: only pods = 1 is simulated so far")
    for key in ("rows", "columns"):
        _check_range(description, key, 1, MAX_SIDE, where)
    for key in ("scratchpad_bytes", "accumulator_bytes"):
        _check_range(description, key, 1, MAX_MEMORY_BYTES, where)
    _check_range(description, "dram_latency_cycles", 0, 2**31, where)
    for key in ("dram_bytes_per_second", "clock_hz"):
        _check_range(description, key, 1.0, 1e18, where)
    _check_choice(description.dataflows, "dataflows", DATAFLOWS, where)
    _check_choice(description.formats, "formats", FORMATS, where)


def _check_range(
    description: ArrayDescription, key: str, low: float, high: float, where: str
) -> None:
    value = getattr(description, key)
    if not (math.isfinite(value) and low <= value <= high):
        raise SpecError(f"{where}: {key} = {value}: must be between {low:,} and {high:,}")


def _check_choice(given: tuple[str, ...], key: str, allowed: tuple[str, ...], where: str) -> None:
    if not given or any(value not in allowed for value in given) or len(set(given)) < len(given):
        choices = ", ".join(repr(value) for value in allowed)
        raise SpecError(f"{where}: {key} = {list(given)}: must list one or more of {choices}, once")


def _check_capacity(description: ArrayDescription, where: str) -> None:
    """Two tiles of each kind must fit, with as many streamed rows as the array has rows."""
    rows, columns = description.rows, description.columns
    scratchpad = 2 * (rows * rows + rows * columns) * FP32_BYTES
    accumulator = 2 * rows * columns * FP32_BYTES
    for key, needed in (("scratchpad_bytes", scratchpad), ("accumulator_bytes", accumulator)):
        value = getattr(description, key)
        if value < needed:
            raise SpecError(
                f"{where}: {key} = {value}: a {rows}x{columns} array needs at least {needed} "
                "for double-buffered tiles"
            )
