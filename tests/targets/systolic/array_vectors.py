"""Products of vectors on small arrays, beside the NumPy reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from motet.targets.quantized.vectors import Rounding, Vectors, vector_conv, vector_matmul
from motet.targets.systolic.architecture import ArrayDescription, PerVector
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.formats import VectorFormat, format_named
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.program import SystolicProgram
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.workload.vector_layers import VectorConvolution, VectorProduct
from motet.targets.systolic.workload.vector_products import single_of_vectors

Layer = VectorConvolution | VectorProduct


def machine(length: int = 4, rows: int = 8, *, kilobytes: int = 8, pods: int = 1):
    """``rows`` x 4 multiply-accumulates in units of ``length``, with small memories."""
    made = load_architecture("tiny-4x4")
    pod = msgspec.structs.replace(
        made.pods[0],
        count=pods,
        rows=rows,
        dataflows=("weight-stationary", "output-stationary", "input-stationary"),
        formats=("int8", "int4"),
        per_vector=PerVector(length=length, scale_bits=12),
        scratchpad=msgspec.structs.replace(made.pods[0].scratchpad, bytes=kilobytes * 1024),
    )
    return msgspec.structs.replace(made, energy=None, pods=(pod,))


def words_of(name: str) -> VectorFormat:
    found = format_named(name).vectors
    assert found is not None
    return found


def random_vectors(rng: Any, words: VectorFormat, layer: Layer) -> tuple[Vectors, Vectors]:
    """Input and weight, any integers and scales that the bits hold."""
    made = []
    for side, shape in ((words.inputs, layer.input_shape), (words.weights, layer.weight_shape)):
        values = rng.integers(side.least, side.largest + 1, (*shape, words.length))
        scales = rng.integers(0, 1 << side.scale_bits, shape)
        made.append(Vectors(values.astype(side.stored), scales.astype(np.uint16)))
    return made[0], made[1]


def reference(layer: Layer, words: VectorFormat, x: Vectors, w: Vectors, factor: Any = None) -> Any:
    rounding = Rounding(words.dropped, words.product_bits)
    if isinstance(layer, VectorProduct):
        right = w if layer.rhs_batched else Vectors(w.integers[0], w.scales[0])
        return vector_matmul(x, right, factor, rounding)
    return vector_conv(
        x, w, factor, rounding, strides=layer.stride, pads=layer.padding,
        dilations=layer.dilation, groups=layer.groups,
    )  # fmt: skip


def compiled(
    layer: Layer, words: VectorFormat, description: ArrayDescription, **options: Any
) -> SystolicProgram:
    """A checked program."""
    constraints = options.pop("constraints", None)
    workload = single_of_vectors(layer, words, **options)
    program = compile_workload(workload, description, constraints=constraints).program
    check_program(program, description)
    return program


@dataclass
class Run:
    output: Any
    gated: int | None


def run(program: SystolicProgram, *arguments: Any) -> Run:
    """What the functional simulation gives; arguments: Vectors and arrays."""
    given = []
    for each in arguments:
        given += [each.integers, each.scales] if isinstance(each, Vectors) else [each]
    number = program.results[0]
    kind = np.int64 if program.tensors[number].element.name == "INT64" else np.float32
    output = np.zeros(program.tensors[number].shape, kind)
    interpreter = Interpreter(program)
    interpreter.run(given, [output])
    return Run(output, interpreter.gated)
