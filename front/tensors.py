"""Tensors on the command line: ``NAME=@FILE`` in, ``@FILE`` out, images where they fit."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np

from motet.runtime.atomic import write_atomically
from motet.runtime.device import Array
from motet.runtime.element_types import NARROW, carried, is_float, narrowed, numpy_dtype
from motet.runtime.errors import EnvironmentLackError, InputError, SpecError
from motet.runtime.program import TensorInfo
from motet.runtime.session import ModelSession
from motet.runtime.shapes import render_shape

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
WORDS = {"true": 1, "false": 0}


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """``input:1x3x224x224`` (or with commas; names may stand for sizes) -> name -> shape."""
    shapes: dict[str, tuple[int | str, ...]] = {}
    for text in texts:
        name, _, sizes = text.rpartition(":")
        words = sizes.split("," if "," in sizes else "x")
        if not name or not all(words):
            raise SpecError(f"--shape {text}: write INPUT:1x3x224x224")
        if name in shapes:
            raise SpecError(f"--shape {text}: the shape of {name!r} is given twice")
        shapes[name] = tuple(int(word) if word.isdecimal() else word for word in words)
    return shapes


def parse_values(texts: Sequence[str]) -> dict[str, list[int | float] | str]:
    """``axes=1,2``, ``axes=@axes.npy`` or ``maybe=none`` -> name -> what ``compile`` takes."""
    values: dict[str, list[int | float] | str] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if not name or not value:
            raise SpecError(f"--value {text}: write INPUT=1,2,3 or INPUT=@FILE.npy")
        if name in values:
            raise SpecError(f"--value {text}: the value of {name!r} is given twice")
        try:
            plain = value[0] == "@" or value == "none"
            values[name] = value if plain else [_number(w) for w in value.split(",")]
        except ValueError:
            raise SpecError(f"--value {text}: {value!r} is no list of numbers") from None
    return values


def _number(word: str) -> int | float:
    """An integer where ``word`` spells one, else a float; ``true`` and ``false`` are 1 and 0."""
    if word in WORDS:
        return WORDS[word]
    try:
        return int(word)
    except ValueError:
        return float(word)


def parse_inputs(
    model: ModelSession, texts: Sequence[str], seed: int, along_wires: bool = False
) -> dict[str, Array]:
    """Inputs of ``model`` from ``NAME=@FILE``, ``@FILE.npz`` or ``NAME=1,2,3``.

    What is not given is random (``ModelSession.random_inputs``), with symbols bound as
    the given inputs have them; ``along_wires`` leaves out what a wire will feed.
    """
    infos = {info.name: info for info in model.program.inputs}
    given: dict[str, Array] = {}
    for text in texts:
        given |= _parse_input(text, infos)
    for name in given:
        if name not in infos:
            raise InputError(
                f"model {model.name!r} has no input {name!r}; its inputs are {', '.join(infos)}"
            )
        given[name] = _as_declared(infos[name], given[name])
    symbols = {
        dimension: size
        for name, array in given.items()
        for dimension, size in zip(infos[name].shape, array.shape, strict=False)
        if isinstance(dimension, str)
    }
    fed = model.entry.wires if along_wires else ()
    random = model.random_inputs(seed, symbols)
    return {name: array for name, array in random.items() if name not in fed} | given


def _as_declared(info: TensorInfo, array: Array) -> Array:
    """An array for an input of a narrow type, which files hold in a wider one or as bytes."""
    if info.dtype not in NARROW:
        return array
    try:
        return narrowed(array, info.dtype)
    except ValueError as error:
        raise InputError(f"--input {info.name}: {error}") from None


def parse_all_inputs(
    models: Sequence[ModelSession], texts: Sequence[str], seed: int, along_wires: bool = False
) -> dict[str, dict[str, Array]]:
    """The inputs of each model; with several models they are written ``MODEL.NAME=...``."""
    if len(models) == 1:
        return {models[0].name: parse_inputs(models[0], texts, seed, along_wires)}
    for text in texts:
        if text.partition(".")[0] not in [model.name for model in models]:
            raise InputError(
                f"--input {text}: with several models write MODEL.NAME=..., or say --model; "
                f"the models are {', '.join(model.name for model in models)}"
            )
    return {
        model.name: parse_inputs(
            model,
            [text[len(model.name) + 1 :] for text in texts if text.startswith(f"{model.name}.")],
            seed,
            along_wires,
        )
        for model in models
    }


def _parse_input(text: str, infos: Mapping[str, TensorInfo]) -> dict[str, Array]:
    if text.startswith("@"):
        if Path(text).suffix == ".npz":
            return _npz(Path(text[1:]))
        if len(infos) != 1:
            raise InputError(f"--input {text}: name the input (NAME={text}) or give a .npz file")
        text = f"{next(iter(infos))}={text}"
    name, separator, value = text.partition("=")
    if not separator or not name or not value:
        raise InputError(f"--input {text}: write NAME=@FILE.npy, NAME=1,2,3 or @FILE.npz")
    if name not in infos:
        raise InputError(f"--input {text}: no input {name!r}; the inputs are {', '.join(infos)}")
    if not value.startswith("@"):
        return {name: _numbers(infos[name], value)}
    path = Path(value[1:])
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return {name: read_image(path, infos[name])}
    return {name: _npy(path)}


def _numbers(info: TensorInfo, text: str) -> Array:
    """``1,2,3`` in the input's dtype, and in its shape where that has as many elements."""
    dtype = numpy_dtype(info.dtype)
    number = float if is_float(info.dtype) else int
    try:
        values = [number(WORDS.get(word, word)) for word in text.split(",")]
        array = np.array(values).astype(dtype)
    except (ValueError, OverflowError):
        raise InputError(f"--input {info.name}={text}: not a list of {dtype.name}") from None
    if dtype.kind != "b" and number is int and array.tolist() != values:
        raise InputError(f"--input {info.name}={text}: too large for {dtype.name}")
    sizes = [size for size in info.shape if isinstance(size, int)]
    fits = len(sizes) == len(info.shape) and int(np.prod(sizes)) == array.size
    return array.reshape(sizes) if fits else array


