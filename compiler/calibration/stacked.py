"""Stacked arrays, whose leading axis counts samples, as runs of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from motet.compiler.calibration.streams import ArrayStream
from motet.runtime.device import Array
from motet.runtime.errors import InputError
from motet.runtime.program import TensorInfo
from motet.runtime.shapes import render_shape

LABELS = "labels"
"""The array beside the inputs that says what the right outputs are."""

Run = Mapping[str, Any]


@dataclass
class Rounds:
    """Runs that can be read again and again. count: None where only reading tells."""

    read: Callable[[], Iterator[Run]]
    count: int | None
    has_labels: bool = False


def stacked(
    files: Sequence[Mapping[str, ArrayStream]],
    inputs: Sequence[TensorInfo],
    model: str,
    batch: int,
    limit: int | None,
) -> Rounds:
    """The runs of arrays by name, file after file. Raises ``InputError``."""
    parts = list[tuple[_Cut, ...]]()
    count, left = 0, limit
    for arrays in files:
        cuts, runs, samples = _cuts(arrays, inputs, model, batch, left)
        parts.append(cuts)
        count += runs
        left = None if left is None else left - samples
        if left is not None and left <= 0:
            break
    labelled = all(any(cut.name == LABELS for cut in cuts) for cuts in parts)
    return Rounds(lambda: chain.from_iterable(map(_runs, parts)), count, labelled)


@dataclass(frozen=True)
class _Cut:
    """How one stacked array becomes runs: ``size`` samples each, ``whole`` ones without the
    leading axis; ``runs`` of them, the last of ``last`` samples.
    """

    name: str
    stream: ArrayStream
    size: int
    whole: bool
    runs: int
    last: int

    def pieces(self) -> Iterator[Array]:
        for index, piece in enumerate(islice(self.stream.pieces(self.size), self.runs)):
            piece = piece[: self.last] if index == self.runs - 1 else piece
            yield piece[0] if self.whole else piece


def _runs(cuts: Sequence[_Cut]) -> Iterator[Run]:
    names = [cut.name for cut in cuts]
    for pieces in zip(*(cut.pieces() for cut in cuts), strict=True):
        yield dict(zip(names, pieces, strict=True))


def _cuts(
    arrays: Mapping[str, ArrayStream],
    inputs: Sequence[TensorInfo],
    model: str,
    batch: int,
    limit: int | None,
) -> tuple[tuple[_Cut, ...], int, int]:
    """The cuts of one file's arrays, the number of runs, and of samples."""
    _check_arrays(arrays, inputs, model)
    whole = {i.name: len(arrays[i.name].shape) == len(i.shape) + 1 for i in inputs}
    fixed = [i.shape[0] for i in inputs if not whole[i.name] and i.shape]
    sizes = {size for size in fixed if isinstance(size, int)}
    if len(sizes) > 1:
        raise InputError(
            f"model {model!r}: calibration: its inputs have batch axes of {sorted(sizes)}: stack "
            "whole inputs along a leading axis of their own, or give dicts"
        )
    per_run = sizes.pop() if sizes else 1 if any(whole.values()) else batch
    counts = {i.name: arrays[i.name].shape[0] * (per_run if whole[i.name] else 1) for i in inputs}
    if len({*counts.values()}) > 1:
        told = ", ".join(f"{name} {arrays[name].shape[0]}" for name in counts)
        raise InputError(f"model {model!r}: calibration: unequal numbers of samples: {told}")
    samples = next(iter(counts.values())) if counts else 0
    if fixed and samples % per_run and isinstance(fixed[0], int):
        raise InputError(
            f"model {model!r}: calibration: {samples} samples, of which the model takes {per_run} "
            "at a time: give a multiple"
        )
    taken = samples if limit is None else min(samples, -(-limit // per_run) * per_run)
    taken = taken if sizes or limit is None else min(taken, limit)
    runs = -(-taken // per_run)
    last = taken - (runs - 1) * per_run
    cuts = [
        _Cut(i.name, arrays[i.name], 1 if whole[i.name] else per_run, whole[i.name], runs,
             1 if whole[i.name] else last)
        for i in inputs
    ]  # fmt: skip
    if LABELS in arrays and LABELS not in whole:
        cuts.append(_labels(arrays[LABELS], samples, per_run, runs, last, model))
    return tuple(cuts), runs, taken


def _labels(
    stream: ArrayStream, samples: int, per_run: int, runs: int, last: int, model: str
) -> _Cut:
    if not stream.shape or stream.shape[0] != samples:
        found = stream.shape[0] if stream.shape else "a single one"
        raise InputError(f"model {model!r}: calibration: {samples} samples, but labels: {found}")
    return _Cut(LABELS, stream, per_run, False, runs, last)


def _check_arrays(
    arrays: Mapping[str, ArrayStream], inputs: Sequence[TensorInfo], model: str
) -> None:
    names = [info.name for info in inputs]
    for info in inputs:
        if info.name not in arrays:
            raise InputError(
                f"model {model!r}: calibration: input {info.name!r} is missing; there are "
                f"{', '.join(arrays) or 'no arrays'}"
            )
        stream = arrays[info.name]
        _check_shape(info, stream, model)
    stray = next((name for name in arrays if name not in (*names, LABELS)), None)
    if stray is not None:
        raise InputError(
            f"model {model!r}: calibration: {stray!r} is no input of the model, which are "
            f"{', '.join(names)} (right answers are called {LABELS!r})"
        )


def _check_shape(info: TensorInfo, stream: ArrayStream, model: str) -> None:
    """The trailing axes must be the model's; the leading ones count samples."""
    rank, shape = len(info.shape), stream.shape
    inner = info.shape if len(shape) == rank + 1 else info.shape[1:]
    fits = (
        len(shape) in (rank, rank + 1)
        and bool(shape)
        and all(
            have == want or isinstance(want, str)
            for have, want in zip(shape[1:], inner, strict=True)
        )
    )
    if not fits:
        raise InputError(
            f"model {model!r}: calibration: {stream.where} has shape {render_shape(shape)}, which "
            f"is no stack of samples of input {info.name!r} ({render_shape(info.shape)})"
        )
