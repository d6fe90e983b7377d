"""Hand-made array programs for the tests of the timing view: queues written one by one."""

import numpy as np

from motet.targets.systolic.architecture import (
    ArrayDescription,
    Dram,
    Interconnect,
    Memory,
    Pod,
    VectorUnit,
)
from motet.targets.systolic.instructions.addressing import Loop, View
from motet.targets.systolic.instructions.isa import (
    INSTRUCTION,
    Dataflow,
    Engine,
    Opcode,
    empty_instructions,
    queue_number,
)
from motet.targets.systolic.instructions.program import Role, StepInfo, SystolicProgram, Tensor

SIZE = 64
"""Sides of the matrix that the programs load and store."""


def machine(pods=1, rows=4, columns=4, ports=4, port_bytes=64, bandwidth=8.0, **options):
    """An array of int8 at 1 Hz, so that bandwidths are bytes per cycle."""
    join = {key: options.pop(key) for key in ("kind", "link_bytes", "expansion") if key in options}
    return ArrayDescription(
        name="hand-made",
        clock_hz=1.0,
        pods=(
            Pod(
                count=pods,
                rows=rows,
                columns=columns,
                scratchpad=Memory(bytes=1 << 20, ports=ports, port_bytes=port_bytes),
                accumulators=Memory(bytes=1 << 20),
                vector=VectorUnit(lanes=columns),
                dataflows=("weight-stationary", "output-stationary", "input-stationary"),
                formats=("int8",),
            ),
        ),
        dram=Dram(bytes_per_second=bandwidth, **options),
        interconnect=Interconnect(**join),
    )


def one(opcode, **fields):
    made = empty_instructions(1)
    made["opcode"] = opcode
    for name, value in fields.items():
        made[name] = value
    return made


def matmul(rows, depth=4, columns=4, dataflow=Dataflow.WEIGHT_STATIONARY, **fields):
    return one(Opcode.MATMUL, rows=rows, depth=depth, columns=columns, dataflow=dataflow, **fields)


def load(rows, columns=4, **fields):
    return one(Opcode.LOAD, operand=0, rows=rows, columns=columns, **fields)


def store(rows, columns=4, **fields):
    return one(Opcode.STORE, operand=1, rows=rows, columns=columns, **fields)


def vector(rows, columns=4, **fields):
    return one(Opcode.VECTOR, rows=rows, columns=columns, **fields)


def transfer(rows, target, targets=1, columns=4, **fields):
    return one(
        Opcode.TRANSFER,
        rows=rows,
        columns=columns,
        target_pod=target,
        target_pods=targets,
        **fields,
    )


def signal():
    return one(Opcode.SIGNAL)


def wait(engine, value, pod=0):
    return one(Opcode.WAIT, semaphore=queue_number(pod, engine), value=value)


def program(queues, pods=1):
    """``queues``: {(pod, engine): [instructions]}."""
    parts, starts = [], [0]
    for pod in range(pods):
        for engine in Engine:
            queue = queues.get((pod, engine), [])
            for part in queue:
                part["pod"] = pod
            parts += queue
            starts.append(starts[-1] + len(queue))
    tensors = (Tensor("x", (SIZE, SIZE), Role.INPUT), Tensor("y", (SIZE, SIZE), Role.OUTPUT))
    views = tuple(
        View(i, (SIZE, SIZE), Loop(1, 0), (Loop(SIZE, SIZE),), (Loop(SIZE, 1),)) for i in range(2)
    )
    made = np.concatenate(parts) if parts else np.zeros(0, INSTRUCTION)
    steps = (StepInfo("hand-made", "Test", 0),)
    return SystolicProgram("int8", made, np.array(starts, np.int64), tensors, views, steps)
