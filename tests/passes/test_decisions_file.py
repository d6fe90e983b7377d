from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import pytest

from motet.passes.decisions import (
    Decided,
    Decisions,
    Geometry,
    Kept,
    Merge,
    NotReplaced,
    Removed,
    read_decisions,
    require_kind,
    weights_path,
    write_decisions,
)
from motet.runtime.errors import SpecError

MERGE = Merge(
    model="faces",
    block=2,
    nodes=("a", "active", "b"),
    convolutions=("a", "b"),
    removed=(Removed(nodes=("active",), affine="faces/active.affine"),),
    input="image",
    output="b",
    input_shape=("n", 3, 8, 8),
    output_shape=("n", 4, 8, 8),
    geometry=Geometry(
        in_channels=3,
        out_channels=4,
        kernel=(3, 3),
        stride=(1, 1),
        padding=(1, 1, 1, 1),
        dilation=(1, 1),
    ),
    border="bias_map",
    weight="faces/b.weight",
    bias="faces/b.bias",
)
WEIGHTS = {
    "faces/b.weight": np.ones((4, 3, 3, 3), np.float32),
    "faces/b.bias": np.ones((1, 4, 8, 8), np.float32),
    "faces/active.affine": np.ones((2, 4), np.float32),
}
KEPT = Kept(model="faces", block=-1, nodes=("b", "c"), reason="estimated to be slower")
DECIDED = Decided(Decisions(decisions=(MERGE, KEPT)), WEIGHTS)


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "faces.decisions.json"
    write_decisions(DECIDED, path)
    found = read_decisions(path)
    assert found.decisions == DECIDED.decisions
    assert found.weights.keys() == WEIGHTS.keys()
    for key, values in WEIGHTS.items():
        np.testing.assert_array_equal(found.weights[key], values)
    assert found.decisions.merges == (MERGE,)
    assert found.decisions.kept == (KEPT,)


def test_the_same_bytes_each_time(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("one.json", "two.json")]
    for path in paths:
        write_decisions(DECIDED, path)
    for suffix in (lambda path: path, weights_path):
        one, two = (suffix(path).read_bytes() for path in paths)
        assert one == two


def test_an_exact_merge_is_told() -> None:
    assert not MERGE.is_exact
    assert msgspec.structs.replace(MERGE, removed=()).is_exact
    moved = msgspec.structs.replace(MERGE, removed=(), border="padding_moved")
    assert not moved.is_exact


def test_a_missing_array_is_named(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    left = {key: values for key, values in WEIGHTS.items() if "bias" not in key}
    write_decisions(Decided(DECIDED.decisions, left), path)
    with pytest.raises(SpecError, match=r"faces\.npz has no array 'faces/b\.bias'"):
        read_decisions(path)


def test_an_array_of_another_shape_is_named(tmp_path: Path) -> None:
    path = tmp_path / "faces.json"
    changed = {**WEIGHTS, "faces/b.weight": np.ones((4, 3, 5, 5), np.float32)}
    write_decisions(Decided(DECIDED.decisions, changed), path)
    with pytest.raises(SpecError, match=r"array 'faces/b\.weight' has shape \(4, 3, 5, 5\)"):
        read_decisions(path)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", r"decisions .*x\.json"),
        ('{"format": 99, "decisions": []}', "format 99 is newer"),
        ('{"decisions": [{"type": "other"}]}', r"decisions .*x\.json"),
    ],
)
def test_a_file_that_holds_none(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match=message):
        read_decisions(path)


REPLACED = NotReplaced(model="faces", index=0, nodes=("d",), reason="not chosen")


def test_decisions_of_another_command_are_refused() -> None:
    assert require_kind(DECIDED, "merge", "x.json") is DECIDED
    other = Decided(Decisions(decisions=(REPLACED,)))
    with pytest.raises(SpecError, match=r"x\.json: these are decisions of motet fuse-depthwise: "):
        require_kind(other, "merge", "x.json")
    with pytest.raises(SpecError, match=r"of motet merge: .* passes\.merge_depth\.decisions"):
        require_kind(DECIDED, "fuse-depthwise", "x.json")
    both = Decided(Decisions(decisions=(*DECIDED.decisions.decisions, REPLACED)))
    assert require_kind(both, "merge", "x.json") is require_kind(both, "fuse-depthwise", "x.json")
    assert require_kind(Decided(), "merge", "x.json") == Decided()


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="name a file that exists"):
        read_decisions(tmp_path / "none.json")
