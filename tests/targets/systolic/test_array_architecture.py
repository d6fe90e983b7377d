"""Array descriptions: what is read, what is refused and in which words, what is shipped."""

from __future__ import annotations

import copy
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture import ArrayDescription, Figure, Pod
from motet.targets.systolic.architecture_checks import tile_bytes
from motet.targets.systolic.architecture_file import (
    checked,
    from_json,
    load_architecture,
    parse_architecture,
    shipped_architectures,
    to_json,
    tomllib,
)
from motet.targets.systolic.architecture_reference import TABLES, reference, shipped
from motet.targets.systolic.architecture_values import hints_of, plain_type
from motet.targets.systolic.formats import FORMATS

DOCUMENT = Path(__file__).parents[3] / "docs" / "ARRAY_DESCRIPTION.md"
SHIPPED = (
    "edge-64x64",
    "gemmini-16x16",
    "mixed-64x64-4x16x16",
    "single-32x32",
    "sosa-256x32x32",
    "tiny-4x4",
    "tpu-128x128",
    "vsquant-64x64",
)


def example() -> dict[str, Any]:
    """The document's example, which uses every key."""
    text = DOCUMENT.read_text(encoding="utf-8")
    return tomllib.loads(text.split("```toml\n")[1].split("```")[0])


def changed(path: str, value: Any) -> dict[str, Any]:
    """The example with the key at a path such as ``pods.0.rows`` set, or left out for None."""
    tables = copy.deepcopy(example())
    here: Any = tables
    *outer, last = path.split(".")
    for key in outer:
        here = here[int(key)] if isinstance(here, list) else here[key]
    if value is None:
        del here[last]
    else:
        here[last] = value
    return tables


def message(tables: Any) -> str:
    with pytest.raises(SpecError) as caught:
        checked(tables, "my.toml")
    return str(caught.value)


def test_the_shipped_machines() -> None:
    assert shipped_architectures() == SHIPPED


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_machine_bears_its_name_and_says_what_it_is_after(name: str) -> None:
    machine = load_architecture(name)
    assert machine.name == name
    for pod in machine.pods:
        assert f"{pod.rows}x{pod.columns}" in name
        assert {"fp32", "int8"} <= set(pod.formats)
    assert machine.energy
    assert machine.area


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_machine_can_feed_its_arrays(name: str) -> None:
    """In fp32, every cycle: inputs, weights and DRAM's bytes; sums read and written twice."""
    machine = load_architecture(name)
    dram = math.ceil(machine.dram_bytes_per_cycle / machine.pod_count)
    for pod in machine.pods:
        assert pod.scratchpad.bytes_per_cycle >= 4 * (pod.rows + pod.columns) + dram
        assert pod.accumulators.bytes_per_cycle >= 4 * 4 * pod.columns
    assert machine.interconnect.link_bytes >= dram


@pytest.mark.parametrize("name", SHIPPED)
def test_json_is_an_inverse_with_the_same_bytes(name: str) -> None:
    machine = load_architecture(name)
    assert from_json(to_json(machine)) == machine
    assert to_json(from_json(to_json(machine))) == to_json(machine)


def test_json_does_not_depend_on_the_order_of_keys() -> None:
    tables = example()
    turned = {key: tables[key] for key in reversed(tables)}
    macs = tables["energy"]["mac_pj"]
    turned["energy"] = tables["energy"] | {"mac_pj": dict(reversed(macs.items()))}
    assert to_json(checked(turned, "")) == to_json(checked(tables, ""))


