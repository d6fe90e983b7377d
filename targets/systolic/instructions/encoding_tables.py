"""The tables of an encoded program: its tensors, views and steps as records, and their names.

In this order, little-endian, no padding: a ``TENSOR`` record each, a ``VIEW`` record each, a
``STEP`` record each, then all texts in UTF-8 in the records' order (a tensor's name; a step's
name, kind and dataflow). Axes and loops that a record does not use are zeros.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import BundleError, ProgramError
from motet.targets.systolic.formats import Format, VectorFormat, VectorOperand, of_vectors
from motet.targets.systolic.instructions.addressing import MAX_LOOPS, Loop, View
from motet.targets.systolic.instructions.isa import NO_OPERAND
from motet.targets.systolic.instructions.program import MAX_RANK, Element, Role, StepInfo, Tensor

MAX_TENSOR_RANK = 8
MAX_ENTRIES = 2**16
"""Of each table: instructions name views and steps in 16 bits."""
MAX_TEXT_BYTES = 2**24

_LOOP = np.dtype([("extent", "<i8"), ("stride", "<i8")])
TENSOR = np.dtype(
    [
        ("role", "<u1"),
        ("element", "<u1"),
        ("rank", "<u1"),
        ("is_resident", "<u1"),
        ("name_bytes", "<u4"),
        ("resident", "<u8"),
        ("shape", "<i8", (MAX_TENSOR_RANK,)),
    ]
)
VIEW = np.dtype(
    [
        ("tensor", "<u4"),
        ("rank", "<u1"),
        ("row_loops", "<u1"),
        ("column_loops", "<u1"),
        ("reserved", "<u1"),
        ("offset", "<i8"),
        ("shape", "<i8", (MAX_RANK,)),
        ("padding", "<i8", (4,)),
        ("group", _LOOP),
        ("rows", _LOOP, (MAX_LOOPS,)),
        ("columns", _LOOP, (MAX_LOOPS,)),
    ]
)
STEP = np.dtype(
    [
        ("name_bytes", "<u4"),
        ("kind_bytes", "<u4"),
        ("dataflow_bytes", "<u4"),
        ("pods", "<u4"),
        ("macs", "<u8"),
    ]
)
VECTORS = np.dtype(
    [
        ("length", "<u1"),
        ("weight_bits", "<u1"),
        ("weight_scale_bits", "<u1"),
        ("input_bits", "<u1"),
        ("input_scale_bits", "<u1"),
        ("product_bits", "<u1"),
        ("sum_bits", "<u1"),
        ("unsigned", "<u1"),
    ]
)
"""A format of vectors. ``product_bits``: 0 for all; ``unsigned``: bit 0 weights, bit 1 inputs."""
MAX_TABLE_BYTES = MAX_ENTRIES * (TENSOR.itemsize + VIEW.itemsize + STEP.itemsize) + MAX_TEXT_BYTES

_DAMAGED = "array program: its tables are damaged: compile the model again"


def write_vectors(vectors: VectorFormat) -> bytes:
    """The record of a format of vectors."""
    sides = (vectors.weights, vectors.inputs)
    sizes = [number for side in sides for number in (side.bits, side.scale_bits)]
    signs = vectors.weights.unsigned | vectors.inputs.unsigned << 1
    record = (vectors.length, *sizes, vectors.product_bits or 0, vectors.sum_bits, signs)
    return np.array([record], VECTORS).tobytes()


def read_vectors(body: bytes) -> Format:
    """The format whose record ``body`` starts with; ``BundleError`` where it is none."""
    try:
        length, w, ws, a, s, product, sums, signs = np.frombuffer(body, VECTORS, 1)[0].item()
        if signs > 3:
            raise ValueError("unknown signs")
        weights, inputs = VectorOperand(w, ws, bool(signs & 1)), VectorOperand(a, s, signs > 1)
        return of_vectors(VectorFormat(length, weights, inputs, product or None, sums))
    except ValueError:
        raise BundleError(_DAMAGED) from None


class Tables(NamedTuple):
    """What was read, and where in the body it ends."""

    tensors: tuple[Tensor, ...]
    views: tuple[View, ...]
    steps: tuple[StepInfo, ...]
    end: int


class TableSizes(NamedTuple):
    """How many of each."""

    tensors: int
    views: int
    steps: int


def write_tables(
    tensors: tuple[Tensor, ...], views: tuple[View, ...], steps: tuple[StepInfo, ...]
) -> bytes:
    """The tables as bytes; ``ProgramError`` where a value does not fit its field."""
    texts = [tensor.name.encode() for tensor in tensors]
    for step in steps:
        texts += [step.name.encode(), step.kind.encode(), step.dataflow.encode()]
    sizes = [len(text) for text in texts]
    step_sizes = zip(*[iter(sizes[len(tensors) :])] * 3, strict=True)
    text = b"".join(texts)
    if max(len(tensors), len(steps)) > MAX_ENTRIES or len(views) > NO_OPERAND:
        raise ProgramError(
            f"array program: at most {NO_OPERAND} views, {MAX_ENTRIES} tensors and steps: split it"
        )
    if len(text) > MAX_TEXT_BYTES:
        raise ProgramError(
            f"array program: names of more than {MAX_TEXT_BYTES} bytes: shorten them"
        )
    try:
        records = (
            np.array([_tensor_record(*each) for each in zip(tensors, sizes, strict=False)], TENSOR),
            np.array([_view_record(view, len(tensors)) for view in views], VIEW),
            np.array([(*z, s.pods, s.macs) for s, z in zip(steps, step_sizes, strict=True)], STEP),
        )
    except (OverflowError, ValueError) as error:
        raise ProgramError(f"array program: a tensor, view or step does not fit: {error}") from None
    return b"".join([*(made.tobytes() for made in records), text])


def read_tables(body: bytes, sizes: TableSizes) -> Tables:
    """The tables at the start of ``body``; ``BundleError`` unless ``write_tables`` made them."""
    if max(sizes) > MAX_ENTRIES:
        raise BundleError(_DAMAGED)
    records: list[NDArray[Any]] = []
    at = 0
    for kind, count in zip((TENSOR, VIEW, STEP), sizes, strict=True):
        if at + count * kind.itemsize > len(body):
            raise BundleError(_DAMAGED)
        records.append(np.frombuffer(body, kind, count, at))
        at += count * kind.itemsize
    lengths = [int(size) for size in records[0]["name_bytes"]]
    lengths += (
        np.stack(
            [records[2][name] for name in ("name_bytes", "kind_bytes", "dataflow_bytes")], axis=1
        )
        .ravel()
        .tolist()
    )
    texts, end = _texts(body, at, lengths)
    try:
        tables = _tables(records, texts, end)
        is_same = write_tables(tables.tensors, tables.views, tables.steps) == body[:end]
    except (ValueError, ProgramError):
        raise BundleError(_DAMAGED) from None
    if not is_same:
        raise BundleError(_DAMAGED)
    return tables


def _texts(body: bytes, begin: int, lengths: list[int]) -> tuple[list[str], int]:
    texts = []
    if begin + sum(lengths) > len(body):
        raise BundleError(_DAMAGED)
    for length in lengths:
        try:
            texts.append(body[begin : begin + length].decode())
        except UnicodeDecodeError:
            raise BundleError(_DAMAGED) from None
        begin += length
    return texts, begin


def _tables(records: list[NDArray[Any]], texts: list[str], end: int) -> Tables:
    count = len(records[0])
    tensors = tuple(map(_tensor, records[0].tolist(), texts))
    views = tuple(map(_view, records[1].tolist()))
    named = zip(*[iter(texts[count:])] * 3, strict=True)
    steps = tuple(
        StepInfo(name, kind, macs, dataflow, pods)
        for (name, kind, dataflow), (*_, pods, macs) in zip(named, records[2].tolist(), strict=True)
    )
    return Tables(tensors, views, steps, end)


def _tensor_record(tensor: Tensor, name_bytes: int) -> tuple[Any, ...]:
    if len(tensor.shape) > MAX_TENSOR_RANK or min(tensor.shape, default=1) < 0:
        raise ValueError(f"{tensor.name!r} has the shape {tensor.shape}")
    if tensor.resident is not None and tensor.resident < 0:
        raise ValueError(f"{tensor.name!r} lies at {tensor.resident}")
    place = (tensor.resident is not None, name_bytes, tensor.resident or 0)
    rank = len(tensor.shape)
    return int(tensor.role), int(tensor.element), rank, *place, _filled(tensor.shape, 8)


def _tensor(record: tuple[Any, ...], name: str) -> Tensor:
    role, element, rank, is_resident, _, resident, shape = record
    sizes = tuple(int(size) for size in shape[:rank])
    return Tensor(name, sizes, Role(role), Element(element), resident if is_resident else None)


def _view_record(view: View, tensors: int) -> tuple[Any, ...]:
    loops, rank = (len(view.rows), len(view.columns)), len(view.shape)
    if not (0 <= view.tensor < tensors and rank <= MAX_RANK and max(loops) <= MAX_LOOPS):
        raise ValueError(f"{view} is of no tensor, or has too many axes or loops")
    head = (view.tensor, rank, *loops, 0, view.offset)
    sizes = (_filled(view.shape, MAX_RANK), view.padding)
    rows, columns = _filled_loops(view.rows), _filled_loops(view.columns)
    return (*head, *sizes, view.group, rows, columns)


def _view(record: tuple[Any, ...]) -> View:
    tensor, rank, row_loops, column_loops, _, offset, shape, padding, group, rows, columns = record
    top, left, bottom, right = (int(side) for side in padding)
    return View(
        tensor,
        tuple(int(size) for size in shape[:rank]),
        Loop(*group),
        _loops(rows, row_loops),
        _loops(columns, column_loops),
        (top, left, bottom, right),
        offset,
    )


def _loops(records: Any, count: int) -> tuple[Loop, ...]:
    return tuple(Loop(int(extent), int(stride)) for extent, stride in records[:count])


def _filled(sizes: tuple[int, ...], count: int) -> tuple[int, ...]:
    return (*sizes, *[0] * (count - len(sizes)))


def _filled_loops(loops: tuple[Loop, ...]) -> list[Loop]:
    return [*loops, *[Loop(0, 0)] * (MAX_LOOPS - len(loops))]
