"""Depthwise convolutions of ONNX models by rows and columns: ``motet fuse-depthwise``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from motet import api
from motet.evaluation import Metric, metric_of, runner_of
from motet.runtime.errors import CompileError, SpecError
from motet.runtime.progress import Show, silent

if TYPE_CHECKING:
    import onnx

    from motet.passes.decisions import Decided

Shapes = Mapping[str, Sequence[int | str]]
Path_ = str | PathLike[str]
NO_SHAPES: Shapes = {}

TOLD = 4
"""Depthwise convolutions of which a message has the reasons."""


@dataclass(frozen=True)
class Replaced:
    """A model with depthwise convolutions replaced.

    model: ONNX, of the opset that it had. decided: what was done to each depthwise convolution,
    or why nothing. before, after: the metric of the original and of the result, None where none
    was asked for. beside: whether the original's weights lay in a file of their own. name: of
    the original, in messages.
    """

    model: onnx.ModelProto
    decided: Decided
    before: float | None = None
    after: float | None = None
    beside: bool = False
    name: str = "model"

    @property
    def nothing(self) -> str:
        """Why no depthwise convolution was replaced; "" where one was."""
        decisions = self.decided.decisions
        if decisions.replacements:
            return ""
        reasons = [f"{' + '.join(one.nodes)}: {one.reason}" for one in decisions.not_replaced]
        more = f"; and {len(reasons) - TOLD} more" if len(reasons) > TOLD else ""
        told = "; ".join(reasons[:TOLD]) or "it has no depthwise convolution"
        return f"{self.name}: nothing to replace: {told}{more}"

    def save(self, path: Path_) -> None:
        """Write the model; whole or not at all.

        Raises ``CompileError`` where nothing was replaced, ``ModelError`` where it cannot be
        written.
        """
        from motet.compiler.onnx_files import write_whole

        if self.nothing:
            raise CompileError(self.nothing)
        write_whole(self.model, Path(fspath(path)), self.beside)

    def save_decisions(self, path: Path_) -> None:
        """Write the decisions as JSON, with their weights in an .npz beside it."""
        from motet.passes.decisions import write_decisions

        write_decisions(self.decided, Path(fspath(path)))


def replace_depthwise(
    model: Path_,
    variant: Literal["full", "half", "full50", "half50"] = "half",
    *,
    which: Iterable[int | str] = (),
    fit: Literal["least_squares", "rank_one"] = "least_squares",
    calibrate: Any = None,
    decisions: Path_ | None = None,
    evaluate: Path_ | Metric | None = None,
    shapes: Shapes = NO_SHAPES,
    show: Show = silent,
    threads: int | None = None,
) -> Replaced:
    """Replace K x K depthwise convolutions of an ONNX model by 1 x K and K x 1 ones (FuSeConv).

    Parameters
    ----------
    model: path of the ONNX file.
    variant, which, fit: as in a specification's ``[passes.replace_depthwise]``.
    calibrate: samples of the inputs, to which weights are refitted: a path (.npz, a folder of
        .npy), a mapping of arrays, an iterable of dicts, a reader; None for none.
    decisions: a decisions file to apply instead of deciding.
    evaluate: a Python file with ``metric(run)``, such a function, or "accuracy" where the
        calibration data has labels (the data of the fit, then: take other samples to judge).
    shapes: of inputs whose sizes are open.

    Raises
    ------
    ModelError, SpecError, InputError, CompileError
        For what cannot be read, or fits nothing; each names what and where.
    """
    api.compiler()
    from motet.compiler.onnx_files import read_whole
    from motet.compiler.replaced_onnx import apply_replacements
    from motet.passes.decisions import read_decisions, require_kind

    path = Path(fspath(model))
    decided = None
    if decisions is not None:
        given = read_decisions(fspath(decisions))
        decided = require_kind(given, "fuse-depthwise", fspath(decisions))
    data = None if calibrate is None else _data(path, calibrate, shapes)
    metric = None if evaluate is None else _metric(evaluate, data)
    whole, beside = read_whole(path)
    if decided is None:
        decided = _decided(path, variant, tuple(which), fit, shapes, data, show, threads)
    made = apply_replacements(whole, decided, path.name)
    if metric is None:
        return Replaced(made, decided, beside=beside, name=path.name)
    before, after = (_measured(metric, one, path, shapes, threads) for one in (whole, made))
    return Replaced(made, decided, before, after, beside, path.name)


def _decided(
    path: Path,
    variant: Any,
    which: tuple[int | str, ...],
    fit: Any,
    shapes: Shapes,
    data: Any,
    show: Show,
    threads: int | None,
) -> Decided:
    import msgspec

    from motet.compiler.refit_depthwise import decided_for
    from motet.compiler.spec import name_from_path
    from motet.passes.options import ReplaceDepthwiseOptions

    table = {"enabled": True, "variant": variant, "which": which, "fit": fit}
    try:
        options = msgspec.convert(table, ReplaceDepthwiseOptions)
    except msgspec.ValidationError as error:
        raise SpecError(f"replace_depthwise: {error}") from error
    name = name_from_path(fspath(path))
    return decided_for(path, name, options, shapes, data, show, threads)


def _data(path: Path, source: Any, shapes: Shapes) -> Any:
    from motet.compiler.calibration.data import calibration_data
    from motet.compiler.calibration.values import model_inputs

    return calibration_data(source, model_inputs(path, shapes), path.stem)


def _metric(evaluate: Path_ | Metric, data: Any) -> Metric:
    wanted = evaluate if callable(evaluate) else fspath(evaluate)
    return metric_of(wanted, data)


def _measured(
    metric: Metric, model: onnx.ModelProto, path: Path, shapes: Shapes, threads: int | None
) -> float:
    from motet.compiler.calibration.values import ValueObserver, model_inputs

    outputs = [info.name for info in model.graph.output]
    observer = ValueObserver(model, outputs, shapes, threads)
    names = [info.name for info in model_inputs(path, shapes)]
    return metric(runner_of(names, observer.run))


def facts_of(replaced: Replaced) -> list[dict[str, Any]]:
    """A record per depthwise convolution, in the order of the graph."""
    from motet.passes.decisions import NotReplaced, Replacement

    found = []
    for one in replaced.decided.decisions.decisions:
        if isinstance(one, Replacement):
            kernel = "x".join(map(str, one.geometry.kernel))
            found.append(
                {
                    "index": one.index,
                    "onnx_nodes": list(one.nodes),
                    "variant": one.variant,
                    "kernel": kernel,
                    "channels": one.geometry.out_channels,
                    "relative_error": one.error,
                    "error_of": one.error_of,
                    "macs_before": one.macs_before,
                    "macs_after": one.macs_after,
                    "reason": "",
                }
            )
        elif isinstance(one, NotReplaced):
            blank = dict.fromkeys(
                ("variant", "kernel", "channels", "relative_error", "error_of", "macs_before",
                 "macs_after")
            )  # fmt: skip
            found.append(
                {"index": one.index, "onnx_nodes": list(one.nodes), **blank, "reason": one.reason}
            )
    return found