def test_descriptions_need_neither_compiled_loops_nor_the_compiler() -> None:
    code = (
        "import sys; from motet.targets.systolic.architecture_file import load_architecture as f;"
        "f('tiny-4x4');"
        "assert not {'numba', 'tvm', 'onnx'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_single_pod_may_stand_behind_any_interconnect() -> None:
    """A sweep over pods begins with one."""
    for kind in ("bus", "crossbar", "butterfly", "benes", "mesh"):
        tables = changed("interconnect", {"kind": kind})
        tables["pods"][0]["count"] = 1
        assert checked(tables, "").pod_count == 1


def test_pods_of_several_sizes_are_numbered_through() -> None:
    machine = load_architecture("mixed-64x64-4x16x16")
    assert [machine.pod(n).rows for n in range(5)] == [64, 16, 16, 16, 16]
    assert machine.first_of(1) == 1
    assert machine.elements == 64 * 64 + 4 * 16 * 16
    with pytest.raises(IndexError, match="5 pods"):
        machine.pod(5)


def test_a_file_is_read_by_its_path(tmp_path: Path) -> None:
    text = DOCUMENT.read_text(encoding="utf-8").split("```toml\n")[1].split("```")[0]
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    assert load_architecture(path).name == "my-array"
    assert load_architecture(path) == parse_architecture(text, "anywhere")


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("pods.0.row", 4, ["pods[0].row: there is no such key", "did you mean rows?"]),
        ("energi", {}, ["energi: there is no such key", "did you mean energy?"]),
        ("energy.mac_pj.int16", {}, ["energy.mac_pj.int16: there is no such key", "bf16"]),
        ("clock_hz", None, ["clock_hz is missing", "a number from 1 to 1e+12", "clock of all"]),
        ("pods.0.scratchpad.bytes", None, ["pods[0].scratchpad.bytes is missing", "an integer"]),
        ("energy.vector_pj", {"value": 1.0}, ["energy.vector_pj.node_nm", "source: missing"]),
        (
            "energy.vector_pj.source",
            None,
            ["energy.vector_pj.source is missing", "a string, not empty"],
        ),
        (
            "energy.leakage_watts",
            0.5,
            ["energy.leakage_watts: there is no such key", "did you mean leakage_watts_per_"],
        ),
        ("energy.vector_pj.source", " ", ['energy.vector_pj.source = " "', "not empty"]),
        (
            "pods.0.dataflows",
            ["weight"],
            ['pods[0].dataflows[0] = "weight"', "did you mean weight-stationary?"],
        ),
        ("pods.0.dataflows", ["ws"], ['"ws"', "did you mean weight-stationary?"]),
        ("pods.0.dataflows", [], ["pods[0].dataflows = []", "at least one value"]),
        ("pods.0.formats", ["int8", "int8"], ["pods[0].formats", "once"]),
        ("pods.0.formats", ["fp16"], ['pods[0].formats[0] = "fp16"', "fp32, bf16, int8, int4"]),
        (
            "interconnect.kind",
            "butterfy",
            ['interconnect.kind = "butterfy"', "did you mean butterfly?"],
        ),
        ("pods.0.rows", 0, ["pods[0].rows = 0", "from 1 to 4,096"]),
        ("pods.0.rows", 16.0, ["pods[0].rows = 16.0", "without a point or exponent: 16"]),
        ("pods.0.rows", True, ["pods[0].rows = true", "an integer"]),
        ("clock_hz", math.nan, ["clock_hz = nan", "a number from"]),
        ("dram.row_hit_fraction", 1.5, ["dram.row_hit_fraction = 1.5", "from 0 to 1"]),
        ("dram.bytes_per_second", 5, ["dram.bytes_per_second", "bytes per second"]),
        ("pods.0.count", 3, ['interconnect.kind = "butterfly"', "power of two", "there are 3"]),
        ("interconnect.expansion", 3, ["interconnect.expansion = 3", "power of two"]),
        ("interconnect.kind", "mesh", ["interconnect.expansion = 2", "only a butterfly"]),
        ("pods.0.scratchpad.banks", 3, ["pods[0].scratchpad.banks = 3", "divide", "262144"]),
        ("pods.0.scratchpad.ports", 9, ["pods[0].scratchpad.ports = 9", "at most 8 ports"]),
        (
            "pods.0.scratchpad.port_bytes",
            2**17,
            ["pods[0].scratchpad.port_bytes", "more than the memory's 262144"],
        ),
        ("pods.0.accumulators.bytes", 65542, ["accumulators.banks = 4", "divide"]),
        ("pods.0.per_vector.scale_bits", 0, ["per_vector.scale_bits = 0", "give both"]),
        ("pods.0.formats", ["fp32"], ["per_vector.length = 16", "add int8 or int4"]),
        ("energy.mac_pj.fp32", None, ["energy.mac_pj", "offer fp32 too", "[energy.mac_pj.fp32]"]),
        ("pods", [], ["pods = []", "at least one table"]),
        ("pods", {"count": 1}, ["pods = a table", "write [[pods]]"]),
        ("dram", 5, ["dram = 5", "must be a table with the keys bytes_per_second, channels"]),
        ("energy.vector_pj", 2.5, ["energy.vector_pj = 2.5", "value, node_nm, volts, source"]),
        ("clock_hz", "1 GHz", ['clock_hz = "1 GHz"', "1e+12 Hz"]),
        ("name", "", ['name = ""', "not empty"]),
    ],
)
def test_what_is_wrong_is_named_with_a_way_out(path: str, value: Any, words: list[str]) -> None:
    text = message(changed(path, value))
    assert text.startswith("my.toml: ")
    for word in words:
        assert word in text


