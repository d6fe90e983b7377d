"""Descriptions with some keys changed by path."""

from __future__ import annotations

from typing import Any

import pytest

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.architecture_settings import with_settings

MIXED = load_architecture("mixed-64x64-4x16x16")


def test_paths_of_the_file_and_of_every_pod() -> None:
    made = with_settings(
        MIXED,
        {
            "name": "other",
            "dram.channels": 8,
            "pods[1].rows": 8,
            "columns": 16,
            "scratchpad.banks": 8,
            "pods": 2,
            "energy.mac_pj.int8.value": 0.25,
        },
    )
    assert made.name == "other"
    assert made.dram.channels == 8
    assert [pod.rows for pod in made.pods] == [64, 8]
    assert [pod.columns for pod in made.pods] == [16, 16]
    assert [pod.scratchpad.banks for pod in made.pods] == [8, 8]
    assert [pod.count for pod in made.pods] == [2, 2]
    assert made.energy
    assert made.energy.mac_pj["int8"].value == 0.25
    assert made.dram.bytes_per_second == MIXED.dram.bytes_per_second
    assert with_settings(MIXED, {}) == MIXED


def test_settings_are_checked_together() -> None:
    small = load_architecture("tiny-4x4")
    with pytest.raises(SpecError, match=r"tiny-4x4: pods\[0\]\.scratchpad\.bytes = 8192"):
        with_settings(small, {"rows": 64, "columns": 64})
    made = with_settings(
        small, {"rows": 64, "scratchpad.bytes": 2**17, "accumulators.bytes": 2**15}
    )
    assert made.elements == 256


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("row", 4, "no such key; did you mean rows?"),
        ("dram.chanels", 4, "dram.chanels: there is no such key; did you mean channels?"),
        ("pods[2].rows", 4, r"pods[2].rows: there are 2, numbered from 0"),
        ("pods[2]", {}, r"pods[2]: there are 2, numbered from 0"),
        ("pods.rows", 4, "pods.rows: there is no 'rows'"),
        ("clock_hz.x", 4, "there is no 'x'"),
        ("clock_hz.x.y", 4, "there is no 'x'"),
        ("dram..x", 4, "not a path of keys"),
        ("rows", "many", 'pods[0].rows = "many": must be an integer'),
        ("dram[0]", 4, "there is no 0"),
    ],
)
def test_a_path_or_value_that_is_wrong(path: str, value: Any, words: str) -> None:
    with pytest.raises(SpecError) as caught:
        with_settings(MIXED, {path: value})
    assert words in str(caught.value)
