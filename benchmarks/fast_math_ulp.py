"""The largest error of the host's elementary functions over all of float32, in ulp.

Claim: log is within 1 ulp, exp within 2, the logistic function within 3, tanh within 4, erf
within 6 (within 4 for |x| <= 1), and no result is infinite or NaN that should not be.

    python -m motet.benchmarks.fast_math_ulp [exp tanh ...] [--stride 1] [--json]

Arguments are every ``stride``-th of the 2^32 float32 bit patterns; with 1 all of them, which
takes a quarter of an hour. The truth is double precision, written without cancellation. An
ulp is the distance of float32 numbers at the true value; below the smallest normal number it
is that number, so a result that is flushed to 0 is wrong by less than one. What is not finite
must be so exactly (``wrong``).
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

import motet
from motet.benchmarks.command_help import help_of
from motet.console import output, print_json, progress, table
from motet.runtime.progress import Show

CHUNK = 1 << 20
_OPSET = 20
_TINY = float(np.finfo(np.float32).tiny)
Doubles = NDArray[np.float64]

_erf = np.frompyfunc(math.erf, 1, 1)
_erfc = np.frompyfunc(math.erfc, 1, 1)


def _logistic(x: Doubles) -> Doubles:
    return np.asarray(1.0 / (1.0 + np.exp(-x)))


def _softplus(x: Doubles) -> Doubles:
    return np.asarray(np.maximum(x, 0.0) + np.log1p(np.exp(-np.abs(x))))


def _gelu(x: Doubles) -> Doubles:
    half_complement = 0.5 * np.asarray(_erfc(-x / math.sqrt(2.0)), np.float64)
    return np.asarray(np.where(np.isneginf(x), 0.0, x * half_complement))


def _silu(x: Doubles) -> Doubles:
    return np.asarray(np.where(np.isneginf(x), 0.0, x * _logistic(x)))


@dataclass(frozen=True)
class Function:
    """A function: its ONNX nodes as (operator, inputs), the input being x, and the truth."""

    nodes: tuple[tuple[str, tuple[str, ...]], ...]
    truth: Callable[[Doubles], Doubles]


FUNCTIONS = {
    "exp": Function((("Exp", ("x",)),), np.exp),
    "log": Function((("Log", ("x",)),), np.log),
    "erf": Function((("Erf", ("x",)),), lambda x: np.asarray(_erf(x), np.float64)),
    "tanh": Function((("Tanh", ("x",)),), np.tanh),
    "sigmoid": Function((("Sigmoid", ("x",)),), _logistic),
    "silu": Function((("Sigmoid", ("x",)), ("Mul", ("x", "t0"))), _silu),
    "gelu": Function((("Gelu", ("x",)),), _gelu),
    "softplus": Function((("Softplus", ("x",)),), _softplus),
}


@dataclass(frozen=True)
class Error:
    """A function's worst errors: over everything, for |x| up to 1, and as it is used.

    ulp_usual: where the true value is at least 1e-3 in size. absolute: the largest difference.
    wrong: values that are not finite and should be, or the other way round.
    """

    function: str
    ulp: float
    at: float
    ulp_near_zero: float
    ulp_usual: float
    absolute: float
    wrong: int


def model_of(function: Function) -> onnx.ModelProto:
    """The function of ``CHUNK`` values as an ONNX model."""
    last = len(function.nodes) - 1
    nodes = [
        helper.make_node(op, list(inputs), ["y" if i == last else f"t{i}"])
        for i, (op, inputs) in enumerate(function.nodes)
    ]
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [CHUNK]) for n in "xy"]
    graph = helper.make_graph(nodes, "function", infos[:1], infos[1:])
    opset = helper.make_opsetid("", _OPSET)
    return helper.make_model(graph, opset_imports=[opset], ir_version=10)


def kernel(function: Function, folder: Path) -> Callable[[NDArray[Any]], NDArray[Any]]:
    """The function as Motet computes it, of ``CHUNK`` values at a time."""
    path = folder / "function.onnx"
    onnx.save(model_of(function), path)
    (model,) = motet.load(motet.compile(path)).values()
    return lambda x: np.asarray(model.run(None, {"x": x})[0])


def arguments(stride: int) -> Iterator[NDArray[np.float32]]:
    """Every ``stride``-th float32 in the order of the bits, ``CHUNK`` at a time."""
    for start in range(0, 1 << 32, CHUNK * stride):
        bits = np.arange(start, min(start + CHUNK * stride, 1 << 32), stride, dtype=np.uint64)
        padded = np.zeros(CHUNK, np.uint32)
        padded[: len(bits)] = bits
        yield padded.view(np.float32)


def errors(x: NDArray[np.float32], y: NDArray[Any], truth: Doubles) -> tuple[Doubles, int]:
    """Errors in ulp of float32 (0 where the truth is not finite), and wrong kinds of value."""
    largest = float(np.finfo(np.float32).max)
    with np.errstate(over="ignore"):
        rounded = truth.astype(np.float32)
    finite = np.isfinite(rounded)
    with np.errstate(over="ignore", invalid="ignore"):
        size = np.abs(truth)
        unit = np.spacing(np.clip(size, _TINY, largest).astype(np.float32)).astype(np.float64)
        ulp = np.abs(y.astype(np.float64) - truth) / np.where(size < _TINY, _TINY, unit)
    # One rounding beyond the largest number is an error of an ulp, not a wrong infinity.
    near = np.isposinf(np.abs(y)) & (np.abs(truth) > largest * (1 - 2**-22))
    same = np.where(np.isnan(rounded), np.isnan(y), y == rounded)
    wrong = np.where(finite, ~np.isfinite(y) & ~near, ~same & ~(np.abs(truth) < largest * 1.000001))
    return np.where(finite & np.isfinite(y), ulp, 0.0), int(wrong.sum())


def measure(name: str, stride: int, show: Show) -> Error:
    """The worst errors of function ``name``."""
    function = FUNCTIONS[name]
    worst = {"ulp": 0.0, "near": 0.0, "usual": 0.0, "absolute": 0.0}
    at, wrong = 0.0, 0
    with tempfile.TemporaryDirectory() as folder:
        run = kernel(function, Path(folder))
        for x in arguments(stride):
            with np.errstate(all="ignore"):
                truth = np.asarray(function.truth(x.astype(np.float64)), np.float64)
            y = run(x)
            ulp, kinds = errors(x, y, truth)
            wrong += kinds
            if ulp.max() > worst["ulp"]:
                at = float(x[ulp.argmax()])
            with np.errstate(all="ignore"):
                difference = np.abs(y - truth)
                parts = {
                    "ulp": ulp, "near": ulp[np.abs(x) <= 1], "usual": ulp[np.abs(truth) >= 1e-3],
                    "absolute": difference[np.isfinite(difference) & (np.abs(truth) < 1e3)],
                }  # fmt: skip
            for key, values in parts.items():
                worst[key] = max(worst[key], float(values.max(initial=0.0)))
            show(f"{name} at {x[0]:.3g}")
    return Error(name, worst["ulp"], at, worst["near"], worst["usual"], worst["absolute"], wrong)


@click.command(help=help_of(__doc__))
@click.argument("names", nargs=-1, type=click.Choice(list(FUNCTIONS)))
@click.option("--stride", default=251, show_default=True, type=click.IntRange(1))
@click.option("--json", "as_json", is_flag=True)
def main(names: tuple[str, ...], stride: int, as_json: bool) -> None:
    """Measure and print."""
    chosen = names or tuple(FUNCTIONS)
    chunks = -(-(1 << 32) // (CHUNK * stride))
    with progress("ulp", total=len(chosen) * chunks) as show:
        found = [measure(name, stride, show) for name in chosen]
    if as_json:
        print_json([asdict(error) for error in found])
        return
    rows = [
        [e.function, f"{e.ulp:.2f}", f"{e.at:.6g}", f"{e.ulp_near_zero:.2f}", f"{e.ulp_usual:.2f}",
         f"{e.absolute:.2g}", str(e.wrong)]
        for e in found
    ]  # fmt: skip
    columns = ["function", ">max ulp", ">at x", ">ulp, |x| <= 1", ">ulp, |y| >= 1e-3",
               ">absolute, |y| < 1e3", ">wrong"]  # fmt: skip
    count = -(-(1 << 32) // stride)
    output().print(table(f"{count} float32 arguments, every {stride}th bit pattern", columns, rows))


if __name__ == "__main__":
    main()
