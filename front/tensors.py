"""Tensors on the command line: ``NAME=@FILE`` in, ``@FILE`` out, images where they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from motet.runtime.device import Array
from motet.runtime.errors import EnvironmentLackError, InputError, SpecError
from motet.runtime.program import TensorInfo
from motet.runtime.session import ModelSession
from motet.runtime.shapes import render_shape

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")


def parse_shapes(texts: Sequence[str]) -> dict[str, tuple[int | str, ...]]:
    """``input:1x3x224x224`` (symbol names may stand for sizes) -> input name -> shape."""
    shapes = {}
    for text in texts:
        name, separator, sizes = text.rpartition(":")
        if not separator or not name or not sizes:
            raise SpecError(f"--shape {text}: write NAME:1x3x224x224")
        shapes[name] = tuple(int(size) if size.isdigit() else size for size in sizes.split("x"))
    return shapes


def parse_inputs(model: ModelSession, texts: Sequence[str], seed: int) -> dict[str, Array]:
    """Inputs of ``model`` from ``NAME=@FILE``, ``@FILE.npz`` or ``NAME=1,2,3``.

    What is not given is random (``ModelSession.random_inputs``), with symbols bound as
    the given inputs have them.
    """
    infos = {info.name: info for info in model.program.inputs}
    given: dict[str, Array] = {}
    for text in texts:
        name, value = _split(text, infos)
        if name is None:
            given |= _npz(value)
        elif name not in infos:
            raise InputError(
                f"model {model.name!r} has no input {name!r}; its inputs are {', '.join(infos)}"
            )
        else:
            given[name] = _value(infos[name], value)
    symbols = {
        dimension: size
        for name, array in given.items()
        if name in infos
        for dimension, size in zip(infos[name].shape, array.shape, strict=False)
        if isinstance(dimension, str)
    }
    return model.random_inputs(seed, symbols) | given


def _split(text: str, infos: Mapping[str, TensorInfo]) -> tuple[str | None, str]:
    if text.startswith("@"):
        if len(infos) == 1 and Path(text).suffix != ".npz":
            return next(iter(infos)), text
        return None, text[1:]
    name, separator, value = text.partition("=")
    if not separator:
        raise InputError(f"--input {text}: write NAME=@FILE.npy, NAME=1,2,3 or @FILE.npz")
    return name, value


def _npz(path: str) -> dict[str, Array]:
    if Path(path).suffix != ".npz":
        raise InputError(f"--input @{path}: name the input (NAME=@{path}) or give a .npz file")
    try:
        with np.load(path, allow_pickle=False) as archive:
            return dict(archive)
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read {path}: {error}") from error


def _value(info: TensorInfo, text: str) -> Array:
    if not text.startswith("@"):
        try:
            return np.array([float(word) for word in text.split(",")]).astype(info.dtype)
        except ValueError:
            raise InputError(f"--input {info.name}={text}: not a list of numbers") from None
    path = Path(text[1:])
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return read_image(path, info)
    try:
        loaded = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise InputError(f"cannot read {path}: {error}") from error
    if not isinstance(loaded, np.ndarray):
        raise InputError(f"{path} holds several arrays; give it as --input @{path}")
    return loaded


def read_image(path: Path, info: TensorInfo) -> Array:
    """An image as [1, C, H, W]: scaled to the input's size, floats in 0 to 1.

    Fits inputs of one or three channels whose height and width are fixed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise EnvironmentLackError("images need Pillow: pip install 'motet[images]'") from error
    if len(info.shape) != 4 or info.shape[1] not in (1, 3) or not _fixed(info.shape[2:]):
        raise InputError(
            f"an image does not fit input {info.name!r} ({render_shape(info.shape)}): "
            "give an array as .npy"
        )
    try:
        with Image.open(path) as image:
            size = (int(str(info.shape[3])), int(str(info.shape[2])))
            converted = image.convert("L" if info.shape[1] == 1 else "RGB").resize(size)
    except OSError as error:
        raise InputError(f"cannot read image {path}: {error}") from error
    pixels = np.asarray(converted).reshape(size[1], size[0], -1).transpose(2, 0, 1)[None]
    scaled = pixels if np.dtype(info.dtype).kind in "iu" else pixels / np.float32(255)
    return np.ascontiguousarray(scaled.astype(info.dtype))


def _fixed(shape: Sequence[Any]) -> bool:
    return all(isinstance(size, int) for size in shape)


def write_outputs(texts: Sequence[str], outputs: Mapping[str, Array]) -> None:
    """``@y.npz`` takes all outputs, ``NAME=@y.npy`` one, ``@y.npy`` the only one."""
    for text in texts:
        name, _, file = text.rpartition("@")
        name = name.removesuffix("=")
        path = Path(file)
        if path.suffix == ".npz" and not name:
            np.savez(path, allow_pickle=False, **outputs)
            continue
        if not name and len(outputs) == 1:
            name = next(iter(outputs))
        if name not in outputs or path.suffix != ".npy":
            raise InputError(
                f"--output {text}: write @FILE.npz, or NAME=@FILE.npy; "
                f"the outputs are {', '.join(outputs)}"
            )
        np.save(path, outputs[name], allow_pickle=False)
