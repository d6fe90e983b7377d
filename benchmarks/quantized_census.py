"""Which products of quantised models run in integers: a census over networks and quantisers.

Claim: whatever wrote a quantised ONNX file, its products (convolutions, Gemm, MatMul, attention)
are sums of integers here, not floats behind a dequantisation; what is left has a reason.

    python -m motet.benchmarks.quantized_census [--network NAME]... [--quantiser NAME]... [--json]

Networks are the digits examples and small ones of the zoo with random weights; quantisers those of
``motet quantize`` and of onnxruntime. Models go through the passes of the host and no kernels are
made. A cell is the share of the multiply-accumulates that integers do; below stands each product
in floats, with what its operands are. In onnxruntime's dynamic quantisation convolutions of
ConvInteger count as integers, as they are.
"""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from tvm import relax
from tvm.ir import GenericConst

from motet.benchmarks.command_help import help_of
from motet.benchmarks.examples import examples
from motet.benchmarks.zoo import registry
from motet.compiler.dimensions import dimension_of
from motet.compiler.frontend.load import merge
from motet.compiler.importing import imported
from motet.compiler.neutral_passes import neutral_passes
from motet.compiler.quantizing.quantizer import Quantizer
from motet.compiler.spec_file import spec_from_models
from motet.console import output, print_json, progress, table
from motet.passes.graph import bindings_of, definitions
from motet.passes.macs import integer_macs_of, macs_of
from motet.passes.names import names_of
from motet.passes.op_kinds import op_name
from motet.runtime.progress import silent
from motet.targets.quantized.notation import setting

NETWORKS: dict[str, tuple[str, str]] = {
    "mobilenet_v2": ("mobilenet_v2", "0.35@32"),
    "mobilenet_v3": ("mobilenet_v3_small", "small@32"),
    "resnet18": ("resnet18", "18@32"),
    "bert": ("bert_base", "tiny@16"),
}
"""Of the zoo: name and variant."""
DIGITS = ("digits_mobile", "digits_inception", "digits_transformer")
RUNS = 4
Run = dict[str, Any]


@dataclass(frozen=True)
class Network:
    """An ONNX file without integers, and what to calibrate on."""

    name: str
    path: Path
    runs: Sequence[Run]


@dataclass(frozen=True)
class FloatProduct:
    """A product that is computed in floats. operands: the operators that make what it reads."""

    nodes: tuple[str, ...]
    macs: int
    operands: tuple[str, ...]


@dataclass(frozen=True)
class Census:
    """A network under a quantiser."""

    network: str
    quantiser: str
    macs: int
    integer_macs: int
    floats: tuple[FloatProduct, ...]

    @property
    def share(self) -> float:
        """Of the MACs, that integers do."""
        return self.integer_macs / self.macs


def networks(names: Sequence[str], folder: Path) -> Iterator[Network]:
    """The named networks; those of the zoo are written to ``folder``."""
    for name in names:
        if name in DIGITS:
            seen = np.load(examples() / "data" / "digits_calibration.npz")["image"][:RUNS]
            runs = [{"image": image[None]} for image in seen]
            yield Network(name, examples() / "models" / f"{name}.onnx", runs)
        else:
            model = registry.build(*NETWORKS[name])
            path = folder / f"{name}.onnx"
            onnx.save(model, path)
            yield Network(name, path, _random_runs(model))


def _random_runs(model: onnx.ModelProto) -> list[Run]:
    rng = np.random.default_rng(0)

    def value(info: onnx.ValueInfoProto) -> Any:
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        if info.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            return rng.integers(0, 2, shape)
        return rng.standard_normal(shape).astype(np.float32)

    return [{info.name: value(info) for info in model.graph.input} for _ in range(RUNS)]


def _motet(text: str) -> Callable[[Network, Path], None]:
    def written(network: Network, path: Path) -> None:
        quantizer = _quantizer(network)
        wanted = setting(text, granularity="channel")
        onnx.save(quantizer.quantized(quantizer.choices(wanted)), path)

    return written


def _quantizer(network: Network) -> Quantizer:
    """One a network, since it compiles the model to observe it."""
    if network.path not in _observed:
        _observed.clear()
        _observed[network.path] = Quantizer(network.path, network.runs)
    return _observed[network.path]


_observed: dict[Path, Quantizer] = {}


class _Reader:
    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = iter(runs)

    def get_next(self) -> Run | None:
        """The next run, None after the last."""
        return next(self._runs, None)


def _static(form: str, **types: str) -> Callable[[Network, Path], None]:
    def written(network: Network, path: Path) -> None:
        from onnxruntime import quantization

        kinds = {key: quantization.QuantType[name] for key, name in types.items()}
        prepared = path.with_suffix(".prepared.onnx")
        quantization.shape_inference.quant_pre_process(
            str(network.path), str(prepared), skip_symbolic_shape=True
        )
        quantization.quantize_static(
            str(prepared), str(path), _Reader(network.runs),
            quant_format=quantization.QuantFormat[form], per_channel=True, **kinds,
        )  # fmt: skip

    return written


