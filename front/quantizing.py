"""Quantising ONNX models: what ``motet.quantize`` and ``motet quantize`` do."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any

from motet.evaluation import Metric, metric_of, runner_of
from motet.mix_options import budget_of, is_mixed, rung_name
from motet.mixing import Mixed, mixer_of, under_budget
from motet.quantized_model import Evaluated, Quantized, QuantizeOptions
from motet.runtime.errors import SpecError
from motet.runtime.progress import Show, silent

if TYPE_CHECKING:
    import onnx

    from motet.compiler.quantizing.choices import Choice
    from motet.compiler.quantizing.quantizer import Outputs, ProductFigures
    from motet.targets.quantized.notation import Setting

Shapes = Mapping[str, Sequence[int | str]]
NO_SHAPES: Shapes = {}

COMPARED: tuple[tuple[str, str, int], ...] = (
    ("8/8", "tensor", 16),
    ("8/8", "channel", 16),
    ("4/8", "tensor", 16),
    ("4/8", "channel", 16),
    *(("4/8/6/10", "vector", v) for v in (16, 32, 64)),
    ("4/4", "tensor", 16),
    ("4/4", "channel", 16),
    *(("4/4/4/4", "vector", v) for v in (16, 32, 64)),
)
"""Settings of the comparison: bits, what shares a scale, and elements of a vector."""


def quantize(
    model: str | PathLike[str],
    calibrate: Any,
    *,
    shapes: Shapes = NO_SHAPES,
    evaluate: str | PathLike[str] | Metric | None = None,
    options: QuantizeOptions | None = None,
    show: Show = silent,
) -> Quantized:
    """Quantise the products of an ONNX model after training.

    Parameters
    ----------
    model: path of the ONNX file.
    calibrate: samples of its inputs: a path (.npz, a folder of .npy), a mapping of arrays, an
        iterable of dicts, or a reader with onnxruntime's ``get_next``.
    shapes: of inputs whose sizes are open.
    evaluate: a Python file with ``metric(run)``, such a function, or "accuracy" where the
        calibration data has labels.

    Raises
    ------
    ModelError, SpecError, InputError, CompileError
        For what cannot be read, fits nothing, or has no integers; each names what and where.
    """
    options = options or QuantizeOptions()
    work = _Work(Path(fspath(model)), calibrate, shapes, evaluate, options, show)
    return work.quantized()


def compare(
    model: str | PathLike[str],
    calibrate: Any,
    *,
    shapes: Shapes = NO_SHAPES,
    evaluate: str | PathLike[str] | Metric | None = None,
    options: QuantizeOptions | None = None,
    settings: Sequence[tuple[str, str, int]] = COMPARED,
    show: Show = silent,
) -> tuple[Evaluated, list[Evaluated]]:
    """The float model and each of ``settings``, evaluated; arguments as in ``quantize``."""
    options = options or QuantizeOptions()
    work = _Work(Path(fspath(model)), calibrate, shapes, evaluate, options, show)
    return work.floats(), [work.evaluated(*one) for one in settings]


class _Work:
    """One model with its data and metric, and the steps of quantising it."""

    def __init__(
        self,
        path: Path,
        source: Any,
        shapes: Shapes,
        evaluate: str | PathLike[str] | Metric | None,
        options: QuantizeOptions,
        show: Show,
    ) -> None:
        from motet.compiler.calibration.data import calibration_data
        from motet.compiler.calibration.values import model_inputs
        from motet.compiler.quantizing.quantizer import Quantizer

        self.options, self.show = options, show
        if not is_mixed(options):
            _setting(options.setting, options.granularity, options.vector)  # refused at once
        if options.max_drop is not None and evaluate is None:
            raise SpecError("--max-drop bounds the drop of a metric: give --evaluate")
        self.data = calibration_data(source, model_inputs(path, shapes), path.stem)
        self.metric = None if evaluate is None else metric_of(evaluate, self.data)
        show("observing")
        self.quantizer = Quantizer(
            path, self.data, shapes, options.exclude, fold=options.fold,
            zero_points=options.zero_points, smooth=options.smooth,
        )  # fmt: skip

    def floats(self) -> Evaluated:
        """The original model."""
        quantizer = self.quantizer
        metric = None if self.metric is None else self._measured(quantizer.floats)
        return Evaluated("float32", math.inf, metric, _bytes(quantizer.original))

    def evaluated(self, text: str, granularity: str, vector: int) -> Evaluated:
        """The outcome of one setting."""
        chosen = _setting(text, granularity, vector)
        return self._outcome(str(chosen), self._model(self._refined(self._choices(chosen, {}))))

    def quantized(self) -> Quantized:
        """The model under the options' setting, or a mix of settings under a budget."""
        return self._mixed() if is_mixed(self.options) else self._raised()

    def _mixed(self) -> Quantized:
        """A setting for each product, so that the budget is kept."""
        before = self.floats()
        made: dict[tuple[str, ...], tuple[list[Choice], onnx.ModelProto, Evaluated]] = {}

        def measure(settings: Mapping[str, Setting | None]) -> Evaluated:
            key = tuple(map(str, settings.values()))
            if key not in made:
                choices = self._refined(self._mix(settings))
                model = self._model(choices)
                made.clear()
                made[key] = choices, model, self._outcome("mixed precision", model)
            return made[key][2]

        def size_of(settings: Mapping[str, Setting | None]) -> int:
            return _bytes(self._model(self._sized(self._mix(settings))))

        self.show("sensitivity of the outputs to each product")
        mixer = mixer_of(self.quantizer, self.options)
        mixed = under_budget(mixer, budget_of(self.options), measure, size_of, before.metric)
        outcome = measure(mixed.settings)
        ((choices, model, _),) = made.values()
        self.show("figures of tensors")
        figures = self.quantizer.figures(choices, paper=self.options.paper)
        return self._result(before, model, outcome, figures, mixed.settings, mixed.met, mixed)

    def _mix(self, settings: Mapping[str, Setting | None]) -> list[Choice]:
        return self._choices(_setting("8/8", "channel", 16), settings)  # every product has its own

    def _raised(self) -> Quantized:
        """The model under one setting; products raised until the drop is met."""
        options, quantizer = self.options, self.quantizer
        wanted = _setting(options.setting, options.granularity, options.vector)
        before = self.floats()
        raised: dict[str, Setting | None] = {}
        choices = self._refined(self._choices(wanted, raised))
        self.show("figures of tensors")
        figures = quantizer.figures(choices, paper=options.paper)
        model = self._model(choices)
        outcome = self._outcome(str(wanted), model)
        while not self._is_met(before, outcome) and self._raise(wanted, raised, figures):
            choices = self._refined(self._choices(wanted, raised))
            model = self._model(choices)
            outcome = self._outcome(str(wanted), model)
        if raised:
            figures = quantizer.figures(choices, paper=options.paper)
        met = self._is_met(before, outcome)
        return self._result(before, model, outcome, figures, raised, met)

    def _result(
        self,
        before: Evaluated,
        model: onnx.ModelProto,
        outcome: Evaluated,
        figures: list[ProductFigures],
        settings: Mapping[str, Setting | None],
        met: bool,
        mixed: Mixed | None = None,
    ) -> Quantized:
        quantizer = self.quantizer
        return Quantized(
            model,
            outcome,
            figures,
            quantizer.refused,
            {name: rung_name(to) for name, to in settings.items()},
            before.metric,
            before.size_bytes,
            quantizer.has_external_data,
            met,
            quantizer.folds,
            mixed,
            quantizer.smoothed,
            self.options,
        )

    def _raise(
        self,
        wanted: Setting,
        raised: dict[str, Setting | None],
        figures: Sequence[ProductFigures],
    ) -> bool:
        """Gives the worst eighth of the products that can rise the next setting up."""
        from motet.compiler.quantizing.quantizer import raised as next_up

        order = sorted(figures, key=lambda one: one.sqnr_db)
        able = [one.product.name for one in order if raised.get(one.product.name, wanted)]
        first = [name for name in able if name not in raised] or able
        for name in first[: max(1, len(figures) // 8)]:
            raised[name] = next_up(raised.get(name) or wanted)
        return bool(first)

    def _is_met(self, before: Evaluated, now: Evaluated) -> bool:
        if self.options.max_drop is None or before.metric is None or now.metric is None:
            return True
        return before.metric - now.metric <= self.options.max_drop

    def _choices(self, wanted: Setting, raised: Mapping[str, Setting | None]) -> list[Choice]:
        options = self.options
        return self.quantizer.choices(wanted, raised, options.method, options.percentile)

    def _refined(self, choices: Sequence[Choice]) -> list[Choice]:
        from motet.compiler.quantizing.refining import Refinement

        self.show("rounding and biases")
        how = Refinement(self.options.rounding, self.options.correct_bias)
        return self.quantizer.refined(choices, how, paper=self.options.paper)

    def _sized(self, choices: Sequence[Choice]) -> list[Choice]:
        """Choices whose model is as large as that of refined ones, without going through data."""
        from motet.compiler.quantizing.refining import with_biases

        return with_biases(choices) if self.options.correct_bias else list(choices)

    def _model(self, choices: Sequence[Choice]) -> onnx.ModelProto:
        return self.quantizer.quantized(choices, paper=self.options.paper)

    def _outcome(self, name: str, model: onnx.ModelProto) -> Evaluated:
        self.show(f"{name}: compiling and running")
        compiled = self.quantizer.outputs_of(model)
        sqnr = self.quantizer.output_sqnr_db(compiled)
        return Evaluated(name, sqnr, self._measured(compiled), _bytes(model))

    def _measured(self, outputs: Outputs) -> float | None:
        if self.metric is None:
            return None
        return self.metric(runner_of([info.name for info in self.data.inputs], outputs.run))


def _setting(text: str, granularity: str, vector: int) -> Setting:
    from motet.targets.quantized.notation import setting

    return setting(text, vector, granularity)  # type: ignore[arg-type]


def _bytes(model: onnx.ModelProto) -> int:
    return int(model.ByteSize())
