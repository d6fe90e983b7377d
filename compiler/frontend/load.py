"""ONNX files to Relax: one IRModule per model, or one for several.

``load_model`` reads, checks and imports a file; ``merge`` puts several imported models
into one IRModule with an entry function each, so that equal kernels and equal weights
can be shared.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import onnx
import tvm
from numpy.typing import NDArray
from tvm import relax

from motet.runtime.element_types import NARROW, stored_dtype
from motet.runtime.errors import SpecError
from motet.runtime.manifest import Port
from motet.runtime.program import TensorInfo

from .checks import check_model, operator_sets
from .control_flow import BranchesNeededError
from .dimensions import ShapeText, Symbols
from .domains import Opsets
from .importer import GraphImporter
from .ports import Shapes, empty_inputs, flat, given_inputs, grouped_shapes, output_ports, recorded
from .reading import ReadModel, read_model
from .supported import check_supported
from .types import dtype_of
from .values import Constant, Tensor, Value

_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


@dataclass(frozen=True)
class ImportedModel:
    """A model as Relax.

    module: one public function called ``name``, whose parameters are ``inputs`` in order
        and which returns the one output, or a tuple of the outputs in order.
    inputs, outputs: with their ONNX names, in ONNX order; numpy dtypes; a dimension that
        is a str is symbolic.
    sha256, path: of the ONNX file.
    fixed: inputs of the ONNX model that were fixed to a value.
    input_ports, output_ports: how tensors are grouped; empty where nothing is a sequence.
    """

    module: tvm.IRModule
    name: str
    inputs: tuple[TensorInfo, ...]
    outputs: tuple[TensorInfo, ...]
    sha256: str
    path: Path
    fixed: Mapping[str, NDArray[Any]] = field(default_factory=dict)
    input_ports: tuple[Port, ...] = ()
    output_ports: tuple[Port, ...] = ()


def load_model(
    path: Path | str,
    name: str,
    shapes: Shapes | None = None,
    values: Mapping[str, Any] | None = None,
) -> ImportedModel:
    """Import an ONNX file.

    Parameters
    ----------
    path:
        The ONNX file; external data lies beside it.
    name:
        Of the entry function, ``[a-z][a-z0-9_]*``.
    shapes:
        Input shapes instead of the model's, for symbolic dimensions: integers, or
        names of symbolic dimensions. Equal names are equal dimensions. An input that is a
        sequence has a list of shapes.
    values:
        Inputs that are fixed to a value (``fixed_inputs`` has the forms); they are no
        inputs of the result.

    Raises
    ------
    SpecError
        For a bad ``name``, ``shapes`` or ``values``.
    ModelError
        For a file that is no usable model; ``UnsupportedOperatorError`` lists operators
        that cannot be lowered.
    """
    if not _NAME.match(name):
        raise SpecError(f"model name '{name}': use a-z, 0-9 and _, a letter first")
    read = read_model(Path(path), apart=True)
    shapes = grouped_shapes(read.proto.graph, shapes or {})
    model = check_model(read, shapes, values or {})
    opsets = operator_sets(model, read.label)
    check_supported(model.graph, opsets, read.label)
    fixed = {t.name: read.array(t) for t in model.graph.initializer if t.name in (values or {})}
    empty = empty_inputs(model.graph, values or {})
    return replace(_imported(read, model, opsets, name, shapes, empty), fixed=fixed)


def _imported(
    read: ReadModel,
    model: onnx.ModelProto,
    opsets: Opsets,
    name: str,
    shapes: Shapes,
    empty: Mapping[str, Value],
) -> ImportedModel:
    graph = model.graph
    given = given_inputs(graph, shapes, empty, read.label)
    inputs = tuple(info for one in given for info in one.tensors)
    declared = [shape for one in given for shape in one.shapes]
    symbols = Symbols(declared)
    params = _parameters(inputs, declared, symbols)
    elements = {params[info.name]: info.dtype for info in inputs if info.dtype in NARROW}
    scope = {**empty, **{one.port.name: one.value(params) for one in given}}

    def function(dataflow: bool) -> tuple[list[Any], list[Value]]:
        importer = GraphImporter(read.label, opsets, dataflow, read.array)
        return importer.function(graph, scope, params, elements)

    dataflow = True
    try:
        bindings, values = function(dataflow)
    except BranchesNeededError:  # known only once a condition is found to be one of the run
        dataflow = False
        bindings, values = function(dataflow)
    ports, names = output_ports([info.name for info in graph.output], values)
    results = flat(values)
    module = _module(name, list(params.values()), bindings, results, dataflow)
    infos = list(zip(names, map(dtype_of, results), strict=True))
    outputs = _outputs(module[name].ret_ty, infos, symbols)
    return ImportedModel(
        module,
        name,
        inputs,
        outputs,
        read.sha256,
        read.path,
        input_ports=recorded([one.port for one in given]),
        output_ports=recorded(ports),
    )


def _parameters(
    inputs: Sequence[TensorInfo], shapes: Sequence[ShapeText], symbols: Symbols
) -> dict[str, relax.Var]:
    params: dict[str, relax.Var] = {}
    used: set[str] = set()
    for info, dims in zip(inputs, shapes, strict=True):
        clean = re.sub(r"\W", "_", info.name, flags=re.ASCII) or "input"
        clean = f"input_{clean}" if clean[0].isdigit() else clean
        while clean in used:
            clean += "_"
        used.add(clean)
        shape = [symbols.dim(dim) for dim in dims]
        params[info.name] = relax.Var(clean, relax.TensorType(shape, stored_dtype(info.dtype)))
    return params


def _module(
    name: str,
    params: list[relax.Var],
    bindings: Sequence[Any],
    values: Sequence[Constant | Tensor],
    dataflow: bool,
) -> tvm.IRModule:
    """One function of the recorded bindings, as one block."""
    builder = relax.BlockBuilder()
    with builder.function(name, params):
        if dataflow:
            with builder.dataflow():
                result = builder.emit_output(_result(builder, bindings, values))
        else:
            result = _result(builder, bindings, values)
        builder.emit_func_output(result)
    return relax.transform.DeadCodeElimination([name])(builder.finalize())


def _result(
    builder: relax.BlockBuilder, bindings: Sequence[Any], values: Sequence[Constant | Tensor]
) -> relax.Expr:
    for binding in bindings:
        builder.emit_normalized(binding)
    exprs = [v.tensor() if isinstance(v, Constant) else v.expr for v in values]
    return exprs[0] if len(exprs) == 1 else relax.Tuple(exprs)


def _outputs(ty: Any, infos: Sequence[tuple[str, str]], symbols: Symbols) -> tuple[TensorInfo, ...]:
    """Names (and element types) from ONNX, shapes from what was built."""
    parts = list(ty.fields) if isinstance(ty, relax.TupleType) else [ty]
    result = []
    for (name, dtype), part in zip(infos, parts, strict=True):
        if isinstance(part.shape, relax.ShapeExpr):
            shape = tuple(symbols.text(dim) for dim in part.shape.values)
        else:
            shape = tuple(f"{name}_dim{i}" for i in range(max(part.ndim, 0)))
        result.append(TensorInfo(name, dtype, shape))
    return tuple(result)


def merge(models: Sequence[ImportedModel]) -> tvm.IRModule:
    """One IRModule with an entry function per model.

    Raises
    ------
    SpecError
        Where two models have one name.
    """
    functions: dict[str, Any] = {}
    for model in models:
        if model.name in functions:
            raise SpecError(f"two models are called '{model.name}': give one another name")
        functions[model.name] = model.module[model.name]
    return tvm.IRModule(functions)


__all__ = ["ImportedModel", "TensorInfo", "load_model", "merge"]
