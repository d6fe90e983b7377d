from __future__ import annotations

import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from vm_programs import affine_program, batch_program, bundle_of

from motet.runtime import bundle as bundles
from motet.runtime.atomic import write_atomically
from motet.runtime.bundle import FORMAT_VERSION, Bundle, open_bundle, to_bytes
from motet.runtime.errors import BundleError
from motet.runtime.manifest import ModelEntry, Source
from motet.runtime.program import encode

RANDOM = np.random.default_rng(7)
WEIGHTS: list[np.ndarray[Any, Any]] = [
    RANDOM.standard_normal(8).astype(np.float32), RANDOM.integers(0, 9, (3, 5)).astype(np.int8),
    np.array(2.5, np.float64), np.zeros((0, 4), np.float32), np.array([True, False]),
    np.arange(6, dtype=">i4").reshape(2, 3), np.arange(6, dtype=np.float16).reshape(2, 3).T,
]  # fmt: skip


def example(**manifest: Any) -> Bundle:
    programs = {"second": batch_program(), "first": affine_program()}
    return bundle_of(programs, b"not loaded here", WEIGHTS, array_programs={"b": b"2", "a": b"1"},
                     **manifest)  # fmt: skip


def test_what_is_opened_is_what_was_saved(tmp_path: Path) -> None:
    saved = example()
    path = saved.save(tmp_path / "x.motet")
    opened = open_bundle(path)
    assert opened.path == path
    assert opened.programs == saved.programs
    assert list(opened.programs) == ["second", "first"]
    assert opened.kernels == saved.kernels
    assert opened.array_programs == saved.array_programs
    assert opened.array_description is None
    assert opened.manifest.models == saved.relative_to(tmp_path).manifest.models
    for ours, theirs in zip(opened.weights, WEIGHTS, strict=True):
        np.testing.assert_array_equal(ours, theirs)
        assert ours.shape == theirs.shape
        assert ours.dtype == theirs.dtype.newbyteorder("=")


def test_weights_are_mapped_and_aligned(tmp_path: Path) -> None:
    opened = open_bundle(example().save(tmp_path / "x.motet"))
    for weight in opened.weights:
        assert not weight.flags.owndata
        assert weight.flags.writeable  # what DLPack asks for; the mapping is private
        assert weight.ctypes.data % 64 == 0 or not weight.size
    opened.weights[0][:] = 9
    np.testing.assert_array_equal(open_bundle(tmp_path / "x.motet").weights[0], WEIGHTS[0])


def test_equal_bundles_are_equal_bytes(tmp_path: Path) -> None:
    one = example().save(tmp_path / "one.motet").read_bytes()
    reordered = bundle_of(
        {"second": batch_program(), "first": affine_program()}, b"not loaded here", WEIGHTS,
        array_programs={"a": b"1", "b": b"2"},
    )  # fmt: skip
    assert reordered.save(tmp_path / "two.motet").read_bytes() == one
    assert open_bundle(tmp_path / "one.motet").save(tmp_path / "3.motet").read_bytes() == one


def test_every_flipped_byte_is_found(tmp_path: Path) -> None:
    path = bundle_of({"m": affine_program()}, b"kernels", [WEIGHTS[0]]).save(tmp_path / "x.motet")
    good = path.read_bytes()
    for position in range(len(good)):
        bad = bytearray(good)
        bad[position] ^= 1 << position % 8
        path.write_bytes(bad)
        with pytest.raises(BundleError, match=r"x\.motet"):
            open_bundle(path)


def test_every_truncation_is_found(tmp_path: Path) -> None:
    path = example().save(tmp_path / "x.motet")
    good = path.read_bytes()
    for length in [*range(200), *range(200, len(good), 37), len(good) - 1]:
        path.write_bytes(good[:length])
        with pytest.raises(BundleError, match=r"x\.motet"):
            open_bundle(path)
    path.write_bytes(good + b"\0")
    with pytest.raises(BundleError, match="truncated or altered"):
        open_bundle(path)


def test_a_newer_version_is_refused_by_number(tmp_path: Path) -> None:
    path = example().save(tmp_path / "x.motet")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, FORMAT_VERSION + 6)
    path.write_bytes(data)
    with pytest.raises(
        BundleError, match=f"format {FORMAT_VERSION + 6}.*up to {FORMAT_VERSION}: install a newer"
    ):
        open_bundle(path)


