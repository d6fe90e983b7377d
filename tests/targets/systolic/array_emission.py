"""Steps emitted by their families and run by the slow interpreter: what their tests share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from array_slow_interpreter import SlowInterpreter, rounded_to_bf16, run_program

from motet.targets.systolic.architecture import (
    ArrayDescription,
    Dram,
    Memory,
    Pod,
    VectorUnit,
)
from motet.targets.systolic.emit.context import StepContext, ViewTable
from motet.targets.systolic.formats import ACCUMULATOR_BYTES, FORMATS
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.program import Element, Role, StepInfo, Tensor
from motet.targets.systolic.instructions.synchronise import synchronise
from motet.targets.systolic.mappings.mapping import Place
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Elementwise

ALL = ("weight-stationary", "output-stationary", "input-stationary", "spatial-output-stationary")


def machine(
    *, pods: int = 1, scratchpad: int = 4096, sums: int = 512, rows: int = 4, columns: int = 4
) -> ArrayDescription:
    """A small array; ``scratchpad`` in bytes, ``sums`` in accumulator words."""
    pod = Pod(
        count=pods,
        rows=rows,
        columns=columns,
        scratchpad=Memory(bytes=scratchpad),
        accumulators=Memory(bytes=sums * ACCUMULATOR_BYTES),
        vector=VectorUnit(lanes=4),
        dataflows=ALL,
        formats=("fp32", "bf16", "int8", "int4"),
    )
    return ArrayDescription(name="test", clock_hz=1e9, pods=(pod,), dram=Dram(bytes_per_second=1e9))


def surrounded(workload: Workload) -> Workload:
    """A one-step workload with its first input and its output INTERNAL, copied in and out."""
    (step,) = workload.steps
    tensors, count = list(workload.tensors), len(workload.tensors)
    source, result = tensors[step.inputs[0]], tensors[step.output]
    tensors[step.inputs[0]] = Tensor("inside", source.shape, Role.INTERNAL)
    tensors[step.output] = Tensor("made", result.shape, Role.INTERNAL)
    tensors += [
        Tensor("source", source.shape, Role.INPUT),
        Tensor("result", result.shape, Role.OUTPUT),
    ]
    copy_in = Step("in", Elementwise("identity", source.shape), (count,), step.inputs[0])
    copy_out = Step("out", Elementwise("identity", result.shape), (step.output,), count + 1)
    return Workload(tuple(tensors), (copy_in, step, copy_out))


class Emission:
    """Emits a workload's steps in order, with INTERNAL tensors resident if asked."""

    def __init__(
        self,
        workload: Workload,
        description: ArrayDescription,
        number_format: str = "fp32",
        *,
        resident: bool = False,
        mapping: Callable[..., Any],
        emit: Callable[[StepContext], Any],
    ) -> None:
        self.format = FORMATS[number_format]
        self.description, self.workload = description, workload
        pod = description.pods[0]
        words, self.sums = pod.scratchpad_words(number_format), pod.accumulator_words
        self.words, places = words, {}
        if resident:
            for number, tensor in enumerate(workload.tensors):
                if tensor.role is Role.INTERNAL:
                    words -= tensor.elements
                    places[number] = Place(words, range(pod.count))
        assert words > 0, "the test's scratchpad is too small for its resident tensors"
        self.views, parts = ViewTable(), []
        for number, step in enumerate(workload.steps):
            chosen = mapping(
                step, workload, description, self.format, places, scratchpad_words=words
            )
            parts.append(
                emit(
                    StepContext(
                        number,
                        step,
                        workload,
                        description,
                        self.format,
                        chosen,
                        self.views,
                        places,
                        range(words),
                        range(self.sums),
                    )
                )
            )
        self.instructions = np.concatenate(parts)
        placed = [
            t if n not in places else Tensor("", t.shape, t.role, resident=places[n].address)
            for n, t in enumerate(workload.tensors)
        ]
        self.tensors = (*placed, *self.views.staging)

    def run(self, arguments: list[Any]) -> Any:
        """The (only) result.

        The synchronised program must give the very same, pass the checker, and mean the same
        to the functional view.
        """
        interpreter = SlowInterpreter(
            self.format.name, self.tensors, self.views.views, self.description.pod_count,
            self.words, self.sums,
        )  # fmt: skip
        (made,) = interpreter.run(self.instructions, arguments)
        steps = [StepInfo(step.name, step.kind, step.layer.macs) for step in self.workload.steps]
        program = synchronise(
            self.instructions, self.format.name, self.tensors, self.views.views, steps,
            self.description.pod_count,
        )  # fmt: skip
        (again,) = run_program(program, arguments, self.words, self.sums)
        np.testing.assert_array_equal(again, made)
        check_program(program, self.description)
        result = np.empty_like(made)
        Interpreter(program).run(arguments, [result])
        np.testing.assert_allclose(result, made, rtol=2e-5, atol=2e-5)
        self.program = program
        return made


def random_arguments(workload: Workload, number_format: str, seed: int) -> list[Any]:
    """Random values for the INPUT and WEIGHT tensors, in order."""
    random, made = np.random.default_rng(seed), []
    for tensor in workload.tensors:
        if tensor.role not in (Role.INPUT, Role.WEIGHT):
            continue
        if tensor.element is Element.FP32 and FORMATS[number_format].is_integer:
            made.append(random.uniform(0.002, 0.02, tensor.shape).astype(np.float32))
        elif tensor.element is Element.INT32:
            made.append(random.integers(-500, 500, tensor.shape).astype(np.int32))
        elif FORMATS[number_format].is_integer:
            low, high = (-8, 8) if number_format == "int4" else (-128, 128)
            made.append(random.integers(low, high, tensor.shape).astype(np.int8))
        else:
            values = random.standard_normal(tensor.shape).astype(np.float32)
            made.append(rounded_to_bf16(values) if number_format == "bf16" else values)
    return made
