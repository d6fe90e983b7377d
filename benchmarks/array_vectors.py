"""Products of vectors with a scale each (VS-Quant) on an array, beside plain int8 on the same.

    python -m motet.benchmarks.array_vectors [--array vsquant-64x64] [--layer NAME]
        [--product-bits 8] [--json]

Layers of ResNet-50's kind and a product of BERT's, in int8 and in vectors of 16 and 32; peak
multiply-accumulates are equal. Operands are random: ReLU's halves of normal values for
convolutions (without a sign), normal ones for the product, channels of different size, quantised by
``targets/quantized``. Cycles and bytes are the timing view's, energy that of one run with its
leakage; ``gated`` is the share of pairs of vectors whose scales' product is 0, counted by the
functional view, which computes the sums too. int8 requantises on the array and leaves words of 8
bits; ``int8, 32-bit out`` leaves its sums, as vectors leave fp32: the host quantises what follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import click
import msgspec
import numpy as np
from numpy.typing import NDArray

from motet.benchmarks.command_help import help_of
from motet.console import output, print_json, table
from motet.runtime.device import ProgramCounts
from motet.runtime.errors import MotetError
from motet.targets.quantized.notation import setting
from motet.targets.quantized.scales import quantized
from motet.targets.quantized.types import Axes, QuantType
from motet.targets.quantized.vectors import Vectors, canonical
from motet.targets.systolic.architecture import ArrayDescription, PerVector
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import VectorFormat, VectorOperand
from motet.targets.systolic.instructions.program import Element
from motet.targets.systolic.simulation.counts import program_counts
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.sum_width import KnownWeights, sum_width
from motet.targets.systolic.workload.graph import Workload, single
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct
from motet.targets.systolic.workload.vector_products import single_of_vectors
from motet.targets.systolic.workload.what_if import in_format

SETTINGS = ("4/8/6/10", "4/4/4/4", "8/8/6/10")
LENGTHS = (16, 32)
LAYERS: dict[str, Convolution | MatrixProduct] = {
    "3x3 64 56x56": Convolution(1, 64, 64, 1, 56, 56, (3, 3), padding=(1, 1, 1, 1)),
    "3x3 256 14x14": Convolution(1, 256, 256, 1, 14, 14, (3, 3), padding=(1, 1, 1, 1)),
    "1x1 64-256 56x56": Convolution(1, 64, 256, 1, 56, 56, (1, 1)),
    "1x1 1024-256 14x14": Convolution(1, 1024, 256, 1, 14, 14, (1, 1)),
    "128x768x768": MatrixProduct(1, 128, 768, 768),
}


@dataclass(frozen=True)
class Row:
    """What a layer takes in a format; sum_bits: that its sums need; gated: 0 to 1."""

    layer: str
    format: str
    sum_bits: int
    cycles: int
    dram_bytes: int
    microjoules: float
    gated: float | None


def rows(array: str, layers: Sequence[str], product_bits: int | None = None) -> Iterator[Row]:
    """Every layer in int8, and in each setting and length of vectors."""
    machine = load_architecture(array)
    for name in layers:
        layer = LAYERS[name]
        workload, made = in_format(single(layer, name), "int8")
        program = compile_workload(workload, machine, made).program
        yield _row(name, "int8", 32, program_counts(program, machine))
        program = compile_workload(_with_sums_out(name, layer), machine, "int8").program
        yield _row(name, "int8, 32-bit out", 32, program_counts(program, machine))
        for length in LENGTHS:
            for text in SETTINGS:
                yield _of_vectors(name, layer, machine, text, length, product_bits)


def _with_sums_out(name: str, layer: Convolution | MatrixProduct) -> Workload:
    workload = single(layer, name)
    *tensors, last = workload.tensors
    return replace(workload, tensors=(*tensors, replace(last, element=Element.INT32)))


def with_units(machine: ArrayDescription, length: int) -> ArrayDescription:
    """``machine`` with vector units of ``length``."""
    pods = tuple(
        msgspec.structs.replace(pod, per_vector=PerVector(length=length, scale_bits=10))
        for pod in machine.pods
    )
    return msgspec.structs.replace(machine, pods=pods)


def _of_vectors(
    name: str,
    layer: Convolution | MatrixProduct,
    machine: ArrayDescription,
    text: str,
    length: int,
    product_bits: int | None,
) -> Row:
    wanted, machine = setting(text, length), with_units(machine, length)
    activations = wanted.unsigned() if isinstance(layer, Convolution) else wanted.activations
    x, w = _operands(layer, wanted.weights, activations)
    words = VectorFormat(
        length, _side(wanted.weights), _side(activations), _kept(wanted.weights, product_bits)
    )
    known = KnownWeights(w.integers.reshape(-1, *w.integers.shape[-3:]), w.scales)
    if isinstance(layer, MatrixProduct):
        known = KnownWeights(w.integers[0], w.scales[0])
    width = sum_width(words, 0, known)
    words = replace(words, sum_bits=32 if width <= 32 else 64)
    workload = single_of_vectors(_in_vectors(layer, length), words, name)
    program = compile_workload(workload, machine).program
    interpreter = Interpreter(program)
    factor = np.ones(workload.tensors[4].shape, np.float32)
    sums = np.zeros(workload.tensors[-1].shape, np.float32)
    interpreter.run([x.integers, x.scales, w.integers, w.scales, factor], [sums])
    counts = program_counts(program, machine, gated=interpreter.gated)
    return _row(name, f"{text} V={length}", width, counts)


def _kept(weights: QuantType, product_bits: int | None) -> int | None:
    return None if weights.scale_bits is None else product_bits


def _row(name: str, text: str, width: int, counts: ProgramCounts) -> Row:
    share = None
    if counts.vector_products:
        share = (counts.gated_products or 0) / counts.vector_products
    moved = counts.dram_read_bytes + counts.dram_write_bytes
    joules = sum(counts.energy_joules.values())
    return Row(name, text, width, counts.cycles, moved, joules * 1e6, share)


def _side(kind: QuantType) -> VectorOperand:
    assert kind.scale_bits is not None
    return VectorOperand(kind.bits, kind.scale_bits, not kind.signed)


def _in_vectors(
    layer: Convolution | MatrixProduct, length: int
) -> VectorConvolution | VectorProduct:
    if isinstance(layer, MatrixProduct):
        return VectorProduct(
            layer.batch, layer.m, layer.n, -(-layer.k // length), rhs_transposed=True,
            length=length, depth=layer.k,
        )  # fmt: skip
    return VectorConvolution(
        layer.batch, -(-layer.in_channels // length), layer.out_channels, 1, layer.in_height,
        layer.in_width, layer.kernel, layer.stride, layer.padding, length=length,
        depth=layer.in_channels,
    )  # fmt: skip


def _operands(
    layer: Convolution | MatrixProduct, weights: QuantType, activations: QuantType
) -> tuple[Vectors, Vectors]:
    """Random values, quantised: input and weight."""
    random = np.random.default_rng(0)
    channels = layer.in_channels if isinstance(layer, Convolution) else layer.k
    size = np.exp(random.normal(scale=0.5, size=channels))

    def normal(shape: tuple[int, ...], axis: int) -> NDArray[np.float32]:
        along = [channels if i == axis else 1 for i in range(len(shape))]
        made: Any = random.normal(size=shape) * size.reshape(along)
        return np.asarray(made, np.float32)

    if isinstance(layer, Convolution):
        data, kernel = np.maximum(normal(layer.input_shape, 1), 0), normal(layer.weight_shape, 1)
        axes = Axes(1), Axes(1, 0)
    else:
        data, kernel = normal(layer.input_shape, 2), normal((1, layer.n, layer.k), 2)
        axes = Axes(2), Axes(2, 1)
    return (
        canonical(quantized(data, activations, axes[0])),
        canonical(quantized(kernel, weights, axes[1])),
    )


@click.command(help=help_of(__doc__))
@click.option("--array", default="vsquant-64x64", show_default=True)
@click.option("--layer", "layers", multiple=True, type=click.Choice([*LAYERS]))
@click.option("--product-bits", type=click.IntRange(1, 13), help="Round the product of scales.")
@click.option("--json", "as_json", is_flag=True)
def main(array: str, layers: tuple[str, ...], product_bits: int | None, as_json: bool) -> None:
    """Measure and print."""
    try:
        found = list(rows(array, layers or [*LAYERS], product_bits))
    except MotetError as error:
        raise click.ClickException(str(error)) from error
    if as_json:
        print_json({"array": array, "rows": [asdict(row) for row in found]})
        return
    columns = ["layer", "format", ">sum, bits", ">cycles", ">DRAM, KiB", ">energy, uJ", ">gated"]
    cells = [
        [
            row.layer, row.format, str(row.sum_bits), f"{row.cycles:,}",
            f"{row.dram_bytes / 1024:,.0f}", f"{row.microjoules:,.1f}",
            "" if row.gated is None else f"{100 * row.gated:.1f} %",
        ]
        for row in found
    ]  # fmt: skip
    output().print(table(f"Products of vectors on {array}", columns, cells))


if __name__ == "__main__":
    main()
