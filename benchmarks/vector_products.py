"""Products of vectors with scales on the host, beside 8 bits per channel and fp32.

Claim: a product of vectors of V elements (VS-Quant) is faster than the same layer in fp32 by a
direct sum, in one run on one core, and its price over 8 bits per channel is stated.

    python -m motet.benchmarks.vector_products [LAYER ...] [--vector 16 --vector 64] [--json]

LAYER is a name of the table (all by default). Kernels of a layer are called in rounds; the fastest
call counts. "best fp32" may be Winograd's convolution,
"direct fp32" sums as written; 8 bits per channel gives int32 sums of normal weights, widened
to int16 where two products of bytes could pass 16 bits, as the compiler does; onnxruntime runs a
model of one node on one thread. "quantise" is what makes vectors of float32 data, a kernel of
its own. The last column is GMAC/s, or with the core's clock (``--ghz``) MACs a cycle.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import tvm_ffi
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tvm import relax

from motet.benchmarks.command_help import help_of
from motet.console import output, print_json, seconds, table
from motet.runtime.memory import aligned_bytes, compact, view
from motet.targets.host.blocked import blocked_layout
from motet.targets.host.build import build_library
from motet.targets.host.cost_model.unit_function import unit_function
from motet.targets.host.kernels.blocked_conv.integer_groups import fit_fours
from motet.targets.host.loops import constant_of
from motet.targets.host.lower_unit import lower_unit
from motet.targets.host.machine import Machine, native_machine
from motet.targets.host.options import KernelOptions
from motet.targets.operators.vectors import (
    Quantizing,
    VectorProduct,
    Window,
    quantize_vectors,
    vector_conv,
    vector_matmul,
)
from motet.targets.quantized.notation import Setting, setting
from motet.targets.quantized.vectors import Vectors
from motet.targets.quantized.vectors import quantize_vectors as quantized

Array = NDArray[Any]
BEST, DIRECT, CHANNEL, ORT = "best fp32", "direct fp32", "8 bits per channel", "onnxruntime fp32"


@dataclass(frozen=True)
class Layer:
    """A convolution of a plane (size 0: a product of ``inputs`` wide rows), stride 1, padded."""

    inputs: int
    outputs: int
    size: int = 0
    kernel: int = 1
    rows: int = 0

    @property
    def macs(self) -> int:
        """Multiply-accumulates."""
        positions = self.size**2 if self.size else self.rows
        return positions * self.kernel**2 * self.inputs * self.outputs


LAYERS = {
    "3x3 64, 56x56": Layer(64, 64, 56, 3),
    "3x3 128, 28x28": Layer(128, 128, 28, 3),
    "3x3 256, 14x14": Layer(256, 256, 14, 3),
    "3x3 512, 7x7": Layer(512, 512, 7, 3),
    "1x1 64 to 256, 56x56": Layer(64, 256, 56),
    "1x1 512 to 128, 28x28": Layer(512, 128, 28),
    "1x1 1024 to 256, 14x14": Layer(1024, 256, 14),
    "Gemm 128x768x768": Layer(768, 768, rows=128),
}
SETTINGS = ("4/4/4/4", "4/8/6/10", "8/8/6/10")


@dataclass(frozen=True)
class Subject:
    """A unit to time: how it is built, its operands, which of them are constants."""

    build: Callable[..., Any]
    inputs: Sequence[Array]
    constants: tuple[int, ...]
    options: KernelOptions = KernelOptions()  # noqa: RUF009


def _zeros(shape: Sequence[int], dtype: str) -> Array:
    """Aligned as kernels need it."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    return view(aligned_bytes(size), 0, dtype, tuple(shape))


def _held(array: Array) -> Array:
    copy = _zeros(array.shape, str(array.dtype))
    copy[...] = array
    return copy


def _float_data(layer: Layer, rng: np.random.Generator) -> tuple[Array, Array]:
    """Normal data and weights in plain layouts."""
    if layer.size:
        x = rng.standard_normal((1, layer.inputs, layer.size, layer.size))
        w = rng.standard_normal((layer.outputs, layer.inputs, layer.kernel, layer.kernel))
    else:
        x = rng.standard_normal((layer.rows, layer.inputs))
        w = rng.standard_normal((layer.outputs, layer.inputs))
    return x.astype(np.float32), w.astype(np.float32)


