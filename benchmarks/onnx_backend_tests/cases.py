"""The official cases as ``onnx.backend.test.loader`` gives them, ready to send to a worker.

Node cases come with model and data; the others are files beside onnx. The "real" models
are the light ones that onnx ships (weights made by ConstantOfShape, as onnx's own runner
runs them without a network), with the input that the runner generates and the stored
output.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner

KINDS = ("node", "simple", "pytorch-operator", "pytorch-converted", "real")
DataSet = tuple[list[Any], list[Any]]
_EXPANDED = re.compile(r"_expanded(_ver\d+)?$")


@dataclass(frozen=True)
class Operator:
    """An operator of a node case: its domain, type, and the version of its definition."""

    domain: str
    op_type: str
    version: int

    @property
    def name(self) -> str:
        """The type alone for ONNX's default domain, else ``domain::type``."""
        return f"{self.domain}::{self.op_type}" if self.domain else self.op_type


@dataclass(frozen=True, eq=False)
class Case:
    """One case. ``source``: onnx's description; ``operators``: tested (node cases only)."""

    name: str
    kind: str
    rtol: float
    atol: float
    source: Any = field(repr=False)
    operators: tuple[Operator, ...] = ()

    def model(self) -> onnx.ModelProto:
        """The case's model."""
        return self.source.model if self.kind == "node" else onnx.load(_model_file(self.source))

    def data_sets(self, model: onnx.ModelProto) -> list[DataSet]:
        """Inputs and expected outputs, arrays (or lists of them, or None)."""
        if self.kind == "node":
            sets = self.source.data_sets
            return [(_arrays(inputs), _arrays(outputs)) for inputs, outputs in sets]
        if self.source.model_dir is None:
            return [_generated(model, _model_file(self.source))]
        folders = sorted(Path(self.source.model_dir).glob("test_data_set*"))
        graph = model.graph
        return [
            (_stored(folder, "input", graph.input), _stored(folder, "output", graph.output))
            for folder in folders
        ]


def official_cases() -> list[Case]:
    """Every case of the installed onnx, in the order of ``KINDS``, by name."""
    cases = []
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for kind in KINDS:
            found = {test.name: test for test in load_model_tests(kind=kind)}
            for name, test in sorted(found.items()):
                operators = _tested(name, found) if kind == "node" else ()
                cases.append(Case(name, kind, test.rtol, test.atol, test, operators))
    return cases


def _tested(name: str, found: dict[str, Any]) -> tuple[Operator, ...]:
    """The operators of a node case; of the unexpanded one where this is a function's body."""
    model = found.get(_EXPANDED.sub("", name), found[name]).model
    versions = {entry.domain: entry.version for entry in model.opset_import}
    nodes = [n for n in model.graph.node if n.op_type != "Constant"] or model.graph.node
    operators = {(n.domain, n.op_type): _operator(n, versions) for n in nodes}
    return tuple(operators.values())


def _operator(node: onnx.NodeProto, versions: dict[str, int]) -> Operator:
    opset = versions.get(node.domain, versions.get("", 1))
    with contextlib.suppress(onnx.defs.SchemaError):
        opset = onnx.defs.get_schema(node.op_type, opset, node.domain).since_version
    return Operator(node.domain, node.op_type, opset)


def _model_file(source: Any) -> Path:
    if source.model_dir is not None:
        return Path(source.model_dir, "model.onnx")
    return Path(onnx.__file__).parents[1] / str(source.url)


def _arrays(items: Any) -> list[Any]:
    return [
        numpy_helper.to_array(item) if isinstance(item, onnx.TensorProto) else item
        for item in items
    ]


def _generated(model: onnx.ModelProto, file: Path) -> DataSet:
    """What onnx's runner feeds a light model, and the output that is stored beside it."""
    stored = {tensor.name for tensor in model.graph.initializer}
    given = [info for info in model.graph.input if info.name not in stored]
    outputs = [
        _tensor(file.with_name(f"{file.stem}_output_{index}.pb"))
        for index in range(len(model.graph.output))
    ]
    return [Runner.generate_dummy_data(info) for info in given], outputs


def _stored(folder: Path, prefix: str, infos: Any) -> list[Any]:
    count = len(list(folder.glob(f"{prefix}_*.pb")))
    return [_read(folder / f"{prefix}_{i}.pb", infos[i].type) for i in range(count)]


def _read(file: Path, kind: onnx.TypeProto) -> Any:
    """A tensor, sequence or optional, as the graph's type says."""
    if kind.HasField("sequence_type"):
        sequence = onnx.SequenceProto()
        sequence.ParseFromString(file.read_bytes())
        return numpy_helper.to_list(sequence)
    if kind.HasField("optional_type"):
        optional = onnx.OptionalProto()
        optional.ParseFromString(file.read_bytes())
        return numpy_helper.to_optional(optional)
    return _tensor(file)


def _tensor(file: Path) -> Any:
    tensor = onnx.TensorProto()
    tensor.ParseFromString(file.read_bytes())
    return numpy_helper.to_array(tensor)


def selected(cases: list[Case], pattern: str | None) -> Iterator[Case]:
    """The cases whose name has ``pattern``, a regular expression."""
    return (case for case in cases if pattern is None or re.search(pattern, case.name))
