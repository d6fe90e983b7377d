"""Which machine a CPU is taken for, from the flags that it lists."""

from __future__ import annotations

import pytest

from motet.targets.host import machine as machines
from motet.targets.host.machine import machine_for, native_machine
from motet.targets.host.target import tvm_target

V2 = "fpu sse sse2 cx16 popcnt sse4_1 sse4_2 ssse3"
V3 = f"{V2} avx avx2 bmi1 bmi2 f16c fma movbe"
V4 = f"{V3} avx512f avx512bw avx512cd avx512dq avx512vl"


@pytest.mark.parametrize(
    ("flags", "name"),
    [
        (V2, "x86-64-v2"),
        (V3, "x86-64-v3"),
        (f"{V3} avx_vnni", "x86-64-v3-vnni"),
        (f"{V3} avx512f avx512_vnni", "x86-64-v3"),
        (V4, "x86-64-v4"),
        (f"{V4} avx_vnni", "x86-64-v4"),
        (f"{V4} avx512_vnni", "x86-64-v4-vnni"),
        (f"{V4} avx_vnni avx512_vnni", "x86-64-v4-vnni"),
        (f"{V4} avx512_vnni avx512_bf16", "x86-64-v4-bf16"),
    ],
)
def test_native_is_the_highest_level_that_the_flags_fulfil(
    flags: str, name: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(machines, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(machines.platform, "machine", lambda: "x86_64")
    assert native_machine() == machine_for(name)


@pytest.mark.parametrize(
    ("name", "feature", "extension"),
    [
        ("x86-64-v3-vnni", "avx_vnni", "+avxvnni"),
        ("x86-64-v4-vnni", "avx512_vnni", "+avx512vnni"),
        ("x86-64-v4-bf16", "avx512_vnni", "+avx512vnni"),
        ("x86-64-v4-bf16", "avx512_bf16", "+avx512bf16"),
    ],
)
def test_extensions_are_required_and_handed_to_llvm(name: str, feature: str, extension: str):
    machine = machine_for(name)
    assert feature in machine.required_features
    assert extension in [str(part) for part in tvm_target(machine).attrs["mattr"]]
    assert machine.multiplies_bytes


def test_levels_without_dot_products_of_bytes():
    for name in ("x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"):
        assert not machine_for(name).multiplies_bytes