def test_an_older_version_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = example().save(tmp_path / "x.motet")
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, 8, 1)
    path.write_bytes(data)
    with pytest.raises(
        BundleError, match=f"format 1, this Motet reads 4 to {FORMAT_VERSION}: compile the models"
    ):
        open_bundle(path)


@pytest.mark.parametrize("content", [b"", b"x", b"\x7fELF" * 100, b"\x89MOTET\r\n"])
def test_another_file_is_no_bundle(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.motet"
    path.write_bytes(content)
    with pytest.raises(BundleError, match=r"x\.motet: this is not a Motet bundle"):
        open_bundle(path)


def test_a_missing_file_and_a_folder(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot open the bundle .*none\.motet: No such file"):
        open_bundle(tmp_path / "none.motet")
    with pytest.raises(BundleError, match=r"cannot open the bundle .*: Is a directory"):
        open_bundle(tmp_path)


def test_a_program_that_points_nowhere_is_refused_on_opening(tmp_path: Path) -> None:
    wrong = replace(affine_program(), output_registers=(99,))
    path = bundle_of({"m": wrong}, weights=[WEIGHTS[0]]).save(tmp_path / "x.motet")
    with pytest.raises(BundleError, match="model 'm': its outputs"):
        open_bundle(path)


def test_a_wire_that_joins_nothing_is_refused_on_opening(tmp_path: Path) -> None:
    wired = bundle_of({"m": batch_program()}, wires={"m": {"x": "n.y"}})
    with pytest.raises(BundleError, match=r"the wire from 'n\.y'"):
        open_bundle(wired.save(tmp_path / "x.motet"))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"offset":0,"dtype":"float32"', b'"offset":8,"dtype":"float32"'),
        (b'"offset":0,"dtype":"float32"', b'"offset":0,"dtype":"float99"'),
        (b'"offset":0,"dtype":"float32","shape":[8]', b'"offset":0,"dtype":"float32","shape":[9]'),
        (b'"offset":0,"dtype":"float32","shape":[8]', b'"offset":0,"dtype":"float64","shape":[-8]'),
        (b'"name":"weights"', b'"name":"weighty"'),
        (b'"name":"programs/m"', b'"name":"programs/n"'),
    ],
)
def test_a_manifest_that_lies_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: bytes, new: bytes
) -> None:
    encode_json = bundles.msgspec.json.encode

    def lying(value: Any, **options: Any) -> bytes:
        data = encode_json(value, **options)
        if isinstance(value, bundles.Manifest):
            assert data.count(old) == 1, data
            data = data.replace(old, new)
        return data

    monkeypatch.setattr(bundles.msgspec.json, "encode", lying)
    data = to_bytes(bundle_of({"m": affine_program()}, b"k", [WEIGHTS[0]]))
    monkeypatch.undo()
    path = tmp_path / "x.motet"
    path.write_bytes(data)
    with pytest.raises(BundleError):
        open_bundle(path)


def test_source_paths_are_relative_to_the_bundle(tmp_path: Path) -> None:
    model = tmp_path / "models" / "m.onnx"
    entry = ModelEntry("m", Source(str(model), "0" * 64))
    bundle = bundle_of({"m": batch_program()}, models=(entry,))
    folder = tmp_path / "out" / "deep"
    folder.mkdir(parents=True)
    opened = open_bundle(bundle.save(folder / "x.motet"))
    assert opened.manifest.models[0].source.path == "../../models/m.onnx"
    assert opened.source_path("m") == model
    again = open_bundle(opened.save(tmp_path / "y.motet"))
    assert again.manifest.models[0].source.path == "models/m.onnx"
    assert again.source_path("m") == model


def test_a_failing_write_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "x.motet"
    path.write_bytes(b"old")

    def full(_handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BundleError, match=r"cannot write .*x\.motet: No space left"):
        example().save(path)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupted_write_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "x", [b"da", b"ta"])
    assert list(tmp_path.iterdir()) == []


def test_saving_where_no_file_can_be(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"cannot write the bundle .*No such file"):
        example().save(tmp_path / "none" / "x.motet")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match=r"cannot write the bundle .*: Is a directory"):
        example().save(tmp_path / "folder")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_saved_file_has_the_users_mode(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        path = example().save(tmp_path / "x.motet")
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o666 & ~umask


def test_programs_are_stored_as_encoded(tmp_path: Path) -> None:
    data = example().save(tmp_path / "x.motet").read_bytes()
    assert encode(affine_program()) in data
