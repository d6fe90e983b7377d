"""Where calibration data comes from: each source as rounds of dicts, one dict a run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from motet.compiler.calibration.stacked import LABELS, Rounds, Run, stacked
from motet.compiler.calibration.streams import ArrayStream, of_array, of_npy, of_npz
from motet.runtime.device import Array
from motet.runtime.errors import InputError
from motet.runtime.program import TensorInfo


def rounds_of(
    source: Any, inputs: Sequence[TensorInfo], model: str, batch: int, limit: int | None
) -> Rounds:
    """The rounds of any source that ``data`` names. Raises ``InputError``."""
    if hasattr(source, "get_next"):
        return _once(map(_run, _from_reader(source)), limit)
    if isinstance(source, np.ndarray):
        source = {_only_input(inputs, model): source}
    run = partial(_run_of, inputs)
    if isinstance(source, (str, os.PathLike)):
        source = [source]
    if isinstance(source, Mapping):
        arrays = {name: of_array(repr(name), np.asarray(x)) for name, x in source.items()}
        return stacked([arrays], inputs, model, batch, limit)
    if _are_paths(source):
        return _files([Path(path) for path in source], inputs, model, batch, limit)
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        runs = list(islice(source, limit))
        return Rounds(lambda: map(run, runs), len(runs), bool(runs) and LABELS in run(runs[0]))
    if isinstance(source, Iterator):
        return _once(map(run, source), limit)
    if isinstance(source, Iterable):
        size = len(source) if isinstance(source, Sized) else None
        count = size if limit is None or size is None else min(size, limit)
        return Rounds(lambda: map(run, islice(iter(source), limit)), count, True)
    raise InputError(
        f"calibration data: {type(source).__name__} is no path, array, mapping, iterable of dicts "
        "or reader with get_next()"
    )


def _only_input(inputs: Sequence[TensorInfo], model: str) -> str:
    """The input that an array without a name is for."""
    if len(inputs) != 1:
        names = ", ".join(info.name for info in inputs)
        raise InputError(
            f"model {model!r}: calibration: an array without a name, and the model has the inputs "
            f"{names or 'none'}: give a dict of arrays by input name"
        )
    return inputs[0].name


def _run_of(inputs: Sequence[TensorInfo], given: Any) -> Run:
    """A run's inputs; an array alone is that of a single input."""
    if isinstance(given, np.ndarray) and len(inputs) == 1:
        return {inputs[0].name: given}
    return _run(given)


def _are_paths(source: Any) -> bool:
    return (
        isinstance(source, (list, tuple))
        and bool(source)
        and all(isinstance(path, (str, os.PathLike)) for path in source)
    )


def _run(given: Any) -> Run:
    if not isinstance(given, Mapping):
        raise InputError(
            f"calibration data: a run is a dict of arrays by input name, not a "
            f"{type(given).__name__}"
        )
    return given


def _from_reader(reader: Any) -> Iterator[Run]:
    """What a ``CalibrationDataReader`` gives, up to its None."""
    while (given := reader.get_next()) is not None:
        yield given


def _once(runs: Iterator[Run], limit: int | None) -> Rounds:
    """Runs that can be read once: kept in a temporary file from the first round on."""
    source = islice(runs, limit)
    file = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the rounds
    kept: list[tuple[str, ...]] = []
    ended = False

    def write(run: Run) -> None:
        file.seek(0, os.SEEK_END)
        for array in run.values():
            np.save(file, np.asarray(array), allow_pickle=False)
        kept.append(tuple(run))

    def read() -> Iterator[Run]:
        nonlocal ended
        index = position = 0
        while True:
            if index == len(kept):
                run = None if ended else next(source, None)
                if run is None:
                    ended = True
                    return
                write(run)
            file.seek(position)
            # Read back even when just written: every round then gives the same arrays.
            run = {name: np.load(file, allow_pickle=False) for name in kept[index]}
            index, position = index + 1, file.tell()
            yield run

    return Rounds(read, None, True)