def _load(path: Path) -> Array | dict[str, Array]:
    """What a ``.npy`` or ``.npz`` file holds, read whole."""
    try:
        with path.open("rb") as file:
            loaded = np.load(file, allow_pickle=False)
            return loaded if isinstance(loaded, np.ndarray) else dict(loaded)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{path} is no {path.suffix or '.npy'} file of plain arrays") from error


def _npz(path: Path) -> dict[str, Array]:
    loaded = _load(path)
    if not isinstance(loaded, dict):
        raise InputError(f"{path} holds one array: give it as --input NAME=@{path}")
    return loaded


def _npy(path: Path) -> Array:
    if path.suffix not in (".npy", ".npz"):
        raise InputError(f"{path}: give a .npy file or an image ({', '.join(IMAGE_SUFFIXES)})")
    loaded = _load(path)
    if isinstance(loaded, dict):
        raise InputError(f"{path} holds several arrays: give it as --input @{path}")
    return loaded


def read_image(path: Path, info: TensorInfo) -> Array:
    """An image as [1, C, H, W] (or [1, H, W, C]): resized to the input, floats in 0 to 1.

    Fits inputs of one or three channels, a batch of one or open, fixed height and width.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise EnvironmentLackError("images need Pillow: pip install 'motet[images]'") from error
    height, width, channels, channels_last = _image_layout(info)
    try:
        with Image.open(path) as image:
            converted = image.convert("L" if channels == 1 else "RGB").resize((width, height))
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = getattr(error, "strerror", None) or "it is not an image, or is damaged"
        raise InputError(f"cannot read the image {path}: {reason}") from error
    pixels = np.asarray(converted).reshape(1, height, width, channels)
    if not channels_last:
        pixels = pixels.transpose(0, 3, 1, 2)
    scaled = pixels / np.float32(255) if is_float(info.dtype) or info.dtype == "bool" else pixels
    return np.ascontiguousarray(scaled.astype(numpy_dtype(info.dtype)))


def _image_layout(info: TensorInfo) -> tuple[int, int, int, bool]:
    """Height, width, channels, and whether these come last; ``InputError`` without a fit."""
    if len(info.shape) == 4 and (info.shape[0] == 1 or isinstance(info.shape[0], str)):
        for channels_last, (c, h, w) in ((False, (1, 2, 3)), (True, (3, 1, 2))):
            channels, height, width = info.shape[c], info.shape[h], info.shape[w]
            if (
                (channels == 1 or channels == 3)
                and isinstance(height, int)
                and isinstance(width, int)
            ):
                return height, width, int(channels), channels_last
    raise InputError(
        f"an image does not fit input {info.name!r} ({info.dtype} {render_shape(info.shape)}), "
        "which would be 1 x (1 or 3) x height x width: give an array as .npy"
    )


def parse_outputs(texts: Sequence[str], known: Sequence[str]) -> list[tuple[Path, str | None]]:
    """Files to write: ``@y.npz`` takes all outputs (None), ``NAME=@y.npy`` or ``@y.npy`` one.

    A file that takes no output's name may go without its ``@``.
    known: names of the outputs. Raises ``InputError``.
    """
    wanted: list[tuple[Path, str | None]] = []
    for text in texts:
        name, at, file = text.rpartition("@")
        if not at and "=" not in text and Path(text).suffix in (".npz", ".npy"):
            at, file, name = "@", text, ""
        name = name.removesuffix("=")
        path = Path(file)
        if at and path.suffix == ".npz" and not name:
            wanted.append((path, None))
            continue
        if not name and len(known) == 1:
            name = known[0]
        if not at or name not in known or path.suffix != ".npy":
            raise InputError(
                f"--output {text}: write @FILE.npz, or NAME=@FILE.npy; "
                f"the outputs are {', '.join(known)}"
            )
        wanted.append((path, name))
    return wanted


def write_outputs(wanted: Sequence[tuple[Path, str | None]], outputs: Mapping[str, Array]) -> None:
    """Write what ``parse_outputs`` found; a file appears whole or not at all.

    Types that ``.npy`` files do not know are written as what holds their values exactly:
    float32 for bfloat16 and smaller floats, int8 or uint8 for integers of fewer bits.
    """
    for path, name in wanted:
        buffer = BytesIO()
        if name is None:
            _write_npz(buffer, outputs)
        else:
            np.save(buffer, carried(outputs[name]), allow_pickle=False)
        try:
            write_atomically(path, [buffer.getbuffer()])
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror}") from error


def _write_npz(buffer: BytesIO, arrays: Mapping[str, Array]) -> None:
    """As ``np.savez``, for any names: those of its own parameters too."""
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.save(member, carried(array), allow_pickle=False)
