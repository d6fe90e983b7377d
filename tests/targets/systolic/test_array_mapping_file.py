"""Mapping files: written, read back, edited; mistakes are named."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.mappings.file import constraints_of, load_mappings, save_mappings
from motet.targets.systolic.mappings.mapping import Mapping
from motet.targets.systolic.workload.graph import single
from motet.targets.systolic.workload.layers import MatrixProduct

NAMES = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
SIZES = st.integers(1, 2**31 - 1)
MAPPINGS = st.builds(
    Mapping,
    st.sampled_from(["weight-stationary", "output-stationary", "spatial-output-stationary"]),
    st.integers(0, 300),
    SIZES,
    st.sampled_from(["rows", "columns", "groups"]),
    *[SIZES] * 3,
    st.booleans(),
    *[SIZES] * 4,
)


@given(st.dictionaries(NAMES, MAPPINGS, max_size=4))
def test_what_is_saved_is_read_back(tmp_path_factory, mappings):
    path = tmp_path_factory.getbasetemp() / "mappings.toml"
    save_mappings(path, mappings)
    read = load_mappings(path, mappings)
    assert {name: Mapping(**table) for name, table in read.items()} == mappings


def written(tmp_path, text):
    path = tmp_path / "pins.toml"
    path.write_text(text)
    return path


def test_star_holds_for_all_and_a_step_wins(tmp_path):
    path = written(tmp_path, '["*"]\ndataflow = "output-stationary"\npods = 2\n[fc]\npods = 1\n')
    constraints = load_mappings(path)
    assert constraints_of(constraints, "fc") == {"dataflow": "output-stationary", "pods": 1}
    assert constraints_of(constraints, "conv") == {"dataflow": "output-stationary", "pods": 2}
    assert constraints_of(None, "conv") == {}


def test_pinned_program_follows_the_file(tmp_path):
    workload, array = single(MatrixProduct(1, 64, 64, 64), "fc"), load_architecture("single-32x32")
    free = compile_workload(workload, array)
    save_mappings(tmp_path / "free.toml", free.mappings)
    again = compile_workload(workload, array, constraints=load_mappings(tmp_path / "free.toml"))
    assert again.mappings == free.mappings
    path = written(tmp_path, '["*"]\ndataflow = "input-stationary"\ntile_columns = 16\n')
    pinned = compile_workload(workload, array, constraints=load_mappings(path, ["fc"]))
    assert pinned.mappings["fc"].dataflow == "input-stationary"
    assert pinned.mappings["fc"].tile_columns == 16
    assert pinned.program.steps[0].dataflow == "input-stationary"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[fc]\ndataflo = 1", r"'fc'.*unknown key 'dataflo'; did you mean dataflow.*tile_rows"),
        ('[fc]\ndataflow = "x"', r"'fc'.*dataflow = 'x': must be one of weight-stationary, "),
        ("[fc]\npods = 0", r"pods = 0: must be an integer from 1 on"),
        ("[fc]\nfirst_pod = -1", r"first_pod = -1: must be an integer from 0 on"),
        ("[fc]\ntile_rows = true", r"tile_rows = True: must be an integer"),
        ("[fc]\nrows_outermost = 1", r"rows_outermost = 1: must be true or false"),
        ("[fcc]\npods = 1", r"no step is called 'fcc'; did you mean fc"),
        ("fc = 1", r"'fc' must be a table"),
        ("[fc", "not TOML"),
    ],
)
def test_mistakes_are_named(tmp_path, text, message):
    path = written(tmp_path, text)
    with pytest.raises(SpecError, match=message) as error:
        load_mappings(path, ["fc", "conv1"])
    assert str(path) in str(error.value)


def test_file_that_cannot_be_read_or_written_is_named(tmp_path):
    with pytest.raises(SpecError, match=r"none\.toml: cannot read this mapping file"):
        load_mappings(tmp_path / "none.toml")
    with pytest.raises(SpecError, match=r"cannot write this mapping file"):
        save_mappings(tmp_path / "nowhere" / "x.toml", {})
