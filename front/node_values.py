"""Compares what every operator of a compiled model computes with the ONNX graph's own values.

The values are those of the bundle as it is: its program runs as always, and each unit's
result is compared as soon as it is there (``survivors`` says what it equals). onnxruntime
computes the reference on the same graph, unoptimised, with the inner values as outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from motet.check import (
    Difference,
    Tolerance,
    compare,
    fixed_inputs,
    onnxruntime_session,
    reference_run,
    source_bytes,
    tolerance_for,
)
from motet.node_graph import GraphNode, NodeGraph, node_graph
from motet.roundings import ROUNDED, Roundings, judged
from motet.runtime.device import Array
from motet.runtime.errors import ModelError
from motet.runtime.program import Operator
from motet.runtime.session import ModelSession
from motet.survivors import Claim, claims, faithful

if TYPE_CHECKING:
    import onnx

Values = Mapping[str, Array]

OF_LARGEST = 5e-4
"""What an inner float may differ by, as a part of the tensor's largest magnitude, on top of
the output's tolerance: where terms cancel, rounding is relative to the terms."""


def inner_tolerance(dtype: str, atol: float | None, rtol: float | None) -> Tolerance:
    """As ``check.tolerance_for``; without ``atol`` and ``rtol`` floats get ``OF_LARGEST`` too."""
    usual = tolerance_for(dtype, atol, rtol)
    if atol is not None or rtol is not None or not dtype.startswith("float"):
        return usual
    return replace(usual, of_largest=max(usual.of_largest, OF_LARGEST))


@dataclass(frozen=True)
class Compared:
    """A value of the graph as the program computes it, against the reference.

    unit: the operator of the program that computes it; None for a view or a constant,
    which no unit computes.
    """

    node: GraphNode
    difference: Difference
    unit: Operator | None


@dataclass
class NodeComparison:
    """Every compared value, in the graph's order. total: values that the graph has."""

    rows: list[Compared] = field(default_factory=list)
    total: int = 0

    @property
    def lost(self) -> int:
        """Values that no unit's result equals: fused into another, folded, or a view."""
        return self.total - len(self.rows)

    @property
    def passed(self) -> bool:
        """Whether every compared value is within tolerance."""
        return all(row.difference.passed for row in self.rows)


class NodeChecker:
    """Compares one model of a session node by node.

    path, digest: the ONNX file, and the SHA-256 of what was compiled.
    """

    def __init__(self, session: ModelSession, path: Path, digest: str) -> None:
        source_bytes(path, digest, session.name)
        self.session = session
        self.graph = node_graph(_checked(path, session))
        operators = session.program.operators
        self.claims = claims(operators, self.graph)
        shown = _with_inner_outputs(self.graph, session.name)
        self._reference = onnxruntime_session(shown, session.name, optimised=False)
        self._roundings = Roundings(session.name, shown, optimised=False)

    def reference(self, names: Sequence[str], inputs: Values) -> dict[str, Array]:
        """What onnxruntime computes for tensors ``names``; sequences are left out."""
        names = list(dict.fromkeys(names))
        given = self.session.inputs.grouped(inputs)
        found = reference_run(self._reference, names, given, self.session.name) if names else []
        pairs = zip(names, found, strict=True)
        return {name: np.asarray(value) for name, value in pairs if not isinstance(value, list)}

    def compare(
        self, inputs: Values, atol: float | None = None, rtol: float | None = None
    ) -> NodeComparison:
        """Run both on ``inputs``; tolerances as in ``check.tolerance_for``."""
        wanted = [name for found in self.claims.values() for c in found for name in c.tensors]
        want = self.reference([*wanted, *self.graph.outputs], inputs)
        recorder = _Recorder(self, want, lambda dtype: inner_tolerance(dtype, atol, rtol))
        results = self.session.run_observed(inputs, recorder.observe)
        recorder.tolerance = lambda dtype: tolerance_for(dtype, atol, rtol)
        for name in (output for output in self.graph.outputs if output in results):
            recorder.record(name, results[name], self._unit_of(name))
        rows = sorted(recorder.rows.values(), key=lambda row: row.node.index)
        if atol is None and rtol is None:
            rows = self._beside_rounding(rows, want, inputs)
        return NodeComparison(rows, self._total())

    def _beside_rounding(
        self, rows: Sequence[Compared], want: Values, inputs: Values
    ) -> list[Compared]:
        """Values of a quantised model that differ, beside what rounding does (``roundings``)."""
        found = [row.difference for row in rows if not row.difference.passed]
        wanted = {one.output: want[one.output] for one in found if one.dtype in ROUNDED}
        given = self.session.inputs.grouped(inputs)
        spread = self._roundings.spread(wanted, given) if wanted else {}
        return [
            replace(row, difference=judged(row.difference, (0.0, row.difference.absolute), moved))
            if (moved := spread.get(row.difference.output)) is not None
            else row
            for row in rows
        ]

    def _unit_of(self, tensor: str) -> Operator | None:
        for number, found in self.claims.items():
            if any(tensor in claim.tensors for claim in found):
                return self.session.program.operators[number]
        return None

    def _total(self) -> int:
        live = (n for n in self.graph.nodes if self.graph.is_live(n) and n.operator != "Constant")
        return sum(len(self.graph.read_outputs(node)) for node in live)


