"""Arrays in ``.npy`` and ``.npz`` files, read a few samples at a time.

``np.load`` maps a ``.npy`` file, but reads a member of a ``.npz`` archive whole. A member is
read here as a stream, compressed or not, so that memory does not grow with the samples.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy

from motet.runtime.device import Array
from motet.runtime.errors import InputError

Open = Callable[[], IO[bytes]]


@dataclass(frozen=True)
class ArrayStream:
    """An array [samples, ...] whose leading axis is read in pieces.

    where: what messages call it; pieces: given a count, yields arrays of that many samples
    in order, the last of what remains.
    """

    where: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    pieces: Callable[[int], Iterator[Array]]


def of_array(where: str, array: Array) -> ArrayStream:
    """An array that is in memory already, or mapped."""

    def pieces(count: int) -> Iterator[Array]:
        for start in range(0, len(array), count):
            yield np.asarray(array[start : start + count])

    return ArrayStream(where, array.shape, array.dtype, pieces)


def of_npy(path: Path) -> ArrayStream:
    """A ``.npy`` file, mapped. Raises ``InputError``."""
    try:
        return of_array(str(path), np.load(path, mmap_mode="r", allow_pickle=False))
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise InputError(f"{path} is no .npy file of a plain array") from error


def of_npz(path: Path) -> dict[str, ArrayStream]:
    """The arrays of a ``.npz`` archive by name. Raises ``InputError``."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = [name for name in archive.namelist() if name.endswith(".npy")]
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from error
    except zipfile.BadZipFile as error:
        raise InputError(f"{path} is no .npz file") from error
    return {name[: -len(".npy")]: _member(path, name) for name in members}


def _member(path: Path, name: str) -> ArrayStream:
    where = f"{path}: array {name[: -len('.npy')]!r}"
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            shape, fortran, dtype = _header(file)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{where} is damaged, or no plain array") from error
    if dtype.hasobject:
        raise InputError(f"{where} holds Python objects: save plain arrays")

    def pieces(count: int) -> Iterator[Array]:
        if fortran:  # samples lie interleaved: there is no reading them in order
            with np.load(path) as archive:
                yield from of_array(where, archive[name[: -len(".npy")]]).pieces(count)
            return
        yield from _read(path, name, where, shape, dtype, count)

    return ArrayStream(where, shape, dtype, pieces)


def _header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, whether in Fortran's order, and dtype of what follows in ``file``."""
    version = npy.read_magic(file)
    read = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
    shape, fortran, dtype = read(file)
    return tuple(map(int, shape)), bool(fortran) and len(shape) > 1, dtype


def _read(
    path: Path, name: str, where: str, shape: tuple[int, ...], dtype: np.dtype[Any], count: int
) -> Iterator[Array]:
    """Pieces of the array, in C's order, of member ``name``."""
    sample = int(np.prod(shape[1:], dtype=np.int64)) * dtype.itemsize
    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as file:
            _header(file)
            for start in range(0, shape[0], count):
                size = min(count, shape[0] - start)
                data = file.read(size * sample)
                yield np.frombuffer(data, dtype).reshape(size, *shape[1:])
    except (ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise InputError(f"{where} is damaged") from error
