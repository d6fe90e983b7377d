"""Weights that are loaded while the steps before still compute."""

from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.emit.region import compile_workload
from motet.targets.systolic.instructions.checker import check_program
from motet.targets.systolic.instructions.isa import Opcode
from motet.targets.systolic.instructions.program import Role, Tensor
from motet.targets.systolic.simulation.timing import simulate
from motet.targets.systolic.workload.graph import Step, Workload
from motet.targets.systolic.workload.layers import Convolution, MatrixProduct
from motet.targets.systolic.workload.what_if import in_format


def busy_then_heavy():
    """Convolutions that keep the array busy, then a layer that is mostly weights."""
    begin = Convolution(1, 3, 64, 1, 32, 32, (1, 1))
    middle = Convolution(1, 64, 16, 1, 32, 32, (3, 3), padding=(1, 1, 1, 1))
    last = MatrixProduct(1, 1, 64, 16 * 32 * 32)
    layers = (begin, middle, last)
    weights = [Tensor("", layer.weight_shape, Role.WEIGHT) for layer in layers]
    tensors = (
        Tensor("x", begin.input_shape, Role.INPUT),
        *weights,
        Tensor("", begin.output_shape, Role.INTERNAL),
        Tensor("", middle.output_shape, Role.INTERNAL),
        Tensor("y", last.output_shape, Role.OUTPUT),
    )
    steps = (
        Step("begin", begin, (0, 1), 4),
        Step("busy", middle, (4, 2), 5),
        Step("heavy", last, (5, 3), 6),
    )
    return in_format(Workload(tensors, steps), "int8")


def compiled(constraints=None):
    array = load_architecture("edge-64x64")
    workload, made = busy_then_heavy()
    done = compile_workload(workload, array, made, constraints)
    check_program(done.program, array)
    return done, array


def test_weights_come_while_the_array_is_busy():
    done, array = compiled()
    timing, code = simulate(done.program, array), done.program.instructions
    loads = (code["step"] == 2) & (code["opcode"] == Opcode.LOAD)
    busy_ends = timing.end[(code["step"] == 1) & (code["opcode"] == Opcode.MATMUL)].max()
    early = timing.end[loads] < busy_ends
    assert early.mean() > 0.2
    few, _ = compiled({"heavy": {"weight_slots": 4}})
    assert timing.cycles < 0.9 * simulate(few.program, array).cycles


def test_pinned_slots_stay():
    done, _ = compiled({"heavy": {"weight_slots": 4}})
    assert done.mappings["heavy"].weight_slots == 4
    assert compiled()[0].mappings["heavy"].weight_slots > 100
