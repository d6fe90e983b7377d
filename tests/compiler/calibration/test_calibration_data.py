"""Calibration data: every source gives the same runs, again and again, or says what is wrong."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnxruntime.quantization import CalibrationDataReader

from motet.compiler.calibration.data import CalibrationData, calibration_data
from motet.runtime.errors import InputError
from motet.runtime.program import TensorInfo

OPEN = (TensorInfo("image", "float32", ("N", 2, 3)),)
ONE = (TensorInfo("image", "float32", (1, 2, 3)),)
PAIR = (TensorInfo("image", "float32", (1, 2, 3)), TensorInfo("mask", "int64", (1, 2)))


def _images(count: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((count, 2, 3)).astype("float32")


def _joined(data: CalibrationData, name: str = "image") -> np.ndarray:
    return np.concatenate([run[name] for run in data])


class _Reader:
    """As ``onnxruntime.quantization.CalibrationDataReader``."""

    def __init__(self, runs: list[dict[str, np.ndarray]]) -> None:
        self._runs = iter(runs)

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._runs, None)


def _sources(folder: Path, images: np.ndarray) -> dict[str, Any]:
    """One source of each kind with the same samples."""
    np.savez(folder / "plain.npz", image=images)
    np.savez_compressed(folder / "small.npz", image=images)
    np.savez(folder / "a.npz", image=images[:3])
    np.savez(folder / "b.npz", image=images[3:])
    runs = [{"image": image[None]} for image in images]
    for name in ("stacked", "single", "input"):
        (folder / name).mkdir()
    np.save(folder / "stacked" / "image.npy", images)
    (folder / "input" / "image").mkdir()
    for index, image in enumerate(images):
        np.save(folder / "single" / f"{index:03}.npy", image[None])
        np.save(folder / "input" / "image" / f"{index:03}.npy", image[None])
    return {
        "npz": folder / "plain.npz",
        "compressed": str(folder / "small.npz"),
        "several": [folder / "a.npz", folder / "b.npz"],
        "stacked": folder / "stacked",
        "files": folder / "single",
        "folder per input": folder / "input",
        "mapping": {"image": images},
        "list": runs,
        "generator": (run for run in runs),
        "reader": _Reader(runs),
    }


def test_every_source_gives_the_same_samples_twice(tmp_path: Path) -> None:
    images = _images(7)
    for kind, source in _sources(tmp_path, images).items():
        data = calibration_data(source, ONE, "m")
        for _ in range(2):
            assert np.array_equal(_joined(data), images), kind
        assert data.count == 7, kind


def test_a_generator_can_be_left_in_the_middle_and_gone_through_again() -> None:
    images = _images(5)
    data = calibration_data(({"image": image[None]} for image in images), ONE, "m")
    first = iter(data)
    assert np.array_equal(next(first)["image"][0], images[0])
    assert np.array_equal(_joined(data), images)
    assert np.array_equal(next(first)["image"][0], images[1])


@given(
    count=st.integers(1, 20),
    batch=st.integers(1, 6),
    limit=st.integers(1, 25) | st.none(),
)
@settings(max_examples=60, deadline=None)
def test_batches_of_an_open_size_are_the_samples_in_order(
    count: int, batch: int, limit: int | None
) -> None:
    images = _images(count)
    data = calibration_data({"image": images}, OPEN, "m", batch, limit)
    runs = [run["image"] for run in data]
    assert data.count == len(runs)
    assert all(len(run) == batch for run in runs[:-1])
    assert np.array_equal(np.concatenate(runs), images[:limit])


def test_a_fixed_batch_is_what_the_model_takes() -> None:
    fixed = (TensorInfo("image", "float32", (4, 2, 3)),)
    images = _images(8)
    assert [r["image"].shape[0] for r in calibration_data({"image": images}, fixed, "m")] == [4, 4]
    with pytest.raises(InputError, match="7 samples, of which the model takes 4"):
        calibration_data({"image": images[:7]}, fixed, "m")


def test_whole_inputs_along_an_axis_of_their_own() -> None:
    images = _images(6).reshape(3, 2, 2, 3)
    fixed = (TensorInfo("image", "float32", (2, 2, 3)), TensorInfo("gain", "float32", ()))
    gains = np.arange(3, dtype="float32")
    runs = list(calibration_data({"image": images, "gain": gains}, fixed, "m"))
    assert [float(run["gain"]) for run in runs] == [0, 1, 2]
    assert np.array_equal(np.stack([run["image"] for run in runs]), images)


def test_labels_come_with_their_samples(tmp_path: Path) -> None:
    images, labels = _images(5), np.arange(5)
    np.savez(tmp_path / "x.npz", image=images, labels=labels)
    data = calibration_data(tmp_path / "x.npz", OPEN, "m", batch=2)
    assert data.has_labels
    assert all("labels" not in run for run in data)
    found = [label for _, label in data.labelled()]
    assert np.array_equal(np.concatenate(found), labels)


def test_an_array_without_a_name_is_that_of_a_single_input(tmp_path: Path) -> None:
    images = _images(4)
    np.savez(tmp_path / "x.npz", images)
    np.save(tmp_path / "photos.npy", images)
    runs = [image[None] for image in images]
    for source in (tmp_path / "x.npz", tmp_path / "photos.npy", images, runs, iter(runs)):
        assert np.array_equal(_joined(calibration_data(source, ONE, "m")), images)
    with pytest.raises(InputError, match="without a name, and the model has the inputs image, m"):
        calibration_data(images, PAIR, "m")


def test_an_array_of_another_name_is_refused_with_both_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "x.npz", photo=_images(4))
    with pytest.raises(InputError, match="the array 'photo', and the model's input is 'image'"):
        calibration_data(tmp_path / "x.npz", ONE, "m")
    with pytest.raises(InputError, match="input 'image' is missing; there are photo"):
        calibration_data({"photo": _images(4)}, ONE, "m")


class _OnnxruntimesReader(CalibrationDataReader):  # type: ignore[misc]
    """As onnxruntime's examples write them."""

    def __init__(self, images: np.ndarray) -> None:
        self.images, self.enum = images, iter(())
        self.rewind()

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.enum, None)

    def rewind(self) -> None:
        self.enum = iter([{"image": image[None]} for image in self.images])


