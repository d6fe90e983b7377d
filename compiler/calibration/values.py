"""What a model computes on samples: any value of an ONNX graph, by Motet's own kernels.

The graph is compiled for the host once, with the values that are asked for as its outputs
and nothing else, so that only what they need is computed. A run's arrays are given out and
forgotten: memory does not grow with the samples.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

import onnx

from motet.compiler.compile import CompileOptions, compile_bundle
from motet.compiler.frontend.checks import check_model
from motet.compiler.frontend.places import node_name
from motet.compiler.frontend.ports import given_inputs
from motet.compiler.frontend.reading import read_model
from motet.compiler.frontend.weightless import without_weights
from motet.compiler.onnx_files import read_whole, write_whole
from motet.compiler.spec import BundleSpec, HostOptions, ModelSpec, PassesSpec
from motet.passes.options import MergeDepthOptions
from motet.runtime.device import Array
from motet.runtime.errors import ModelError
from motet.runtime.program import TensorInfo
from motet.runtime.progress import Show, silent
from motet.runtime.session import Session

Shapes = Mapping[str, Sequence[int | str]]
Source = Path | onnx.ModelProto
"""A file, or a model with its weights loaded."""

NAME = "observed"


def model_inputs(path: Path, shapes: Shapes = MappingProxyType({})) -> tuple[TensorInfo, ...]:
    """The inputs of an ONNX file as a run takes them. Raises ``ModelError``, ``SpecError``."""
    read = read_model(path)
    graph = check_model(read, shapes).graph
    given = given_inputs(graph, shapes, (), read.label)
    return tuple(
        TensorInfo(info.name, info.dtype, tuple(shape))
        for one in given
        for info, shape in zip(one.tensors, one.shapes, strict=True)
    )


class ValueObserver:
    """Values of one model, computed for one run's inputs after another.

    names: of ONNX values (tensors), or of nodes, which stand for their first output; the
    arrays come under the names that were asked for. shapes: as in ``motet.compile``.

    Raises
    ------
    ModelError
        For a name that the graph does not have; what compiling raises.
    """

    def __init__(
        self,
        model: Source,
        names: Sequence[str],
        shapes: Shapes = MappingProxyType({}),
        threads: int | None = None,
        progress: Show = silent,
    ) -> None:
        with tempfile.TemporaryDirectory(prefix="motet-") as folder:
            path = model if isinstance(model, Path) else Path(folder) / "model.onnx"
            if not isinstance(model, Path):
                write_whole(model, path)
            proto = checked_model(path, shapes)
            self.tensors = _tensors(proto.graph, names, path.name)
            graph_inputs = {info.name for info in proto.graph.input}
            self._computed = list(dict.fromkeys(self.tensors.values()))
            self._given = [name for name in self._computed if name in graph_inputs]
            self._computed = [name for name in self._computed if name not in graph_inputs]
            self._session = None
            if self._computed:
                cut = Path(folder) / f"cut_{path.name}"
                write_whole(_with_outputs(proto, self._computed), cut)
                self._session = _compiled(cut, threads, progress)

    def run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The values for one run's inputs, by the names that were asked for."""
        found = {name: inputs[name] for name in self._given}
        if self._session is not None:
            results = self._session[NAME].run(None, inputs)
            found |= dict(zip(self._computed, results, strict=True))
        return {name: found[tensor] for name, tensor in self.tensors.items()}


def observed_values(
    model: Source,
    names: Sequence[str],
    data: Iterable[Mapping[str, Array]],
    shapes: Shapes = MappingProxyType({}),
    threads: int | None = None,
) -> Iterator[dict[str, Array]]:
    """The arrays of ``names`` for every run of ``data``; see ``ValueObserver``."""
    observer = ValueObserver(model, names, shapes, threads)
    return map(observer.run, data)


def checked_model(path: Path, shapes: Shapes) -> onnx.ModelProto:
    """The model as the compiler sees it, with its weights, and types of inner values.

    Raises ``ModelError``, ``SpecError``.
    """
    read = read_model(path)
    whole, _ = read_whole(path)
    model = check_model(replace(read, proto=whole), shapes)
    for index, node in enumerate(model.graph.node):
        node.name = node_name(node, index)  # what is edited later keeps the names
    add_types(model)
    return model


def _tensors(graph: onnx.GraphProto, names: Sequence[str], label: str) -> dict[str, str]:
    """Each name's tensor. A tensor goes before a node of the same name."""
    tensors = {name for node in graph.node for name in node.output if name}
    tensors |= {info.name for info in graph.input}
    nodes = {node.name: node.output[0] for node in graph.node if node.name and node.output}
    found = {}
    for name in names:
        if name not in tensors and name not in nodes:
            raise ModelError(
                f"{label}: there is no node or computed value {name!r} to observe (names are those "
                "of the ONNX graph; weights are not computed)"
            )
        found[name] = name if name in tensors else nodes[name]
    return found


def add_types(model: onnx.ModelProto) -> None:
    """State the types of inner values anew, in place, as far as onnx can infer them."""
    light = without_weights(model)
    del light.graph.value_info[:]
    inferred = onnx.shape_inference.infer_shapes(light)
    del model.graph.value_info[:]
    model.graph.value_info.extend(inferred.graph.value_info)


def _with_outputs(model: onnx.ModelProto, names: Sequence[str]) -> onnx.ModelProto:
    """``model``, changed in place, with the values ``names`` as its only outputs."""
    graph = model.graph
    known = {info.name: info for info in (*graph.output, *graph.value_info)}
    infos = [known.get(name) or _untyped(name) for name in names]
    kept = [onnx.ValueInfoProto.FromString(info.SerializeToString()) for info in infos]
    del graph.output[:]
    graph.output.extend(kept)
    del graph.value_info[:]
    return model


def _untyped(name: str) -> onnx.ValueInfoProto:
    """A value whose type onnx cannot infer: the checker wants one; the compiler knows better."""
    return onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)


def _compiled(path: Path, threads: int | None, progress: Show) -> Session:
    model = ModelSpec(name=NAME, path=str(path))
    passes = PassesSpec(merge_depth=MergeDepthOptions(enabled=False))
    spec = BundleSpec(models=(model,), host=HostOptions(threads=threads), passes=passes)
    bundle = compile_bundle(spec, CompileOptions(progress=progress))
    return Session(bundle, None, threads)
