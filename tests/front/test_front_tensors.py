"""Images and numbers of the command line as tensors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from motet.runtime.errors import InputError
from motet.runtime.program import TensorInfo
from motet.tensors import parse_shapes, read_image, write_outputs

Image = pytest.importorskip("PIL.Image")


@pytest.fixture
def picture(tmp_path: Path) -> tuple[Path, np.ndarray]:
    pixels = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    return tmp_path / "picture.png", pixels


def test_an_image_channels_first(picture: tuple[Path, np.ndarray]) -> None:
    path, pixels = picture
    array = read_image(path, TensorInfo("image", "float32", ("N", 3, 5, 7)))
    expected = pixels.transpose(2, 0, 1)[None] / np.float32(255)
    np.testing.assert_array_equal(array, expected.astype("float32"))


def test_an_image_channels_last_in_bytes(picture: tuple[Path, np.ndarray]) -> None:
    path, pixels = picture
    array = read_image(path, TensorInfo("image", "uint8", (1, 5, 7, 3)))
    np.testing.assert_array_equal(array, pixels[None])


def test_an_image_in_grey_and_another_size(picture: tuple[Path, np.ndarray]) -> None:
    array = read_image(picture[0], TensorInfo("image", "float16", (1, 1, 10, 14)))
    assert (array.shape, array.dtype.name) == ((1, 1, 10, 14), "float16")
    assert 0 <= array.min() < array.max() <= 1


@pytest.mark.parametrize("shape", [(1, 4), (2, 3, 5, 7), (1, 4, 5, 6), (1, 3, "H", 7), (3, 5, 7)])
def test_inputs_that_no_image_fits(
    shape: tuple[int | str, ...], picture: tuple[Path, np.ndarray]
) -> None:
    with pytest.raises(InputError, match="an image does not fit input 'image'"):
        read_image(picture[0], TensorInfo("image", "float32", shape))


def test_a_truncated_image(picture: tuple[Path, np.ndarray]) -> None:
    picture[0].write_bytes(picture[0].read_bytes()[:60])
    with pytest.raises(InputError, match="is not an image, or is damaged"):
        read_image(picture[0], TensorInfo("image", "float32", (1, 3, 5, 7)))


def test_shapes() -> None:
    texts = ["image:1x3x224x224", "input:0:Nx4", "faces.a:max,7"]
    assert parse_shapes(texts) == {
        "image": (1, 3, 224, 224),
        "input:0": ("N", 4),
        "faces.a": ("max", 7),
    }


def test_archives_take_any_output_name(tmp_path: Path) -> None:
    outputs = {name: np.arange(3) for name in ("file", "allow_pickle", "a/b", "args")}
    write_outputs([(tmp_path / "y.npz", None)], outputs)
    with np.load(tmp_path / "y.npz") as archive:
        assert sorted(archive) == sorted(outputs)
        assert all(archive[name].tolist() == [0, 1, 2] for name in archive)