def test_onnxruntimes_reader_unchanged() -> None:
    data = calibration_data(_OnnxruntimesReader(_images(5)), ONE, "m")
    for _ in range(3):
        assert np.array_equal(_joined(data), _images(5))
    assert data.count == 5


def test_floats_and_equal_integers_are_converted() -> None:
    data = calibration_data(
        {"image": _images(2).astype("float64"), "mask": np.ones((2, 2), "uint8")}, PAIR, "m"
    )
    run = next(iter(data))
    assert run["image"].dtype == np.float32
    assert run["mask"].dtype == np.int64


@pytest.mark.parametrize(
    ("source", "inputs", "message"),
    [
        ({"image": np.zeros((2, 2, 3), "uint8")}, ONE, "dtype uint8, the model takes float32"),
        ({"image": np.full((2, 2, 3), np.nan, "f4")}, ONE, "run 0, input 'image' holds NaN"),
        ({"image": np.zeros((2, 3, 3), "f4")}, ONE, "no stack of samples of input 'image'"),
        ({"image": np.zeros((0, 2, 3), "f4")}, ONE, "holds no samples"),
        ({"photo": np.zeros((2, 2, 3), "f4"), "b": np.zeros(2)}, ONE, "'image' is missing"),
        ({"image": np.zeros((2, 2, 3), "f4"), "b": np.zeros(2)}, ONE, "'b' is no input"),
        ({"image": np.zeros((2, 2, 3), "f4"), "mask": np.zeros((3, 2), "i8")}, PAIR, "unequal"),
        ([{"image": np.zeros((2, 2, 3), "f4")}], ONE, "shape 2 x 2 x 3, the model takes 1 x 2 x 3"),
        ([{"photo": np.zeros((1, 2, 3), "f4")}], ONE, "'image' is missing; given are photo"),
        ([np.zeros((1, 2, 3), "f4")], PAIR, "a run is a dict of arrays by input name"),
        ([[0.0]], ONE, "a run is a dict of arrays by input name, not a list"),
        (3, ONE, "int is no path"),
        ("absent.npz", ONE, "no file or folder absent.npz"),
    ],
)
def test_what_does_not_fit_is_named(source: Any, inputs: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        list(calibration_data(source, inputs, "m"))


def test_a_foreign_or_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(b"no archive")
    with pytest.raises(InputError, match=r"x\.npz is no \.npz file"):
        calibration_data(tmp_path / "x.npz", ONE, "m")
    np.savez(tmp_path / "y.npz", image=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="image"):
        calibration_data(tmp_path / "y.npz", ONE, "m")
    with pytest.raises(InputError, match=r"holds no \.npz files"):
        calibration_data(_empty(tmp_path), ONE, "m")


def _empty(folder: Path) -> Path:
    (folder / "empty").mkdir()
    return folder / "empty"


def test_sizes_that_share_a_symbol_are_equal() -> None:
    inputs = (TensorInfo("a", "float32", ("N", 2)), TensorInfo("b", "float32", ("N", 3)))
    run = {"a": np.zeros((2, 2), "f4"), "b": np.zeros((3, 3), "f4")}
    with pytest.raises(InputError, match="the model calls both 'N'"):
        list(calibration_data([run], inputs, "m"))


def _many(count: int, sample: np.ndarray) -> Iterator[dict[str, np.ndarray]]:
    for _ in range(count):
        yield {"image": sample.copy()}


@pytest.mark.parametrize("kind", ["npz", "generator"])
def test_memory_does_not_grow_with_the_samples(kind: str, tmp_path: Path) -> None:
    inputs = (TensorInfo("image", "float32", (1, 64, 1024)),)
    sample = np.zeros((1, 64, 1024), "float32")  # 256 KB
    if kind == "npz":
        np.savez_compressed(tmp_path / "x.npz", image=np.zeros((200, 64, 1024), "float32"))
        data = calibration_data(tmp_path / "x.npz", inputs, "m")
    else:
        data = calibration_data(_many(200, sample), inputs, "m")
    tracemalloc.start()
    for _ in range(2):
        assert sum(1 for _ in data) == 200
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 * sample.nbytes