def _files(
    paths: Sequence[Path], inputs: Sequence[TensorInfo], model: str, batch: int, limit: int | None
) -> Rounds:
    for path in paths:
        if not path.exists():
            raise InputError(f"calibration data: there is no file or folder {path}")
    folders = [path for path in paths if path.is_dir()]
    if folders and len(paths) > 1:
        raise InputError(f"calibration data: give the folder {folders[0]} alone, or files")
    if folders:
        return _folder(folders[0], inputs, model, batch, limit)
    stray = next((p for p in paths if p.suffix not in (".npz", ".npy")), None)
    if stray is not None:
        raise InputError(f"calibration data: {stray} is no .npz file, .npy file or folder of them")
    return stacked([_arrays(p, inputs, model) for p in paths], inputs, model, batch, limit)


_UNNAMED = "arr_0"
"""What ``np.savez`` calls an array that it is given without a name."""


def _arrays(path: Path, inputs: Sequence[TensorInfo], model: str) -> dict[str, ArrayStream]:
    """The arrays of one file; one without a name is that of a single input.

    A ``.npy`` file has no name of an array. Raises ``InputError`` for another's name.
    """
    if path.suffix == ".npy":
        known = [info.name for info in inputs if info.name == path.stem]
        return {known[0] if known else _only_input(inputs, model): of_npy(path)}
    arrays = of_npz(path)
    others = [name for name in arrays if name != LABELS]
    if len(inputs) == 1 and len(others) == 1 and inputs[0].name not in arrays:
        if others[0] != _UNNAMED:
            raise InputError(
                f"model {model!r}: calibration: {path} has the array {others[0]!r}, and the "
                f"model's input is {inputs[0].name!r}: save it under that name"
            )
        arrays[inputs[0].name] = arrays.pop(_UNNAMED)
    return arrays


def _folder(
    folder: Path, inputs: Sequence[TensorInfo], model: str, batch: int, limit: int | None
) -> Rounds:
    names = [info.name for info in inputs]
    archives = sorted(folder.glob("*.npz"))
    if archives:
        return _files(archives, inputs, model, batch, limit)
    if all((folder / f"{name}.npy").is_file() for name in names):
        found = [*names, *([LABELS] if (folder / f"{LABELS}.npy").is_file() else [])]
        arrays = {name: of_npy(folder / f"{name}.npy") for name in found}
        return stacked([arrays], inputs, model, batch, limit)
    if all((folder / name).is_dir() for name in names):
        return _single_files({n: sorted((folder / n).glob("*.npy")) for n in names}, limit, folder)
    files = sorted(path for path in folder.glob("*.npy") if path.stem != LABELS)
    if files and len(names) == 1:
        return _single_files({names[0]: files}, limit, folder)
    raise InputError(
        f"calibration data: {folder} holds no .npz files, and no "
        f"{' or '.join(f'{name}.npy' for name in names)} and no folder of .npy files for every "
        f"input of model {model!r} ({', '.join(names)})"
    )


def _single_files(files: Mapping[str, Sequence[Path]], limit: int | None, folder: Path) -> Rounds:
    """One file of each input a run."""
    counts = {name: len(found) for name, found in files.items()}
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{name} {count}" for name, count in counts.items())
        raise InputError(f"calibration data: {folder} has unequal numbers of files: {told}")
    count = next(iter(counts.values()))
    count = count if limit is None else min(count, limit)

    def read() -> Iterator[Run]:
        for index in range(count):
            yield {name: _whole(found[index]) for name, found in files.items()}

    return Rounds(read, count)


def _whole(path: Path) -> Array:
    stream = of_npy(path)
    if not stream.shape:
        raise InputError(f"{path} holds a single number: save the run's whole input")
    return np.concatenate(list(stream.pieces(max(1, stream.shape[0]))))