def _dynamic(network: Network, path: Path) -> None:
    from onnxruntime import quantization

    quantization.quantize_dynamic(
        str(network.path), str(path), weight_type=quantization.QuantType.QInt8, per_channel=True
    )


QUANTISERS: dict[str, Callable[[Network, Path], None]] = {
    "motet 8/8": _motet("8/8"),
    "motet 4/8": _motet("4/8"),
    "motet 4/4": _motet("4/4"),
    "ort QDQ u8s8": _static("QDQ", activation_type="QUInt8", weight_type="QInt8"),
    "ort QDQ s8s8": _static("QDQ", activation_type="QInt8", weight_type="QInt8"),
    "ort QDQ u8s4": _static("QDQ", activation_type="QUInt8", weight_type="QInt4"),
    "ort QDQ u8u4": _static("QDQ", activation_type="QUInt8", weight_type="QUInt4"),
    "ort QOperator": _static("QOperator", activation_type="QUInt8", weight_type="QInt8"),
    "ort dynamic": _dynamic,
}


def quantised(network: Network, quantiser: str, path: Path) -> Path:
    """``network`` quantised into ``path``."""
    warnings.filterwarnings("ignore", module="onnxruntime")
    logging.getLogger().setLevel(logging.ERROR)
    QUANTISERS[quantiser](network, path)
    return path


def census(network: Network, quantiser: str, path: Path) -> Census:
    """What computes the products of the model at ``path``, on the host."""
    shapes = {name: value.shape for name, value in network.runs[0].items()}
    spec = spec_from_models([str(path)], shapes=shapes)
    (model,) = imported(spec, silent)
    mod = neutral_passes(spec.passes, True, False)(merge([model]))
    function = mod[model.name]
    made, total, integers, floats = definitions(function), 0, 0, list[FloatProduct]()
    for binding in bindings_of(function):
        if not isinstance(binding.value, relax.Call):
            continue
        macs, whole = (_number(count(binding.value)) for count in (macs_of, integer_macs_of))
        total, integers = total + macs, integers + whole
        if macs != whole:
            operands = tuple(_maker(each, made) for each in binding.value.args)
            floats.append(FloatProduct(tuple(names_of(binding.value)), macs, operands))
    return Census(network.name, quantiser, total, integers, tuple(floats))


def _number(macs: Any) -> int:
    number = dimension_of(macs)
    assert isinstance(number, int), "networks of the census have no open sizes"
    return number


def _maker(expr: relax.Expr, made: dict[Any, Any]) -> str:
    if expr in made:
        return op_name(made[expr]).removeprefix("relax.") or "a part of a tuple"
    return "a constant" if isinstance(expr, GenericConst) else "an input"


def print_census(found: Sequence[Census]) -> None:
    """A row a quantiser, a column a network; then the products in floats."""
    columns = list(dict.fromkeys(one.network for one in found))
    cells = {(one.quantiser, one.network): f"{one.share:.1%}" for one in found}
    rows = [
        [quantiser, *(cells.get((quantiser, name), "") for name in columns)]
        for quantiser in dict.fromkeys(one.quantiser for one in found)
    ]
    heads = ["quantised by", *(f">{name}" for name in columns)]
    output().print(table("share of MACs in integers", heads, rows))
    for one in found:
        for product in one.floats:
            output().print(
                f"{one.quantiser}, {one.network}: {', '.join(product.nodes)} "
                f"({product.macs:,} MACs) reads {' and '.join(product.operands)}",
                soft_wrap=True, markup=False,
            )  # fmt: skip


@click.command(help=help_of(__doc__))
@click.option("--network", "names", multiple=True, type=click.Choice([*DIGITS, *NETWORKS]))
@click.option("--quantiser", "quantisers", multiple=True, type=click.Choice(list(QUANTISERS)))
@click.option("--json", "as_json", is_flag=True)
def main(names: tuple[str, ...], quantisers: tuple[str, ...], as_json: bool) -> None:
    """See the module; ``help`` is made of it."""
    found = []
    with tempfile.TemporaryDirectory() as folder, progress("census") as show:
        for network in networks(names or (*DIGITS, *NETWORKS), Path(folder)):
            for quantiser in quantisers or QUANTISERS:
                show(f"{network.name}: {quantiser}")
                path = quantised(network, quantiser, Path(folder) / "quantised.onnx")
                found.append(census(network, quantiser, path))
    if as_json:
        print_json([asdict(one) | {"share": one.share} for one in found])
    else:
        print_census(found)


if __name__ == "__main__":
    main()
