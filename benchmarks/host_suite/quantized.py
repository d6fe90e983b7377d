"""Networks of the zoo in 8 bits, as onnxruntime's own tool quantises them.

Static quantisation, calibrated on random images: activations uint8, weights int8 with a
scale for each output channel and seven bits (``reduce_range``), as onnxruntime advises for
CPUs without VNNI, whose products of pairs saturate otherwise.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from motet.benchmarks.zoo import registry

FORMS = ("qdq", "qlinear")
"""Pairs of QuantizeLinear and DequantizeLinear around float operators, or QLinear operators."""
FAMILIES = ("resnet50", "mobilenet_v2")
NAMES = tuple(f"{family}-{form}" for family in FAMILIES for form in FORMS)
IMAGES = 4


def split(name: str) -> tuple[str, str]:
    """Network of the zoo (``NAME`` or ``NAME@SIZE``) and form of a name of ``NAMES``."""
    network, _, form = name.rpartition("-")
    return network, form


def build(name: str) -> onnx.ModelProto:
    """The quantised model called ``name``; its input and output stay float32."""
    network, form = split(name)
    family, at, size = network.partition("@")
    with tempfile.TemporaryDirectory() as folder:
        plain, folded, result = (Path(folder) / f"{x}.onnx" for x in ("plain", "folded", "result"))
        onnx.save(registry.build(family, at + size or None), plain)
        _fold(plain, folded)
        _quantize(folded, result, form)
        return onnx.load(result)


def _fold(source: Path, target: Path) -> None:
    """Batch normalisations folded, as the quantiser wants it: else each takes a scale."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(target)
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(source), options, providers=["CPUExecutionProvider"])


def _quantize(source: Path, target: Path, form: str) -> None:
    from onnxruntime import quantization

    logging.getLogger().setLevel(logging.ERROR)  # it advises what ``_fold`` did
    forms = {"qdq": quantization.QuantFormat.QDQ, "qlinear": quantization.QuantFormat.QOperator}
    quantization.quantize_static(
        str(source),
        str(target),
        _Images(onnx.load(source)),
        quant_format=forms[form],
        activation_type=quantization.QuantType.QUInt8,
        weight_type=quantization.QuantType.QInt8,
        per_channel=True,
        reduce_range=True,
    )


class _Images:
    """Random images, as onnxruntime's calibration reads them: ``get_next`` until None."""

    def __init__(self, model: onnx.ModelProto) -> None:
        (info,) = model.graph.input
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        random = np.random.default_rng(0)
        self._images: Iterator[dict[str, Any]] = iter(
            [{info.name: random.standard_normal(shape, dtype=np.float32)} for _ in range(IMAGES)]
        )

    def get_next(self) -> dict[str, Any] | None:
        """The next image, None after the last."""
        return next(self._images, None)
