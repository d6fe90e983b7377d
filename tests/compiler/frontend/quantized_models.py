"""Models of quantised operators, run by a compiled bundle and by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import motet

Arrays = Mapping[str, np.ndarray]
OPSETS = (("", 21), ("com.microsoft", 1))


def info(name: str, array: np.ndarray) -> onnx.ValueInfoProto:
    elem = helper.np_dtype_to_tensor_dtype(array.dtype)
    return helper.make_tensor_value_info(name, elem, array.shape)


def graph_of(
    nodes: Sequence[onnx.NodeProto], feeds: Arrays, constants: Arrays, outputs: Mapping[str, Any]
) -> onnx.ModelProto:
    """``outputs``: element type (a NumPy dtype) of each output, by name."""
    infos = []
    for name, dtype in outputs.items():
        found = onnx.ValueInfoProto(name=name)
        found.type.tensor_type.elem_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        infos.append(found)
    weights = [numpy_helper.from_array(np.asarray(a), n) for n, a in constants.items()]
    inputs = [info(n, np.asarray(a)) for n, a in feeds.items()]
    graph = helper.make_graph(list(nodes), "g", inputs, infos, weights)
    opsets = [helper.make_opsetid(*pair) for pair in OPSETS]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def one(
    op_type: str,
    feeds: Arrays,
    constants: Arrays,
    order: Sequence[str] | None = None,
    dtype: Any = None,
    domain: str = "",
    **attributes: Any,
) -> onnx.ModelProto:
    """A model of one node; its output is of the type of its first input where not ``dtype``."""
    names = list(order or [*feeds, *constants])
    node = helper.make_node(op_type, names, ["y"], name="the_node", domain=domain, **attributes)
    kind = dtype or next(iter(feeds.values())).dtype
    return graph_of([node], feeds, constants, {"y": kind})


def compiled(proto: onnx.ModelProto, folder: Path, target: str = "host") -> Any:
    """The only model of a bundle compiled from ``proto``."""
    path = folder / "quantised.onnx"
    path.write_bytes(proto.SerializeToString())
    (model,) = motet.load(motet.compile(path, target=target)).values()
    return model


def run(proto: onnx.ModelProto, feeds: Arrays, folder: Path) -> list[np.ndarray]:
    return list(compiled(proto, folder).run(None, {n: np.asarray(a) for n, a in feeds.items()}))


def by_onnxruntime(proto: onnx.ModelProto, feeds: Arrays, precise: bool = True) -> list[np.ndarray]:
    """By onnxruntime, told not to saturate pairs of products at 16 bits.

    It does so for uint8 times int8 on CPUs without VNNI. With int8 activations, and in some
    fused operators, it cannot be told: weights of up to 64 then stay within 16 bits.
    """
    runtime = pytest.importorskip("onnxruntime")
    options = runtime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    if precise and not any(np.asarray(a).dtype == np.int8 for a in feeds.values()):
        options.add_session_config_entry("session.x64quantprecision", "1")
    session = runtime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return list(session.run(None, {n: np.asarray(a) for n, a in feeds.items()}))


def equal(got: Sequence[np.ndarray], want: Sequence[np.ndarray]) -> None:
    """Bit for bit."""
    assert len(got) == len(want)
    for ours, theirs in zip(got, want, strict=True):
        assert (ours.shape, ours.dtype) == (np.shape(theirs), np.asarray(theirs).dtype)
        np.testing.assert_array_equal(ours, theirs)


def integers(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Any values of an integer type."""
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max + 1, tuple(shape)).astype(dtype)


def weights(rng: np.random.Generator, shape: Sequence[int], dtype: str) -> np.ndarray:
    """Weights whose products onnxruntime sums without saturating."""
    return integers(rng, shape, dtype) // (2 if dtype == "int8" else 1)


def scales(rng: np.random.Generator, shape: Sequence[int] = ()) -> np.ndarray:
    return np.asarray(rng.uniform(0.01, 0.2, tuple(shape)), np.float32)
