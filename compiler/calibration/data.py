"""Calibration data: samples of a model's inputs, as a stream that can be gone through again.

Where they come from (``sources`` reads them):

- a ``.npz`` file, or several: arrays by the inputs' names, the leading axis counts samples;
- a folder of ``.npz`` files, or of ``.npy`` files: ``<input>.npy`` for every input (samples
  along the leading axis), ``<input>/*.npy`` in folders, or, where the model has one input,
  ``*.npy``: each file a run's input, in the order of their names;
- a mapping of names to arrays, or an iterable of dicts, each one run's inputs; for a model of
  one input also an array, or an iterable of arrays;
- onnxruntime's ``CalibrationDataReader``, or whatever has its ``get_next``.

A stacked array has the model's rank (samples lie along the batch axis, and are cut into the
batches that the model takes) or one more (each sample is one run's input). An array called
``labels`` that is no input is kept beside the inputs. What can be read only once (a
generator, a reader) is written to a temporary file on the way; later rounds read that.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from motet.compiler.calibration.sources import rounds_of
from motet.compiler.calibration.stacked import LABELS, Rounds
from motet.runtime.device import Array
from motet.runtime.element_types import NARROW, is_float, narrowed, numpy_dtype
from motet.runtime.errors import InputError
from motet.runtime.program import TensorInfo
from motet.runtime.progress import Show
from motet.runtime.shapes import render_shape

BATCH = 16
"""Samples that are run at once where the model's batch size is open."""


class CalibrationData:
    """One run's inputs after another, checked against the model; may be iterated again.

    inputs: of the model; count: runs, None where only reading will tell; model: its name.
    """

    def __init__(self, rounds: Rounds, inputs: Sequence[TensorInfo], model: str) -> None:
        self.inputs = tuple(inputs)
        self.model = model
        self.has_labels = rounds.has_labels
        self._rounds = rounds

    @property
    def count(self) -> int | None:
        """Runs of one round; known before the first where the source says."""
        return self._rounds.count

    def __iter__(self) -> Iterator[dict[str, Array]]:
        """Each run's inputs. Raises ``InputError`` for what does not fit the model."""
        return (inputs for inputs, _ in self.labelled())

    def labelled(self) -> Iterator[tuple[dict[str, Array], Array | None]]:
        """Each run's inputs with its labels [batch, ...]; None where there are none."""
        run = -1
        for run, given in enumerate(self._rounds.read()):
            labels = None if LABELS in self._names else given.get(LABELS)
            inputs = {name: array for name, array in given.items() if name in self._names}
            self._check_names(given, run)
            checked = {i.name: self._checked(i, inputs[i.name], run) for i in self.inputs}
            self._check_symbols(checked, run)
            yield checked, None if labels is None else np.asarray(labels)
        if run < 0:
            raise InputError(f"model {self.model!r}: the calibration data holds no samples")
        self._rounds.count = run + 1

    @property
    def _names(self) -> tuple[str, ...]:
        return tuple(info.name for info in self.inputs)

    def _where(self, run: int, name: str) -> str:
        return f"model {self.model!r}: calibration run {run}, input {name!r}"

    def _check_names(self, given: Mapping[str, Any], run: int) -> None:
        for name in self._names:
            if name not in given:
                raise InputError(
                    f"{self._where(run, name)} is missing; given are {', '.join(given) or 'none'}"
                )
        stray = [name for name in given if name not in (*self._names, LABELS)]
        if stray:
            raise InputError(
                f"model {self.model!r}: calibration run {run} has {stray[0]!r}, which is no input "
                f"of the model; its inputs are {', '.join(self._names)}"
            )

    def _checked(self, info: TensorInfo, value: Any, run: int) -> Array:
        where = self._where(run, info.name)
        array = _as_dtype(np.asarray(value), info.dtype, where)
        fits = len(array.shape) == len(info.shape) and all(
            size == wanted if isinstance(wanted, int) else size > 0
            for size, wanted in zip(array.shape, info.shape, strict=True)
        )
        if not fits:
            raise InputError(
                f"{where} has shape {render_shape(array.shape)}, the model takes "
                f"{render_shape(info.shape)}"
            )
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise InputError(f"{where} holds NaN or infinity: leave that sample out")
        return array

    def _check_symbols(self, arrays: Mapping[str, Array], run: int) -> None:
        """A symbolic size is one number in all inputs of a run."""
        sizes: dict[str, tuple[str, int]] = {}
        for info in self.inputs:
            for symbol, size in zip(info.shape, arrays[info.name].shape, strict=True):
                if not isinstance(symbol, str) or not symbol.isidentifier():
                    continue
                other, known = sizes.setdefault(symbol, (info.name, size))
                if size != known:
                    raise InputError(
                        f"{self._where(run, info.name)} has size {size} where {other!r} has "
                        f"{known}: the model calls both {symbol!r}"
                    )


def calibration_data(
    source: Any,
    inputs: Sequence[TensorInfo],
    model: str,
    batch: int = BATCH,
    limit: int | None = None,
) -> CalibrationData:
    """Calibration data for a model with ``inputs``, called ``model`` in messages.

    source: as the module says. batch: samples of a stacked array that are run at once where
    the model's batch size is open. limit: samples to take (runs, where a source gives each
    run's inputs whole); all where None.

    Raises ``InputError`` for what cannot be read or does not fit; what only reading shows is
    raised while it is iterated.
    """
    if batch < 1 or (limit is not None and limit < 1):
        raise InputError("calibration: give a batch and a number of samples of at least 1")
    return CalibrationData(rounds_of(source, inputs, model, batch, limit), inputs, model)


def told(
    data: Iterable[Mapping[str, Array]], what: str, show: Show
) -> Iterator[Mapping[str, Array]]:
    """The runs of ``data``; ``show`` is told each once it is done, and how many there are."""
    for number, inputs in enumerate(data, start=1):
        yield inputs
        count = getattr(data, "count", None)
        show(f"{what}: run {number}" + (f" of {count}" if count is not None else ""))


def _as_dtype(array: Array, dtype: str, where: str) -> Array:
    """``array`` in ``dtype`` where that keeps its meaning: floats to floats, equal integers."""
    wanted = numpy_dtype(dtype)
    if array.dtype == wanted:
        return array
    if dtype in NARROW:
        try:
            narrow = narrowed(array, dtype)
        except ValueError as error:
            raise InputError(f"{where} {error}") from None
        if narrow.dtype == wanted:
            return narrow
    if array.dtype.kind == "f" and is_float(dtype):
        return array.astype(wanted)
    if array.dtype.kind in "iu" and wanted.kind in "iu":
        result = array.astype(wanted)
        if (result == array).all():
            return result
    raise InputError(
        f"{where} has dtype {array.dtype.name}, the model takes {dtype}: convert it as the model "
        f"was trained, say (x / 255).astype({dtype!r}) for bytes of an image"
    )
