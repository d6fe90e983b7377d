"""What users of a bundle hold: its models by name, run alone or together.

``session["faces"].run(None, {"input": x})`` is as onnxruntime has it. ``submit`` queues a run and
gives a ``concurrent.futures.Future``.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from types import TracebackType
from typing import Any

from motet.runtime.bundle import Bundle
from motet.runtime.device import Accelerator
from motet.runtime.errors import EnvironmentLackError, InputError
from motet.runtime.kernels import KernelLibrary, require_features
from motet.runtime.memory import lendable
from motet.runtime.model import ModelSession, NodeArg
from motet.runtime.playing import Played, played
from motet.runtime.policies import DEFAULT_POLICY
from motet.runtime.queueing import Queueing
from motet.runtime.report import RunReport
from motet.runtime.submitting import Submitting
from motet.runtime.tally import RunStatistics
from motet.runtime.vm import Machine
from motet.runtime.wires import WiredModels

__all__ = ["ModelSession", "NodeArg", "Session"]


class Session(Mapping[str, ModelSession]):
    """A loaded bundle: its models by name.

    ``motet.load`` makes one; ``accelerator`` is the device that array programs run on. As a
    context manager it does what was submitted before it leaves, or cancels it on an error.
    """

    def __init__(
        self,
        bundle: Bundle,
        accelerator: Accelerator | None = None,
        threads: int | None = None,
        policy: str = DEFAULT_POLICY,
    ) -> None:
        require_features(bundle.manifest.cpu_features)
        if bundle.array_programs and accelerator is None:
            raise EnvironmentLackError(
                "the bundle holds array programs, and the session was given no device to run them"
            )
        if accelerator is not None:
            for name, data in bundle.array_programs.items():
                accelerator.load(name, data)
        self.bundle = bundle
        library = KernelLibrary(
            bundle.kernels, bundle.manifest.threads if threads is None else threads
        )
        weights = [lendable(weight) for weight in bundle.weights]
        self._machine = Machine(library, weights, accelerator)
        self._models = {
            entry.name: ModelSession(entry, bundle.programs[entry.name], self._machine)
            for entry in bundle.manifest.models
        }
        self._wired = WiredModels(self._models)
        self._submitting = Submitting(self._models, Queueing(policy), library.threads)
        weakref.finalize(self, self._submitting.end_soon).atexit = False

    def __repr__(self) -> str:
        return f"<Session for {self.bundle.manifest.target}: {', '.join(self._models)}>"

    def __getitem__(self, name: str) -> ModelSession:
        if not isinstance(name, str):
            raise InputError(
                f"a model is called by its name, not by a {type(name).__name__}: "
                "run(name, inputs), or run(inputs=inputs) where the bundle has one model"
            )
        try:
            return self._models[name]
        except KeyError:
            raise InputError(
                f"the bundle has no model {name!r}; its models are {', '.join(self._models)}"
            ) from None

    def get(self, name: object, default: Any = None) -> Any:
        """The model ``name``, or ``default``: the only look-up that does not raise."""
        return self._models.get(name, default) if isinstance(name, str) else default

    def __contains__(self, name: object) -> bool:
        return name in self._models

    def __iter__(self) -> Iterator[str]:
        return iter(self._models)

    def __len__(self) -> int:
        return len(self._models)

    def _only(self, name: str | None) -> ModelSession:
        if name is not None:
            return self[name]
        if len(self._models) == 1:
            return next(iter(self._models.values()))
        raise InputError(f"name one of the bundle's models: {', '.join(self._models)}")

    def run(
        self, model: str | None = None, inputs: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Run one model once: its outputs by name. ``model`` may be None if there is one."""
        return self._only(model).run_named(inputs or {})

    def simulate(
        self, model: str | None = None, inputs: Mapping[str, Any] | None = None
    ) -> RunReport:
        """Run one model once and report every operator; random inputs where none are given."""
        return self._only(model).simulate(inputs)

    def run_all(self, inputs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
        """Run every model once, in the bundle's order, along its wires.

        inputs: model -> input -> array, without the wired inputs, which read the
        upstream model's output where it lies, without a copy.
        """
        return self._wired.run(self._by_model(inputs))

    def _by_model(self, inputs: object) -> Mapping[str, Mapping[str, Any]]:
        """``inputs``, if it has a mapping of inputs under names of models."""
        if not isinstance(inputs, Mapping):
            raise InputError(
                f"inputs is a {type(inputs).__name__}: give model -> input -> array, as "
                f"{{{next(iter(self._models))!r}: {{...}}}}"
            )
        for name, own in inputs.items():
            _ = self[name]
            if not isinstance(own, Mapping):
                raise InputError(
                    f"model {name!r}: its inputs are a {type(own).__name__}: give input -> array"
                )
        return inputs

    def submit(
        self,
        model: str | None = None,
        inputs: Mapping[str, Any] | None = None,
        *,
        deadline: float | None = None,
        priority: int | None = None,
        timeout: float | None = None,
        copy: bool = True,
    ) -> Future[Any]:
        """Queue one run of one model: a future of its outputs by name, as ``run`` gives them.

        Parameters
        ----------
        model: may be None if there is one.
        inputs: as ``run`` takes them.
        deadline: seconds from now (below 0: late already); steers ``edf``, and a run that ends
            later is counted as missed. None: the bundle's ``deadline_ms``, else the period of
            its ``rate_hz``, else there is none.
        priority: larger goes first, by ``priority``. None: the bundle's.
        timeout: seconds from now, the wait for a place in the queue included, after which the
            run is given up at its next boundary. None: it may take as long as it takes.
        copy: copy the inputs now, so that the caller may write to its arrays again; False: the
            run reads them when it begins, and they must stay as they are until it has ended.

        The future's ``cancel`` also stops a run that has begun. Its exception is the run's own,
        ``TimedOutError`` or ``LateError``.

        Raises ``InputError`` on wrong inputs, ``QueueFullError`` where there is no place in the
        model's queue (``configure``), ``SubmitError`` after ``close``. Wrong shapes are the
        future's.
        """
        return self._submitting.submit(
            self._only(model), inputs or {}, deadline, priority, timeout, copy
        )

    def play(self, inputs: Mapping[str, Mapping[str, Any]] | None = None) -> Played:
        """Run the bundle's timetable once: every frame of a hyperperiod, in the order of its slots.

        Each slot runs the array program that it has pods for, joint stages as one. inputs: model
        -> input -> array, for all frames of the model, without wired inputs, which are those of
        the newest frame upstream; random ones where None. A frame that fails is in ``failures`` of
        what is returned, with those that read it, and stops no other. Raises ``InputError`` on
        wrong inputs, ``SpecError`` where the bundle has no timetable.
        """
        if inputs is not None:
            self._wired.check(self._by_model(inputs))
        return played(self._models, self.bundle, self._machine, inputs)

    def configure(self, **settings: Any) -> None:
        """Set how runs are queued, by the attributes of ``runtime.queueing.Queueing``.

        Raises ``InputError`` for others, and once something was submitted.
        """
        self._submitting.configure(settings)

    @property
    def queueing(self) -> Queueing:
        """How runs are queued."""
        return self._submitting.queueing

    def statistics(self) -> dict[str, RunStatistics]:
        """What became of the runs that were submitted, by model."""
        return self._submitting.statistics()

    def close(self, *, cancel: bool = False) -> None:
        """Take no more runs by ``submit``; wait for those there are, or cancel them.

        ``run`` works on. Closing twice is closing once.
        """
        self._submitting.close(cancel)

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close(cancel=kind is not None)
