"""The CPU a bundle is compiled for, as plain data; nothing here imports tvm.

A machine is either the one at hand (``native``) or one of the x86-64 psABI levels, with the
dot products of bytes (VNNI) and of bfloat16 that newer CPUs add to them, so that a bundle can
be built for other machines than the builder's. ``required_features`` go into the bundle, and
the run time compares them with ``/proc/cpuinfo`` before it loads a kernel: an instruction that
a CPU lacks would otherwise kill the process.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

from motet.runtime.errors import SpecError

_V2 = ("cx16", "popcnt", "sse4_1", "sse4_2", "ssse3")
_V3 = (*_V2, "avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "movbe")
_V4 = (*_V3, "avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl")
_V3_VNNI = (*_V3, "avx_vnni")
_V4_VNNI = (*_V4, "avx512_vnni")
_V4_BF16 = (*_V4_VNNI, "avx512_bf16")
"""Every CPU with AVX512-BF16 has AVX512-VNNI."""


@dataclass(frozen=True)
class Machine:
    """What the kernels of a bundle may assume.

    mcpu: LLVM's name of the CPU.
    cores: threads that schedules are balanced for; the run time may use fewer or more.
    vector_bytes: width of the registers kernels are tiled for (16, 32 or 64).
    required_features: flags, as ``/proc/cpuinfo`` spells them, that kernels need.
    arch: the machine's instruction set, as ``platform.machine()`` spells it.
    extensions: LLVM's names of instruction sets beyond those of ``mcpu``.
    """

    mcpu: str
    cores: int
    vector_bytes: int
    required_features: tuple[str, ...]
    arch: str = "x86_64"
    extensions: tuple[str, ...] = ()

    @property
    def multiplies_bfloat16(self) -> bool:
        """Whether it has the dot product of pairs of bfloat16 (AVX512-BF16)."""
        return "avx512bf16" in self.extensions

    @property
    def multiplies_bytes(self) -> bool:
        """Whether it has the dot product of fours of bytes (AVX512-VNNI or AVX-VNNI)."""
        return not {"avx512vnni", "avxvnni"}.isdisjoint(self.extensions)


@dataclass(frozen=True)
class Caches:
    """Data caches in bytes: the first and second level of a core, the last that cores share."""

    l1: int = 32 * 2**10
    l2: int = 512 * 2**10
    l3: int = 16 * 2**20


def native_caches(folder: Path = Path("/sys/devices/system/cpu/cpu0/cache")) -> Caches:
    """The caches of this machine; a level that the system does not tell has a common size."""
    sizes: dict[str, int] = {}
    for entry in sorted(folder.glob("index*")):
        try:
            level, kind, size = (
                (entry / name).read_text(encoding="utf-8").strip()
                for name in ("level", "type", "size")
            )
        except OSError:
            continue
        if kind != "Instruction" and size[:-1].isdecimal() and size.endswith("K"):
            sizes[f"l{level}"] = 1024 * int(size[:-1])
    known = {name: size for name, size in sizes.items() if name in ("l1", "l2", "l3") and size}
    return Caches(**known)


def cpu_name() -> str:
    """What this CPU calls itself, with family, model and stepping where they are told."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.machine()
    first = text.split("\n\n", 1)[0]
    fields = (line.partition(":") for line in first.splitlines())
    known = {key.strip(): value.strip() for key, _, value in fields}
    name = known.get("model name") or platform.machine()
    numbers = [known[key] for key in ("cpu family", "model", "stepping") if key in known]
    return f"{name} ({'.'.join(numbers)})" if numbers else name


def usable_cores() -> int:
    """CPUs this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def cpu_flags() -> frozenset[str]:
    """Feature flags of this CPU; empty where ``/proc/cpuinfo`` does not list any."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def _levels(cores: int) -> dict[str, Machine]:
    """By name; of those for one instruction set, what is preferred comes last."""
    return {
        "x86-64-v2": Machine("x86-64-v2", cores, 16, _V2),
        "x86-64-v3": Machine("x86-64-v3", cores, 32, _V3),
        "x86-64-v3-vnni": Machine("x86-64-v3", cores, 32, _V3_VNNI, extensions=("avxvnni",)),
        "x86-64-v4": Machine("x86-64-v4", cores, 64, _V4),
        "x86-64-v4-vnni": Machine("x86-64-v4", cores, 64, _V4_VNNI, extensions=("avx512vnni",)),
        "x86-64-v4-bf16": Machine(
            "x86-64-v4", cores, 64, _V4_BF16, extensions=("avx512vnni", "avx512bf16")
        ),
        "aarch64": Machine("generic", cores, 16, (), "aarch64"),
    }


def native_machine() -> Machine:
    """The highest known level that this CPU fulfils."""
    levels = _levels(usable_cores())
    if platform.machine() == "aarch64":
        return levels["aarch64"]
    flags = cpu_flags()
    for machine in reversed([m for m in levels.values() if m.arch == "x86_64"]):
        if flags.issuperset(machine.required_features):
            return machine
    return Machine("x86-64", usable_cores(), 16, ())


def machine_for(name: str) -> Machine:
    """The machine called ``name``.

    Parameters
    ----------
    name : str
        ``"native"``, ``"x86-64-v2"``, ``"x86-64-v3"``, ``"x86-64-v3-vnni"``,
        ``"x86-64-v4"``, ``"x86-64-v4-vnni"``, ``"x86-64-v4-bf16"`` or ``"aarch64"``.

    Raises
    ------
    SpecError
        For any other name; the message lists the names.
    """
    if name == "native":
        return native_machine()
    levels = _levels(usable_cores())
    if name not in levels:
        raise SpecError(f"unknown machine '{name}'; choose one of native, {', '.join(levels)}")
    return levels[name]