@pytest.mark.parametrize("dataflow", ["weight-stationary", "spatial-output-stationary"])
@pytest.mark.parametrize("number_format", list(FORMATS))
def test_memories_hold_two_tiles_of_what_is_offered(dataflow: Any, number_format: Any) -> None:
    tables = example()
    pod = tables["pods"][0]
    pod |= {"dataflows": [dataflow], "formats": [number_format], "rows": 8}
    del pod["per_vector"], tables["energy"]
    one = tile_bytes(msgspec.convert(pod, Pod), dataflow, number_format)
    words = 8 * 8 + 8 * 16 if dataflow == "weight-stationary" else 8 * (16 + 2) + 8 * 3
    assert one.scratchpad == words * FORMATS[number_format].bits // 8
    assert one.accumulators == 8 * 16 * 4
    for name, needed in zip(("scratchpad", "accumulators"), one, strict=True):
        pod[name] = {"bytes": 2 * needed, "port_bytes": 1}
    checked(tables, "fits.toml")
    for name, needed in zip(("scratchpad", "accumulators"), one, strict=True):
        small = copy.deepcopy(tables)
        small["pods"][0][name]["bytes"] -= 4
        text = message(small)
        assert f"pods[0].{name}.bytes = {2 * needed - 4}" in text
        assert f"at least {2 * needed} bytes" in text
        assert dataflow in text


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("single-32x23", ["did you mean single-32x32?", "tiny-4x4"]),
        ("none.toml", ["none.toml: cannot read"]),
        ("\0.toml", ["cannot read"]),
    ],
)
def test_a_name_that_is_none(name: str, words: list[str]) -> None:
    with pytest.raises(SpecError) as caught:
        load_architecture(name)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("text", ["name = ", "[" * 2000])
def test_text_that_is_no_toml(text: str) -> None:
    with pytest.raises(SpecError, match=r"^my\.toml: not TOML"):
        parse_architecture(text, "my.toml")


@pytest.mark.parametrize("data", [b"", b"[1", b"\xff", b"[" * 100_000])
def test_bytes_that_are_no_json(data: bytes) -> None:
    with pytest.raises(SpecError, match="stored array description: not JSON"):
        from_json(data)


def _paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [p for k, v in value.items() for p in [(*path, k), *_paths(v, (*path, k))]]
    if isinstance(value, list):
        return [p for i, v in enumerate(value) for p in [(*path, i), *_paths(v, (*path, i))]]
    return []


VALUES = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.lists(st.integers(), max_size=2)
    | st.dictionaries(st.text(max_size=5), st.integers(), max_size=2)
)


@given(st.sampled_from(_paths(example())), VALUES)
def test_any_value_anywhere_is_taken_or_refused_by_name(path: tuple[Any, ...], value: Any) -> None:
    tables = example()
    here: Any = tables
    for key in path[:-1]:
        here = here[key]
    here[path[-1]] = value
    machine = None
    try:
        machine = checked(tables, "my.toml")
    except SpecError as error:
        words = str(error)
    assert from_json(to_json(machine)) == machine if machine else words.startswith("my.toml: ")


def test_the_document_ends_with_the_tables() -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    remedy = "run python -m motet.targets.systolic.architecture_reference"
    assert text.endswith(f"-->\n\n{reference()}"), remedy
    assert f"\n\n{shipped()}\n" in text, remedy


def test_the_tables_have_every_struct_and_the_example_every_key() -> None:
    used = {key for path in _paths(example()) for key in path if isinstance(key, str)}
    names = {info.name for struct in TABLES.values() for info in msgspec.structs.fields(struct)}
    assert names <= used
    kinds = {
        plain_type(hint)[0] for struct in TABLES.values() for hint in hints_of(struct).values()
    }
    inner = {kind for kind in kinds if isinstance(kind, type) and issubclass(kind, msgspec.Struct)}
    assert inner | {ArrayDescription, Pod} == set(TABLES.values())


def test_every_shipped_figure_says_where_it_comes_from() -> None:
    for name in SHIPPED:
        machine = load_architecture(name)
        assert machine.energy
        figures = [f for f in msgspec.structs.astuple(machine.energy) if isinstance(f, Figure)]
        figures += machine.energy.mac_pj.values()
        figures += msgspec.structs.astuple(machine.area) if machine.area else ()
        assert len(figures) >= 12
        for figure in figures:
            assert "20" in figure.source or "arXiv" in figure.source
