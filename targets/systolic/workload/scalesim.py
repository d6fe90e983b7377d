"""SCALE-Sim's topologies (``.csv``) as workloads; ``architecture_scalesim`` reads its ``.cfg``.

As SCALE-Sim 3.0.0 reads them: the first line is a header, blank lines count for
nothing, columns are known by their place. ``conv``: layer name, input height and width (with
padding), filter height and width, channels, filters, stride; ``gemm``: layer name, M, N, K. A
sparsity ratio may follow, and a comma and a comment after it end a line. Beyond that, lines
without that comma are read, and columns of a batch size or of a second stride, along the
width, where the header names them (published files and SCALE-Sim's own output have them).

* A layer's outputs are ceil((input - filter) / stride) + 1, as there: a window that sticks
  out is padded with zeros at the bottom and right (others drop it).
* A convolution with ``DP`` in its name is depthwise, one product per channel there; here it is
  one grouped convolution with ``filters`` outputs for each channel.
* Layers are independent: each has its own input, weight and output. There is no bias.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from motet.runtime.errors import CompileError, SpecError
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution, Layer, MatrixProduct

Kind = Literal["conv", "gemm"]

COLUMNS: dict[Kind, tuple[str, ...]] = {
    "conv": (
        "Layer name", "IFMAP Height", "IFMAP Width", "Filter Height", "Filter Width", "Channels",
        "Num Filter", "Strides",
    ),
    "gemm": ("Layer", "M", "N", "K"),
}  # fmt: skip


def read_topology(path: str | Path, kind: Kind | None = None) -> Workload:
    """The layers of a topology file as steps that share no tensor.

    kind: what the file holds; by default its header tells (a column called M is a ``gemm``).

    Raises
    ------
    SpecError: unreadable, not such a table, or a layer that cannot be; names file, line, column
        and remedy.
    """
    rows = list(_rows(path))
    if not rows:
        raise SpecError(f"{path}: empty; the first line is a header, each other line a layer")
    kind = kind or _kind(rows[0])
    _check_header(rows[0], kind)
    layers = [(row, _layer(row, kind, rows[0])) for row in rows[1:]]
    if not layers:
        raise SpecError(f"{path}: no layer; the first line is a header, each other line a layer")
    return _workload(layers)


@dataclass(frozen=True)
class _Row:
    """A line with something in it; no blanks around fields, nothing empty or comment at the end."""

    path: str | Path
    line: int
    fields: tuple[str, ...]

    def error(self, message: str) -> SpecError:
        return SpecError(f"{self.path}, line {self.line}: {message}")


def _rows(path: str | Path) -> Iterator[_Row]:
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, ValueError) as error:
        raise SpecError(f"{path}: cannot read this topology: {error}") from error
    for line, content in enumerate(text.splitlines(), 1):
        fields = [field.strip().strip('"').strip() for field in content.split(",")]
        while fields and (not fields[-1] or fields[-1].startswith("#")):
            fields.pop()
        if fields:
            yield _Row(path, line, tuple(fields))


def _kind(header: _Row) -> Kind:
    return "gemm" if "m" in [name.lower() for name in header.fields[1:]] else "conv"


def _check_header(header: _Row, kind: Kind) -> None:
    """The first line must not be a layer, nor name other columns or another order."""
    expected = COLUMNS[kind]
    if any(_is_number(field) for field in header.fields[1:]):
        raise header.error(f"a layer instead of a header; begin with: {', '.join(expected)}")
    names = [_plain(name) for name in header.fields[1 : len(expected)]]
    wanted = [_plain(name) for name in expected[1:]]
    if len(names) < len(wanted) or any(
        name in wanted and name != wanted[at] for at, name in enumerate(names)
    ):
        raise header.error(f"columns must be, in this order: {', '.join(expected)}")


def _plain(name: str) -> str:
    return "".join(name.lower().split()).rstrip("s").replace("strideheight", "stride")


def _layer(row: _Row, kind: Kind, header: _Row) -> Layer:
    names = COLUMNS[kind]
    values = row.fields
    if len(values) < len(names):
        raise row.error(f"{len(values)} values of {len(names)}: give {', '.join(names)}")
    sizes = [_number(row, name, text) for name, text in zip(names[1:], values[1:], strict=False)]
    more = _more(row, len(names), header)
    try:
        if kind == "gemm":
            m, n, k = sizes
            return MatrixProduct(more.get("batch", 1), m, n, k)
        return _convolution(row, sizes, more)
    except CompileError as error:
        raise row.error(f"layer {values[0]!r}: {error}") from error


def _more(row: _Row, known: int, header: _Row) -> dict[str, int]:
    """Stride along the width and batch, where columns after the ``known`` ones have them."""
    found = {}
    for at, text in enumerate(row.fields[known:], known):
        name = header.fields[at] if at < len(header.fields) else ""
        subject = next((word for word in ("stride", "batch") if word in name.lower()), None)
        if subject:
            found[subject] = _number(row, name, text)
        elif text.replace(" ", "") != "1:1":
            column = f"column {name or at + 1}"
            raise row.error(
                f"{column} is {text!r}; after {header.fields[known - 1]} there may be a sparsity "
                "of 1:1 (only dense layers), a batch size or a second stride, named in the header"
            )
    return found


def _convolution(row: _Row, sizes: list[int], more: dict[str, int]) -> Convolution:
    height, width, kernel_height, kernel_width, channels, filters, stride = sizes
    for name, size, kernel in (
        ("Filter Height", height, kernel_height),
        ("Filter Width", width, kernel_width),
    ):
        if kernel > size:
            raise row.error(f"column {name} is {kernel}, larger than the input's {size}")
    strides = (stride, more.get("stride", stride))
    depthwise = "DP" in row.fields[0]
    return Convolution(
        batch=more.get("batch", 1),
        in_channels=channels,
        out_channels=channels * filters if depthwise else filters,
        groups=channels if depthwise else 1,
        in_height=height,
        in_width=width,
        kernel=(kernel_height, kernel_width),
        stride=strides,
        padding=(
            0,
            0,
            -(height - kernel_height) % strides[0],
            -(width - kernel_width) % strides[1],
        ),
    )


def _workload(layers: list[tuple[_Row, Layer]]) -> Workload:
    """Steps with their own tensors; a name that comes again gets a number."""
    seen: Counter[str] = Counter()
    tensors: list[Tensor] = []
    steps = []
    for row, layer in layers:
        seen[row.fields[0]] += 1
        again = seen[row.fields[0]]
        name = row.fields[0] + (f"#{again}" if again > 1 else "")
        at = len(tensors)
        assert isinstance(layer, (Convolution, MatrixProduct))
        tensors += [
            Tensor(f"{name}.input", layer.input_shape, Role.INPUT),
            Tensor(f"{name}.weight", layer.weight_shape, Role.WEIGHT),
            Tensor(f"{name}.output", layer.output_shape, Role.OUTPUT),
        ]
        steps.append(Step(name, layer, (at, at + 1), at + 2))
    return Workload(tuple(tensors), tuple(steps))


def _is_number(text: str) -> bool:
    return text.lstrip("+-").replace(".", "", 1).isdigit()


def _number(row: _Row, column: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and int(text)):
        raise row.error(f"column {column} is {text!r}; give a whole number of at least 1")
    return int(text)
