"""One model of a loaded bundle: run, simulate, and the names of inputs and outputs.

``run(None, {"input": x})``, ``get_inputs()`` and ``get_outputs()`` are as onnxruntime
has them.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from motet.runtime.boundaries import Boundary
from motet.runtime.device import Array, ProgramCounts
from motet.runtime.element_types import (
    NARROW,
    from_bits,
    is_float,
    is_raw,
    numpy_dtype,
    stored_dtype,
    to_bits,
)
from motet.runtime.errors import InputError
from motet.runtime.manifest import ModelEntry
from motet.runtime.ports import Ports
from motet.runtime.program import ArrayCall, Instruction, Kernel, Program, TensorInfo
from motet.runtime.report import LayerReport, RunReport
from motet.runtime.shapes import evaluate_shape, render_shape
from motet.runtime.vm import Frame, Machine, ModelVM, Observe, fill

ORT_TYPES = {
    "float64": "double",
    "float32": "float",
    "float16": "float16",
    "bool": "bool",
}


@dataclass(frozen=True)
class NodeArg:
    """An input or output as onnxruntime describes one.

    name: ONNX name; shape: list of ints and symbol names; type: ``tensor(float)``.
    """

    name: str
    shape: list[int | str]
    type: str


def _onnxruntime_type(dtype: str) -> str:
    return NARROW[dtype].ort_name if dtype in NARROW else ORT_TYPES.get(dtype, dtype)


def _node_arg(info: TensorInfo) -> NodeArg:
    shape: list[int | str] = [d if isinstance(d, int) else render_shape((d,)) for d in info.shape]
    return NodeArg(info.name, shape, f"tensor({_onnxruntime_type(info.dtype)})")


def _node_args(ports: Ports, tensors: Sequence[TensorInfo]) -> list[NodeArg]:
    """Sequences and optionals have no shape of their own, as in onnxruntime."""
    infos = {info.name: info for info in tensors}
    result = []
    for port in ports.ports:
        if port.kind == "tensor":
            result.append(_node_arg(infos[port.name]))
        elif port.kind == "sequence":
            element = _onnxruntime_type(port.dtype)
            result.append(NodeArg(port.name, [], f"seq(tensor({element}))"))
        else:
            result.append(NodeArg(port.name, [], "optional()"))
    return result


class ModelSession:
    """One model of a bundle; may be used from many threads."""

    def __init__(self, entry: ModelEntry, program: Program, machine: Machine) -> None:
        self.name = entry.name
        self.entry = entry
        self.program = program
        self._vm = ModelVM(entry.name, program, machine, entry.quota)
        self._machine = machine
        self.inputs = Ports(entry.input_ports, program.inputs)
        self.outputs = Ports(entry.output_ports, program.outputs)
        self._dtypes = {info.name: numpy_dtype(info.dtype) for info in program.inputs}

    @property
    def threads(self) -> int:
        """Threads that one kernel call may use, the caller included."""
        return self._machine.library.threads

    def get_inputs(self) -> list[NodeArg]:
        """The model's inputs, in the ONNX file's order."""
        return _node_args(self.inputs, self.program.inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The model's outputs, in the ONNX file's order."""
        return _node_args(self.outputs, self.program.outputs)

    def run(self, output_names: Sequence[str] | None, inputs: Mapping[str, Any]) -> list[Any]:
        """Run once; ``None`` asks for all outputs. Raises ``InputError`` on wrong inputs.

        An output is an array, a list of arrays where it is a sequence, or None for an
        optional that holds nothing.
        """
        known = self.outputs.names
        for name in output_names or ():
            if name not in known:
                raise InputError(
                    f"model {self.name!r} has no output {name!r}; it has {', '.join(known)}"
                )
        results = self.run_named(inputs)
        return [results[name] for name in output_names or known]

    def run_named(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Run once: outputs by name, as new arrays (a sequence as a list of them)."""
        return self.outputs.grouped(self.run_arrays(self.check_inputs(inputs)))

    def run_arrays(self, arrays: Mapping[int, Array]) -> dict[str, Array]:
        """Run once on checked arrays by input number, all of them in order."""
        shapes = tuple(array.shape for array in arrays.values())
        frame = self._vm.acquire(shapes)
        try:
            fill(frame, arrays)
            frame.run()
            return self.copy_outputs(frame)
        finally:
            self._vm.release(shapes, frame)

    def pausing(
        self,
        arrays: Mapping[int, Array],
        boundary: Boundary,
        taken: Callable[[], None] | None = None,
    ) -> Generator[int, None, dict[str, Any]]:
        """As ``run_named`` on checked arrays, giving way between calls as ``Stage.pausing`` does.

        Yields 0 before it binds, and before its first call, when ``arrays`` have been read and
        ``taken`` called. The frame is kept from start to end, so
        several such runs never share memory.
        """
        shapes = tuple([array.shape for array in arrays.values()])
        frame = self._vm.idle(shapes)
        if frame is None:
            yield 0  # binding takes its time
            frame = self._vm.bind(shapes)
        try:
            fill(frame, arrays)
            if taken is not None:
                taken()
            yield 0
            yield from frame.pausing(boundary)
            return self.outputs.grouped(self.copy_outputs(frame))
        finally:
            self._vm.release(shapes, frame)

    def array_calls(
        self, inputs: Mapping[str, Any]
    ) -> Generator[Sequence[Any], None, dict[str, Any]]:
        """As ``run_named``, leaving the array's calls to others, as ``Stage.array_calls`` does."""
        arrays = self.check_inputs(inputs)
        shapes = tuple(array.shape for array in arrays.values())
        frame = self._vm.acquire(shapes)
        try:
            fill(frame, arrays)
            yield from frame.array_calls()
            return self.outputs.grouped(self.copy_outputs(frame))
        finally:
            self._vm.release(shapes, frame)

    def run_observed(self, inputs: Mapping[str, Any], observe: Observe) -> dict[str, Array]:
        """As ``run_named``; ``observe`` sees what every operator of the program computes."""
        arrays = self.check_inputs(inputs)
        shapes = tuple(array.shape for array in arrays.values())
        frame = self._vm.acquire(shapes)
        try:
            fill(frame, arrays)
            frame.run_observed(observe)
            return self.copy_outputs(frame)
        finally:
            self._vm.release(shapes, frame)

    @contextmanager
    def bound(self, inputs: Mapping[str, Any] | None = None) -> Iterator[Frame]:
        """A frame that holds ``inputs``, to run as often as wanted; random ones (seed 0) if None.

        The frame is the caller's alone until the context ends.
        """
        arrays = self.check_inputs(inputs if inputs is not None else self.random_inputs())
        shapes = tuple(array.shape for array in arrays.values())
        frame = self._vm.acquire(shapes)
        try:
            fill(frame, arrays)
            yield frame
        finally:
            self._vm.release(shapes, frame)

    def copy_outputs(self, frame: Frame) -> dict[str, Array]:
        """The frame's outputs by name, copied out of its arena."""
        named = zip(self.program.outputs, frame.outputs, strict=True)
        return {info.name: from_bits(array.copy(), info.dtype) for info, array in named}

    def bind(self, shapes: tuple[tuple[int, ...], ...], external: Mapping[int, Array]) -> Frame:
        """A frame whose ``external`` inputs are other frames' outputs."""
        return self._vm.bind(shapes, external)

    def simulate(self, inputs: Mapping[str, Any] | None = None) -> RunReport:
        """Run once and report every operator. Without inputs: random ones (seed 0)."""
        with self.bound(inputs) as frame:
            frame.run()  # a first run would be timed with cold caches and sleeping threads
            times = frame.run_timed()
            layers = tuple(self._layer(frame, step, seconds) for step, seconds in times)
        accelerator = self._machine.accelerator
        clock = accelerator.clock_hz if accelerator is not None else None
        target = "array" if any(layer.array for layer in layers) else "host"
        return RunReport(self.name, target, layers, clock)

    def _layer(self, frame: Frame, step: Instruction, seconds: float) -> LayerReport:
        assert isinstance(step, (Kernel, ArrayCall))
        who = self.program.operators[step.operator]
        counts = None
        if isinstance(step, ArrayCall) and self._machine.accelerator is not None:
            counts = _named(self._machine.accelerator.counts(step.program), who.steps)
        macs = frame.macs(step.operator)
        return LayerReport(who.op, who.kind, who.onnx_nodes, who.target, macs, seconds, counts)

    def random_inputs(
        self, seed: int = 0, symbols: Mapping[str, int] | None = None
    ) -> dict[str, Array]:
        """Inputs of the right shapes and dtypes; symbols default to 1.

        Floats are standard normal; integers are 0 or 1, which every index table holds.
        """
        random = np.random.default_rng(seed)
        sizes = _Defaults(symbols or {})
        return {
            info.name: _random(random, info.dtype, evaluate_shape(info.shape, sizes))
            for info in self.program.inputs
        }

    def check_inputs(
        self, inputs: Mapping[str, Any], wired: Container[str] = ()
    ) -> dict[int, Array]:
        """Inputs as arrays by their number, without those that are ``wired``.

        Raises ``InputError`` naming what is wrong; shapes are checked when they are bound.
        """
        inputs = self.inputs.flat(inputs, self.name)
        known = [info.name for info in self.program.inputs]
        unknown = [name for name in inputs if name not in known]
        missing = [name for name in known if name not in inputs and name not in wired]
        if unknown or missing:
            what = f"no input {unknown[0]!r}" if unknown else f"input {missing[0]!r} missing"
            raise InputError(f"model {self.name!r}: {what}; its inputs are {', '.join(known)}")
        return {
            number: self._as_array(info, inputs[info.name])
            for number, info in enumerate(self.program.inputs)
            if info.name not in wired
        }

    def _as_array(self, info: TensorInfo, value: Any) -> Array:
        if not isinstance(value, np.ndarray):
            return self._converted(info, value)
        # The name, which takes microseconds, only decides where the byte order differs.
        if value.dtype != self._dtypes[info.name] and value.dtype.name != info.dtype:
            if is_raw(value, info.dtype):
                return value.view(stored_dtype(info.dtype))
            raise InputError(
                f"model {self.name!r}: input {info.name!r} has dtype {value.dtype.name}, "
                f"the model takes {info.dtype}: convert with .astype({info.dtype!r})"
            )
        return to_bits(value, info.dtype)

    def _converted(self, info: TensorInfo, value: Any) -> Array:
        """A list or number as an array; a fraction for an integer input is refused."""
        try:
            array: Array = np.asarray(value, dtype=self._dtypes[info.name])
            exact = is_float(info.dtype) or np.asarray(value).dtype.kind in "biu"
        except (TypeError, ValueError, OverflowError) as error:
            raise InputError(
                f"model {self.name!r}: input {info.name!r} is no {info.dtype} array: {error}"
            ) from None
        if array.size and not exact:
            raise InputError(
                f"model {self.name!r}: input {info.name!r} is no {info.dtype} array: it holds "
                "other values than integers"
            )
        return to_bits(array, info.dtype)


def _named(counts: ProgramCounts, names: Sequence[str]) -> ProgramCounts:
    """Counts of a program that several operators may share, with this one's names of its steps."""
    if len(names) != len(counts.steps):
        return counts
    pairs = zip(counts.steps, names, strict=True)
    return replace(counts, steps=tuple(replace(step, name=name) for step, name in pairs))


class _Defaults(dict[str, int]):
    """Symbol values with 1 for those not given."""

    def __missing__(self, key: str) -> int:
        return 1


def _random(random: np.random.Generator, dtype: str, shape: tuple[int, ...]) -> Array:
    if is_float(dtype):
        return np.asarray(random.standard_normal(shape)).astype(numpy_dtype(dtype))
    return np.asarray(random.integers(0, 2, shape)).astype(numpy_dtype(dtype))
