"""SCALE-Sim's configurations (``.cfg``) as array descriptions.

A configuration knows less than a description; ``read_config`` says what it assumes.
"""

from __future__ import annotations

import configparser
from pathlib import Path
from typing import Any

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription
from motet.targets.systolic.architecture_file import checked
from motet.targets.systolic.formats import ACCUMULATOR_BYTES

DATAFLOWS = {"ws": "weight-stationary", "os": "output-stationary", "is": "input-stationary"}
CLOCK_HZ = 1e9
"""SCALE-Sim counts cycles and has no clock."""
_ARRAY = "architecture_presets"


def read_config(path: str | Path) -> ArrayDescription:
    """The array of a configuration file: one pod with one dataflow.

    Assumed, as SCALE-Sim does not say or counts otherwise: int8 (its words are one byte); a clock
    of 1 GHz; one scratchpad that holds what its input and filter memories do, one memory of as
    many 32-bit sums as its output memory has words; ports as wide as the array asks for. DRAM
    without latency that moves, with ``InterfaceBandwidth`` USER, the sum of its three interfaces
    (one ``Bandwidth`` is each one's), with CALC what the edges of the array take (SCALE-Sim
    then computes the bandwidth that never stalls). Offsets and layouts are left out.

    Raises
    ------
    SpecError: unreadable, a key that is missing or wrong (names file, section, key and what is
        allowed), sparsity, or memories too small for one pair of tiles.
    """
    file = _Config(path)
    rows, columns = file.number("ArrayHeight"), file.number("ArrayWidth")
    flow = file.text(_ARRAY, "Dataflow").lower()
    if flow not in DATAFLOWS:
        raise SpecError(f"{path}: [{_ARRAY}] Dataflow is {flow!r}; give one of ws, os, is")
    if file.text("sparsity", "SparsitySupport", "false").lower() == "true":
        raise SpecError(f"{path}: [sparsity] SparsitySupport: only dense arrays; set it to False")
    words = 1024 * (file.number("IfmapSramSzkB") + file.number("FilterSramSzkB"))
    sums = ACCUMULATOR_BYTES * 1024 * file.number("OfmapSramSzkB")
    bytes_per_cycle = file.bandwidth(rows, columns)
    pod = {
        "count": 1,
        "rows": rows,
        "columns": columns,
        "dataflows": [DATAFLOWS[flow]],
        "formats": ["int8"],
        "scratchpad": _memory(words, ports=8, port_bytes=rows + columns),
        "accumulators": _memory(sums, ports=8, port_bytes=ACCUMULATOR_BYTES * columns),
        "vector": {"lanes": columns, "latency_cycles": 0},
    }
    description = {
        "name": file.text("general", "run_name", "").strip('"') or Path(path).stem,
        "clock_hz": CLOCK_HZ,
        "pods": [pod],
        "interconnect": {"kind": "bus", "link_bytes": bytes_per_cycle, "stage_cycles": 0},
        "dram": {"bytes_per_second": bytes_per_cycle * CLOCK_HZ, "latency_cycles": 0},
    }
    return checked(description, f"{path}, as an array description")


class _Config:
    """A configuration file's keys; its names do not heed upper and lower case."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._parser = configparser.ConfigParser(interpolation=None, strict=False)
        try:
            self._parser.read_string(Path(path).read_text(encoding="utf-8-sig"), str(path))
        except (OSError, ValueError, configparser.Error) as error:
            reason = " ".join(str(error).split())
            raise SpecError(f"{path}: cannot read this configuration: {reason}") from error

    def text(self, section: str, key: str, default: str | None = None) -> str:
        """The value of a key, without blanks around it."""
        found = self._parser.get(section, key, fallback=default)
        if found is None:
            raise SpecError(f"{self._path}: [{section}] has no {key}; add a line `{key}: ...`")
        return found.strip()

    def number(self, key: str) -> int:
        """A whole number of at least 1."""
        text = self.text(_ARRAY, key)
        if not (_is_whole(text) and int(text)):
            raise self._wrong(key, text, "a whole number of at least 1")
        return int(text)

    def bandwidth(self, rows: int, columns: int) -> int:
        """Bytes (words) per cycle of all interfaces with DRAM together."""
        mode = self.text("run_presets", "InterfaceBandwidth", "CALC").upper()
        if mode == "CALC":
            return rows + 2 * columns
        if mode != "USER":
            raise SpecError(
                f"{self._path}: [run_presets] InterfaceBandwidth is {mode!r}; give USER or CALC"
            )
        text = self.text(_ARRAY, "Bandwidth")
        values = [part.strip() for part in text.split(",")]
        if len(values) not in (1, 3) or not all(map(_is_whole, values)):
            raise self._wrong("Bandwidth", text, "one whole number, or three with commas")
        total = sum(map(int, values)) * (3 if len(values) == 1 else 1)
        if not total:
            raise self._wrong("Bandwidth", text, "at least one word per cycle")
        return total

    def _wrong(self, key: str, text: str, allowed: str) -> SpecError:
        return SpecError(f"{self._path}: [{_ARRAY}] {key} is {text!r}; give {allowed}")


def _is_whole(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 9


def _memory(capacity: int, ports: int, port_bytes: int) -> dict[str, Any]:
    """Ports as wide as asked, as far as the capacity allows."""
    banks = 4  # divides whole kB
    return {
        "bytes": capacity,
        "banks": banks,
        "ports": ports,
        "port_bytes": min(port_bytes, capacity // ports),
    }