class _Recorder:
    """Compares values while the program runs, before later ones overwrite them."""

    def __init__(
        self, checker: NodeChecker, want: Values, tolerance: Callable[[str], Tolerance]
    ) -> None:
        self.checker = checker
        self.want = want
        self.tolerance = tolerance
        self.rows: dict[str, Compared] = {}

    def observe(self, operator: int, written: Sequence[Array]) -> None:
        """What operator number ``operator`` has just written."""
        for claim in self.checker.claims.get(operator, ()):
            value = claim.value(written)
            if value is None or not self._is_one(claim):
                continue
            reference = self.want[claim.tensors[0]]
            shaped = faithful(value, reference)
            if shaped is not None:
                unit = self.checker.session.program.operators[operator]
                for tensor in claim.tensors:
                    self.record(tensor, shaped, unit)

    def _is_one(self, claim: Claim) -> bool:
        """Whether the reference has the claim's tensors, and they are equal."""
        found = [self.want.get(name) for name in claim.tensors]
        first = found[0]
        return first is not None and all(
            other is not None and np.array_equal(first, other, equal_nan=first.dtype.kind == "f")
            for other in found[1:]
        )

    def record(self, tensor: str, value: Array, unit: Operator | None) -> None:
        """Compare the graph's ``tensor``; one that no node computes is left out."""
        node, want = self.checker.graph.producer.get(tensor), self.want.get(tensor)
        if node is None or want is None:
            return
        tolerance = self.tolerance(want.dtype.name)
        found = compare(self.checker.session.name, tensor, value, want, tolerance)
        self.rows[tensor] = Compared(node, found, unit)


def _checked(path: Path, session: ModelSession) -> onnx.ModelProto:
    """The model as the compiler saw it: functions inlined, nodes sorted, weights loaded."""
    from onnx.external_data_helper import load_external_data_for_model

    from motet.compiler.frontend.checks import check_model
    from motet.compiler.frontend.reading import read_model
    from motet.compiler.frontend.registry import taken_as_registered

    shapes = {info.name: info.shape for info in session.program.inputs}
    read = read_model(path)
    with taken_as_registered(_kept_whole(read.proto, session)):
        model = check_model(read, shapes, fixed_inputs(session))  # type: ignore[arg-type]
    load_external_data_for_model(model, str(path.parent))
    del model.graph.value_info[:]
    return model


def _kept_whole(model: onnx.ModelProto, session: ModelSession) -> set[tuple[str, str]]:
    """Functions of the model that a converter of the user's stood for: their calls have units."""
    units = {name for operator in session.program.operators for name in operator.onnx_nodes}
    functions = {(function.domain, function.name) for function in model.functions}
    calls = ((node.domain, node.op_type) for node in model.graph.node if node.name in units)
    return {call for call in calls if call in functions}


def _with_inner_outputs(graph: NodeGraph, name: str) -> bytes:
    """The model with every value that is read as an output."""
    import onnx

    model = onnx.ModelProto()
    model.CopyFrom(graph.model)
    for node in graph.nodes:
        if graph.is_live(node):
            inner = [t for t in graph.read_outputs(node) if t not in graph.outputs]
            model.graph.output.extend(onnx.ValueInfoProto(name=tensor) for tensor in inner)
    try:
        return bytes(model.SerializeToString())
    except Exception as error:  # protobuf's limit of 2 GB
        raise ModelError(
            f"model {name!r} is too large to compare node by node ({error}): "
            "check its outputs alone, or a part of it"
        ) from error
