"""Steps of all kinds one after another, through the plan, resident or not, on several pods."""

import numpy as np
from array_emission import machine
from hypothesis import given, settings
from hypothesis import strategies as st
from test_array_spatial import convolved
from test_array_transposed import transposed
from test_array_vector_steps import pooled

from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.isa import Activation, Opcode
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.simulation.functional import Interpreter
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    LayerNorm,
    Pooling,
    Softmax,
    TransposedConvolution,
)


def chain(channels, side):
    """Depthwise, pooling, transposed, sum with the input, layer norm, softmax."""
    first = Convolution(1, channels, channels, channels, side, side, (3, 3), padding=(1, 1, 1, 1))
    pool = Pooling("average", 1, channels, side, side, (2, 2), (2, 2))
    small = side // 2
    up = TransposedConvolution(
        1, channels, channels, 1, small, small, (2, 2), (2, 2),
        output_padding=(side % 2, side % 2),
    )  # fmt: skip
    rows = channels * side
    layers = [
        (first, ("x", "w1")),
        (pool, ("t0",)),
        (up, ("t1", "w2")),
        (Elementwise("add", first.output_shape), ("t2", "x")),
        (LayerNorm(rows, side, 1e-5), ("t3", "scale", "shift")),
        (Softmax(rows, side), ("t4",)),
    ]
    shapes = {
        "x": first.input_shape,
        "w1": first.weight_shape,
        "w2": up.weight_shape,
        "scale": (side,),
        "shift": (side,),
    }
    tensors = [Tensor(n, s, Role.INPUT if n == "x" else Role.WEIGHT) for n, s in shapes.items()]
    numbers = {name: number for number, name in enumerate(shapes)}
    steps = []
    for i, (layer, inputs) in enumerate(layers):
        last = i == len(layers) - 1
        numbers[f"t{i}"] = len(tensors)
        tensors.append(Tensor("", layer.output_shape, Role.OUTPUT if last else Role.INTERNAL))
        epilogue = Epilogue(activation=Activation.TANH) if i == 0 else Epilogue()
        operands = tuple(numbers[name] for name in inputs)
        steps.append(Step(f"step{i}", layer, operands, numbers[f"t{i}"], epilogue))
    return Workload(tuple(tensors), tuple(steps))


def expected(workload, x, w1, w2, scale, shift):
    first, pool, up = (step.layer for step in workload.steps[:3])
    made = np.tanh(convolved(first, x, w1))
    made = transposed(up, pooled(pool, made), w2) + x
    made = made.reshape(-1, made.shape[-1])
    made = made - made.mean(1, keepdims=True)
    made = made / np.sqrt((made**2).mean(1, keepdims=True) + 1e-5) * scale + shift
    powers = np.exp(made - made.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


@settings(max_examples=12, deadline=None)
@given(
    st.integers(2, 5), st.integers(2, 9), st.integers(1, 3),
    st.sampled_from([2048, 8192, 65536]),
)  # fmt: skip
def test_a_chain_agrees_with_numpy(channels, side, pods, scratchpad):
    array = machine(pods=pods, scratchpad=scratchpad)
    workload = chain(channels, side)
    program = compile_workload(workload, array).program
    check_program(program, array)
    random = np.random.default_rng(side)
    arguments = [random.standard_normal(t.shape).astype(np.float32) for t in workload.tensors[:5]]
    result = np.empty(workload.tensors[-1].shape, np.float32)
    Interpreter(program).run(arguments, [result])
    np.testing.assert_allclose(result, expected(workload, *arguments), rtol=1e-4, atol=1e-5)
    assert simulate(program, array).cycles > 0


def test_every_step_can_read_what_stayed_on_chip():
    compiled = compile_workload(chain(4, 8), machine(scratchpad=65536))
    assert set(compiled.plan.resident) == {5, 6, 7, 8, 9}
    code = compiled.program.instructions
    in_dram = np.isin(code["opcode"], [Opcode.LOAD, Opcode.STORE])
    views = compiled.program.views
    assert {views[n].tensor for n in code["operand"][in_dram]} == {0, 1, 2, 3, 4, 10}
