"""What a model's output loses where activations are taken out, measured on calibration data.

For a trial its activations are replaced, by the identity and by the affine map per channel
that fits each best on the same data, all else left as it is. The change of the output is

    sqrt(sum |y' - y|^2 / sum |y|^2)

over all samples, for several outputs the root of the mean of the squares. Only float
outputs are compared; one whose shape changes counts as changed by 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx

from motet.compiler.calibration.data import told
from motet.compiler.calibration.gates import Activation, Gates, activation, gated, identity
from motet.compiler.calibration.least_squares import AffineFit
from motet.compiler.calibration.values import ValueObserver
from motet.compiler.onnx_graph import OnnxGraph
from motet.runtime.device import Array
from motet.runtime.errors import ModelError
from motet.runtime.progress import Show, silent

Inputs = Mapping[str, Array]
Affines = dict[str, Array]
"""By the activation's name: [2, channels], scale and shift."""


@dataclass(frozen=True)
class Importance:
    """What taking out ``nodes`` costs.

    name: of the trial; nodes: of every activation; identity, affine: change of the output
    with each replaced by the identity, and by its best affine map; fit_error: what that map
    leaves of the activation's own variance, the largest of them.
    """

    name: str
    nodes: tuple[tuple[str, ...], ...]
    identity: float
    affine: float
    fit_error: float


def affine_fits(
    model: onnx.ModelProto,
    activations: Sequence[Activation],
    data: Iterable[Inputs],
    show: Show = silent,
    threads: int | None = None,
) -> dict[str, AffineFit]:
    """The best affine map of each activation, by name. model: checked."""
    names = [name for one in activations for name in (one.operand, one.result)]
    observer = ValueObserver(model, list(dict.fromkeys(names)), threads=threads)
    fits = {one.name: AffineFit(one.channels) for one in activations}
    for inputs in told(data, "activations", show):
        values = observer.run(inputs)
        for one in activations:
            fits[one.name].add(values[one.operand], values[one.result])
    return fits


def importance(
    model: onnx.ModelProto,
    trials: Mapping[str, Sequence[Sequence[str]]],
    data: Iterable[Inputs],
    label: str,
    show: Show = silent,
    threads: int | None = None,
) -> tuple[list[Importance], Affines]:
    """The importance of every trial, and the affine maps that were tried.

    model: as ``values.checked_model`` gives it. trials: name -> activations, each as names of
    its nodes. data: gone through twice.

    Raises ``ModelError`` for what is no activation, and where no output is a float.
    """
    graph = OnnxGraph(model, label)
    by_nodes = {
        tuple(nodes): activation(graph, nodes) for trial in trials.values() for nodes in trial
    }
    activations = list(by_nodes.values())
    fits = affine_fits(model, activations, data, show, threads)
    affines = {name: fit.scale_and_shift for name, fit in fits.items()}
    trial_names = {
        name: [by_nodes[tuple(nodes)].name for nodes in trial] for name, trial in trials.items()
    }
    changes = _changes(model, activations, affines, trial_names, data, label, show, threads)
    found = [
        Importance(
            name,
            tuple(map(tuple, trials[name])),
            changes[name, "identity"],
            changes[name, "affine"],
            max((fits[one].error for one in members), default=0.0),
        )
        for name, members in trial_names.items()
    ]
    return found, affines


@dataclass
class OutputChange:
    """How far outputs are from what they were, over samples that come one after another."""

    squares: dict[str, float] = field(default_factory=dict)
    wholes: dict[str, float] = field(default_factory=dict)

    def add(self, before: Inputs, after: Inputs) -> None:
        """One run's outputs, by name."""
        for name, want in before.items():
            if want.dtype.kind != "f":
                continue
            whole = float((want.astype(np.float64) ** 2).sum())
            have = after[name]
            square = whole
            if have.shape == want.shape:
                square = float(((have.astype(np.float64) - want) ** 2).sum())
            self.squares[name] = self.squares.get(name, 0.0) + square
            self.wholes[name] = self.wholes.get(name, 0.0) + whole

    @property
    def value(self) -> float:
        """The change over all samples so far."""
        parts = [
            square / self.wholes[name] if self.wholes[name] else float(square > 0)
            for name, square in self.squares.items()
        ]
        return float(np.sqrt(np.mean(parts))) if parts else 0.0


def _changes(
    model: onnx.ModelProto,
    activations: Sequence[Activation],
    affines: Affines,
    trials: Mapping[str, Sequence[str]],
    data: Iterable[Inputs],
    label: str,
    show: Show,
    threads: int | None,
) -> dict[tuple[str, str], float]:
    """The change of the output by trial and by what stands in ("identity", "affine")."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    outputs = _float_outputs(copy, label)
    gates = gated(copy, activations)
    observer = ValueObserver(copy, outputs, threads=threads)
    replaced = _replacements(gates, affines, trials)
    changes = {key: OutputChange() for key in replaced}
    for inputs in told(data, "importance", show):
        before = observer.run({**inputs, **gates.inputs({})})
        for key, stand_ins in replaced.items():
            changes[key].add(before, observer.run({**inputs, **gates.inputs(stand_ins)}))
    return {key: change.value for key, change in changes.items()}


def _replacements(
    gates: Gates, affines: Affines, trials: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], Affines]:
    plain = {one.name: identity(one.channels) for one in gates.activations}
    return {
        (trial, how): {name: maps[name] for name in members}
        for trial, members in trials.items()
        for how, maps in (("identity", plain), ("affine", affines))
    }


def _float_outputs(model: onnx.ModelProto, label: str) -> list[str]:
    kinds = (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE, onnx.TensorProto.FLOAT16)
    names = [i.name for i in model.graph.output if i.type.tensor_type.elem_type in kinds]
    if not names:
        raise ModelError(
            f"{label}: none of its outputs is a float tensor, so no change of it can be measured"
        )
    return names