def _blocked(x: Array, block: int) -> Array:
    n, c, h, w = x.shape
    return np.ascontiguousarray(x.reshape(n, c // block, block, h, w).transpose(0, 1, 3, 4, 2))


def _plain_subject(layer: Layer, x: Array, w: Array, block: int, direct: bool) -> Subject:
    """The layer as the compiler has it without vectors: fp32, or uint8 by int8 per channel."""
    out = "float32" if x.dtype == np.float32 else "int32"
    options = KernelOptions(reassociate=not direct)
    if not layer.size:
        return Subject(
            lambda a, b: relax.op.matmul(a, b, out_dtype=out), [x, w.T.copy()], (1,), options
        )
    layout, pad = blocked_layout(block), [layer.kernel // 2] * 4

    def build(a: Any, b: Any) -> Any:
        return relax.op.nn.conv2d(a, b, [1, 1], pad, [1, 1], 1, layout, "OIHW", layout, out)

    return Subject(build, [_blocked(x, block), w], (1,), options)


def _channel_subject(layer: Layer, w: Array, block: int, rng: np.random.Generator) -> Subject:
    top = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True)
    q = np.rint(w / top * 127).astype(np.int8)
    shape = (1, layer.inputs, layer.size, layer.size) if layer.size else (layer.rows, layer.inputs)
    if layer.size and not fit_fours(q):
        q = q.astype(np.int16)
    x = rng.integers(0, 256, shape).astype(np.uint8)
    return _plain_subject(layer, x, q, block, True)


def _vectors(layer: Layer, x: Array, w: Array, chosen: Setting) -> tuple[Vectors, Vectors]:
    gamma = np.abs(x).max() / chosen.activations.largest / chosen.activations.largest_scale
    data = quantized(x, 1, chosen.activations, np.full((1,) * x.ndim, gamma, np.float32))
    top = np.abs(w).max(axis=tuple(range(1, w.ndim)), keepdims=True)
    gammas = (top / chosen.weights.largest / chosen.weights.largest_scale).astype(np.float32)
    return data, quantized(w, 1, chosen.weights, gammas)


def _vector_subjects(layer: Layer, x: Array, w: Array, chosen: Setting) -> tuple[Subject, Subject]:
    """The product, and what quantises its data."""
    a, b = chosen.activations, chosen.weights
    data, weights = _vectors(layer, x, w, chosen)
    what = VectorProduct(a.bits, b.bits, a.scale_bits or 0, b.scale_bits or 0)
    factor = np.ones(layer.outputs, np.float32)
    inputs = [data.integers, data.scales, weights.integers, weights.scales, factor]
    pad = layer.kernel // 2
    window = Window((1, 1), (pad,) * 4, (1, 1))

    def build(*p: Any) -> Any:
        return vector_conv(what, window, p) if layer.size else vector_matmul(what, p)

    quantising = Subject(
        lambda *p: quantize_vectors(Quantizing(1, a), *p), [x, np.full(1, 1e-4, np.float32)], ()
    )
    return Subject(build, inputs, (2, 3, 4)), quantising


def subjects_of(
    layer: Layer, vectors: Sequence[int], settings: Sequence[str], machine: Machine
) -> dict[str, Subject]:
    """What is timed for a layer, by name."""
    rng = np.random.default_rng(0)
    x, w = _float_data(layer, rng)
    block = machine.vector_bytes // 4
    subjects = {BEST: _plain_subject(layer, x, w, block, False)}
    if layer.kernel == 3:
        subjects[DIRECT] = _plain_subject(layer, x, w, block, True)
    subjects[CHANNEL] = _channel_subject(layer, w, block, rng)
    for vector in vectors:
        for text in settings:
            product, quantising = _vector_subjects(layer, x, w, setting(text, vector))
            subjects[f"{text} V={vector}"] = product
            if text == "4/8/6/10":
                subjects[f"quantise V={vector}"] = quantising
    return subjects


def _call_of(library: Any, symbol: str, lowered: Any, subject: Subject) -> Callable[[], None]:
    inputs = [_held(lowered.packed(i, subject.inputs)) for i in range(len(subject.inputs))]
    params = list(lowered.func.params)[len(inputs) :]
    shapes = [[constant_of(d) or 0 for d in p.shape] for p in params]
    results = [_zeros(s, str(p.dtype)) for s, p in zip(shapes, params, strict=True)]
    arrays = [compact(array) for array in (*inputs, *results)]
    tensors = [tvm_ffi.from_dlpack(array, require_alignment=64) for array in arrays]
    function = library[symbol]
    return lambda: function(*tensors)


def _onnxruntime_call(layer: Layer) -> Callable[[], None]:
    """A model of one node."""
    import onnxruntime

    x, w = _float_data(layer, np.random.default_rng(0))
    operands = ["x", "w"]
    if layer.size:
        pads = [layer.kernel // 2] * 4
        node = helper.make_node("Conv", operands, ["y"], pads=pads)
    else:
        node, w = helper.make_node("MatMul", operands, ["y"]), w.T.copy()
    graph = helper.make_graph(
        [node], "layer",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(w, "w")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(),
        options, providers=["CPUExecutionProvider"],
    )  # fmt: skip
    binding = session.io_binding()
    binding.bind_cpu_input("x", x)
    binding.bind_output("y")
    return lambda: session.run_with_iobinding(binding)


def calls_of(
    layer: Layer, vectors: Sequence[int], settings: Sequence[str], machine: Machine
) -> dict[str, Callable[[], None]]:
    """Compiled kernels, ready to be called."""
    subjects = subjects_of(layer, vectors, settings, machine)
    lowered = {}
    for name, subject in subjects.items():
        unit = unit_function(
            [x.shape for x in subject.inputs], [str(x.dtype) for x in subject.inputs], subject.build
        )
        lowered[name] = lower_unit(unit, frozenset(subject.constants), machine, subject.options)
    symbols = {name: f"kernel{number}" for number, name in enumerate(lowered)}
    content = build_library({symbols[n]: made.func for n, made in lowered.items()}, machine)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.so")
        path.write_bytes(content)
        library = tvm_ffi.load_module(str(path))
    calls = {
        name: _call_of(library, symbols[name], lowered[name], subject)
        for name, subject in subjects.items()
    }
    return {**calls, ORT: _onnxruntime_call(layer)}


def timed(calls: Mapping[str, Callable[[], None]], duration: float) -> dict[str, float]:
    """Seconds of the fastest call; in rounds of random order, so that all are disturbed."""
    samples: dict[str, list[float]] = {name: [] for name in calls}
    names, order = list(calls), np.random.default_rng(0)
    end = time.perf_counter() + duration
    while time.perf_counter() < end or len(next(iter(samples.values()))) < 5:
        for place in order.permutation(len(names)):
            name = names[place]
            call, start = calls[name], time.perf_counter()
            call()
            samples[name].append(time.perf_counter() - start)
    return {name: min(times[1:]) for name, times in samples.items()}


@click.command(help=help_of(__doc__))
@click.argument("layers", nargs=-1, type=click.Choice(list(LAYERS)))
@click.option(
    "--vector", "vectors", multiple=True, default=(16, 32, 64), type=click.IntRange(4, 128)
)
@click.option("--setting", "settings", multiple=True, default=SETTINGS)
@click.option("--duration", default=2.0, show_default=True, help="Seconds for a layer.")
@click.option("--ghz", type=float, help="The core's clock: MACs a cycle.")
@click.option("--json", "as_json", is_flag=True)
def main(
    layers: tuple[str, ...], vectors: tuple[int, ...], settings: tuple[str, ...],
    duration: float, ghz: float | None, as_json: bool,
) -> None:  # fmt: skip
    """Measure and print."""
    machine = replace(native_machine(), cores=1)
    chosen = layers or tuple(LAYERS)
    every = {name: calls_of(LAYERS[name], vectors, settings, machine) for name in chosen}
    found = {name: timed(calls, duration) for name, calls in every.items()}
    if as_json:
        print_json({"seconds": found})
        return
    for name, times in found.items():
        rows = [_row(LAYERS[name], what, times, ghz or 1.0) for what in times]
        rate = ">GMAC/s" if ghz is None else ">MACs/cycle"
        columns = ["kernel", ">time", ">direct fp32", ">8 bits", rate]
        title = f"{name}: times as fast as direct fp32, as 8 bits per channel"
        output().print(table(title, columns, rows))


def _row(layer: Layer, what: str, times: Mapping[str, float], ghz: float) -> list[str]:
    direct, channel, own = times.get(DIRECT, times[BEST]), times[CHANNEL], times[what]
    macs = layer.macs / own / ghz / 1e9
    last = "" if what.startswith("quantise") else f"{macs:.1f}"
    return [what, seconds(own), f"{direct / own:.2f}", f"{channel / own:.2f}", last]


if __name__ == "__main__":
    main()
