"""Array descriptions: what ships, and what errors say."""

from __future__ import annotations

import pytest

from motet.runtime.errors import SpecError
from motet.targets.systolic.description import (
    from_json,
    load_description,
    shipped_descriptions,
    to_json,
)

GOOD = """
name = "mine"
pods = 1
rows = 4
columns = 8
dataflows = ["weight-stationary"]
formats = ["fp32"]
scratchpad_bytes = 4096
accumulator_bytes = 1024
dram_bytes_per_second = 1e9
dram_latency_cycles = 10
clock_hz = 1e9
"""


def test_shipped_descriptions_load():
    names = shipped_descriptions()
    assert names == ("edge-64x64", "gemmini-16x16", "single-32x32", "tiny-4x4", "tpu-128x128")
    for name in names:
        description = load_description(name)
        assert description.name == name
        assert name.endswith(f"{description.rows}x{description.columns}")


def test_a_file_of_ones_own(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    description = load_description(path)
    assert (description.rows, description.columns) == (4, 8)
    assert from_json(to_json(description)) == description


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pods = 1", "pods = 4", "pods = 4: only pods = 1"),
        ("rows = 4", "rows = 0", "rows = 0: must be between 1 and 4,096"),
        ("rows = 4", "rows = -4", "rows = -4"),
        ("rows = 4", "rows = 4.0", r"\$.rows"),
        ("rows = 4", 'rows = "four"', r"\$.rows"),
        ("rows = 4", "", "missing required field `rows`"),
        ("rows = 4", "rows = 4\nheight = 3", "unknown field `height`.*the keys are.*columns"),
        ("clock_hz = 1e9", "clock_hz = 0", "clock_hz = 0"),
        ("clock_hz = 1e9", "clock_hz = nan", "clock_hz = nan"),
        ("clock_hz = 1e9", "clock_hz = inf", "clock_hz = inf"),
        ("latency_cycles = 10", "latency_cycles = -1", "dram_latency_cycles = -1"),
        ("weight-stationary", "output-stationary", "dataflows.*'weight-stationary'"),
        ('["fp32"]', "[]", r"formats = \[\].*'fp32'"),
        ('["fp32"]', '["fp32", "fp32"]', "formats"),
        ('"mine"', '""', "name must not be empty"),
        ("scratchpad_bytes = 4096", "scratchpad_bytes = 383", "scratchpad_bytes = 383.*384"),
        ("accumulator_bytes = 1024", "accumulator_bytes = 255", "accumulator_bytes = 255.*256"),
        ("rows = 4", "rows = = 4", "not TOML"),
    ],
)
def test_errors_name_file_and_key(tmp_path, old, new, message):
    path = tmp_path / "mine.toml"
    assert old in GOOD
    path.write_text(GOOD.replace(old, new))
    with pytest.raises(SpecError, match=f"mine.toml: .*{message}"):
        load_description(path)


def test_unknown_names_list_the_shipped_ones():
    with pytest.raises(SpecError, match=r"'tpu'.*edge-64x64.*tiny-4x4"):
        load_description("tpu")


def test_unreadable_files(tmp_path):
    with pytest.raises(SpecError, match=r"none.toml: cannot read"):
        load_description(tmp_path / "none.toml")
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SpecError, match=r"binary.toml: cannot read"):
        load_description(tmp_path / "binary.toml")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"name": 3}', b"\xff"])
def test_damaged_json(data):
    with pytest.raises(SpecError, match="stored array description"):
        from_json(data)
