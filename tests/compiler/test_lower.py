"""Entry functions to VM programs: what instructions come out, and that they are right."""

from __future__ import annotations

import numpy as np
import pytest
from tvm import IRModule, relax, tirx

from motet.compiler.kernels import HostKernels
from motet.compiler.lower import CodeMakers, lower
from motet.compiler.weights import WeightPool
from motet.passes.fuse import fuse
from motet.runtime.bundle import Bundle
from motet.runtime.errors import CompileError
from motet.runtime.manifest import Manifest, ModelEntry, Source
from motet.runtime.program import (
    BindSymbols,
    Branch,
    Goto,
    Kernel,
    Move,
    Program,
    ShapeTensor,
    TensorInfo,
    View,
)
from motet.runtime.session import Session
from motet.targets.host.build import build_library
from motet.targets.host.machine import machine_for

MACHINE = machine_for("native")


def tensor(name, shape, dtype="float32"):
    return relax.Var(name, relax.TensorType(shape, dtype))


def lowered(
    builder: relax.BlockBuilder, inputs: list[TensorInfo], outputs: list[TensorInfo]
) -> tuple[Program, Session]:
    """Fuse and lower function ``m``; the program, and a session that runs it."""
    mod: IRModule = fuse()(builder.get())
    code = CodeMakers(HostKernels(MACHINE), WeightPool())
    program = lower(mod, "m", inputs, outputs, code)
    library = build_library(code.host.functions, MACHINE) if code.host.functions else b""
    manifest = Manifest(
        name="t",
        motet_version="0",
        target="host",
        cpu=MACHINE.mcpu,
        cpu_features=(),
        threads=1,
        models=(ModelEntry("m", Source("m.onnx", "")),),
    )
    return program, Session(Bundle(manifest, {"m": program}, code.weights.arrays, library))


def test_views_move_no_data_and_outputs_keep_their_names():
    builder, x = relax.BlockBuilder(), tensor("x", [2, 6])
    with builder.function("m", [x]):
        with builder.dataflow():
            y = builder.emit_output(builder.emit(relax.op.reshape(x, [3, 4])))
        builder.emit_func_output(y)
    program, session = lowered(
        builder, [TensorInfo("x", "float32", (2, 6))], [TensorInfo("out:0", "float32", (3, 4))]
    )
    assert program.instructions == ()
    assert isinstance(program.registers[program.output_registers[0]].place, View)
    data = np.arange(12, dtype=np.float32).reshape(2, 6)
    np.testing.assert_array_equal(session.run("m", {"x": data})["out:0"], data.reshape(3, 4))


def test_equal_units_share_a_kernel_and_equal_weights_are_stored_once():
    builder, x = relax.BlockBuilder(), tensor("x", [4, 8])
    weight = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    with builder.function("m", [x]):
        with builder.dataflow():
            value = x
            for _ in range(3):
                value = builder.emit(relax.op.matmul(value, relax.const(weight.copy())))
            y = builder.emit_output(value)
        builder.emit_func_output(y)
    program, session = lowered(
        builder, [TensorInfo("x", "float32", (4, 8))], [TensorInfo("y", "float32", (4, 8))]
    )
    kernels = [step for step in program.instructions if isinstance(step, Kernel)]
    assert len(kernels) == 3
    assert len({step.symbol for step in kernels}) == 1
    assert len(session.bundle.weights) == 1
    data = np.ones((4, 8), np.float32)
    want = data @ weight @ weight @ weight
    np.testing.assert_allclose(session.run("m", {"x": data})["y"], want, rtol=1e-4, atol=1e-4)
    assert [operator.macs for operator in program.operators] == [256] * 3


def test_symbolic_batch_is_bound_per_call():
    n = tirx.Var("N", "int64")
    builder, x = relax.BlockBuilder(), tensor("x", [n, 3])
    with builder.function("m", [x]):
        with builder.dataflow():
            doubled = builder.emit(relax.op.add(x, x))
            y = builder.emit_output(builder.emit(relax.op.reshape(doubled, [n * 3])))
        builder.emit_func_output(y)
    program, session = lowered(
        builder, [TensorInfo("x", "float32", ("N", 3))], [TensorInfo("y", "float32", ("3N",))]
    )
    assert program.offsets is None
    for size in (1, 5, 0, 64):
        data = np.random.default_rng(size).standard_normal((size, 3)).astype(np.float32)
        np.testing.assert_array_equal(session.run("m", {"x": data})["y"], (data * 2).ravel())


def test_shape_of_becomes_a_shape_tensor():
    n = tirx.Var("N", "int64")
    builder, x = relax.BlockBuilder(), tensor("x", [n, 3])
    with builder.function("m", [x]):
        shape = builder.emit(relax.op.shape_of(x))
        builder.emit_func_output(builder.emit(relax.op.shape_to_tensor(shape)))
    program, session = lowered(
        builder, [TensorInfo("x", "float32", ("N", 3))], [TensorInfo("s", "int64", (2,))]
    )
    assert [type(step) for step in program.instructions] == [ShapeTensor]
    assert session.run("m", {"x": np.zeros((7, 3), np.float32)})["s"].tolist() == [7, 3]


def branching() -> relax.BlockBuilder:
    builder = relax.BlockBuilder()
    condition, x = tensor("c", [], "bool"), tensor("x", [4])
    with builder.function("m", [condition, x]):
        double = relax.op.add(x, x)
        square = relax.op.multiply(x, x)
        branches = [relax.SeqExpr([], builder.normalize(value)) for value in (double, square)]
        choice = builder.emit(relax.If(condition, *branches))
        builder.emit_func_output(builder.emit(relax.op.negative(choice)))
    return builder


def test_branches_concatenate_and_are_concatenated():
    """What is computed before them may be part of what either gives, and of what follows."""
    builder = relax.BlockBuilder()
    condition, x = tensor("c", [], "bool"), tensor("x", [16])
    with builder.function("m", [condition, x]):
        first = builder.emit(relax.op.negative(x))
        branches = []
        for other in (relax.op.add(first, x), relax.op.multiply(x, x)):
            made = relax.Var("made", relax.TensorType([16], "float32"))
            both = builder.normalize(relax.op.concat([first, made], 0))
            joined = relax.Var("joined", both.ty)
            bindings = [relax.VarBinding(made, builder.normalize(other))]
            bindings.append(relax.VarBinding(joined, both))
            branches.append(
                builder.normalize(relax.SeqExpr([relax.BindingBlock(bindings)], joined))
            )
        choice = builder.emit(relax.If(condition, *branches))
        builder.emit_func_output(builder.emit(relax.op.concat([choice, first], 0)))
    program, session = lowered(
        builder,
        [TensorInfo("c", "bool", ()), TensorInfo("x", "float32", (16,))],
        [TensorInfo("y", "float32", (48,))],
    )
    assert not any("concat" in operator.kind for operator in program.operators)
    data = np.arange(16, dtype=np.float32) + 3
    for taken, made in ((True, 0 * data), (False, data * data), (True, 0 * data)):
        found = session.run("m", {"c": np.array(taken), "x": data})["y"]
        np.testing.assert_array_equal(found, np.concatenate([-data, made, -data]))


def test_if_runs_one_branch_and_joins():
    program, session = lowered(
        branching(),
        [TensorInfo("c", "bool", ()), TensorInfo("x", "float32", (4,))],
        [TensorInfo("y", "float32", (4,))],
    )
    kinds = [type(step) for step in program.instructions]
    assert kinds.count(Branch) == 1
    assert kinds.count(Goto) == 1
    assert kinds.count(Move) == 2
    data = np.array([1, 2, 3, -4], np.float32)
    for condition, want in ((True, -(data + data)), (False, -(data * data))):
        got = session.run("m", {"c": np.array(condition), "x": data})["y"]
        np.testing.assert_array_equal(got, want)


def cast_model(dimension: tirx.Expr) -> relax.BlockBuilder:
    """The absolute value of x [4], cast to have ``dimension`` elements."""
    builder, x = relax.BlockBuilder(), tensor("x", [4])
    with builder.function("m", [x]):
        cast = builder.match_cast(x, relax.TensorType([dimension], "float32"))
        builder.emit_func_output(builder.emit(relax.op.abs(cast)))
    return builder


CAST_INFOS = [TensorInfo("x", "float32", (4,))], [TensorInfo("y", "float32", (4,))]


def test_a_cast_binds_new_dimensions_to_those_that_are_there():
    program, session = lowered(cast_model(tirx.Var("found", "int64")), *CAST_INFOS)
    assert program.outputs[0].shape == ("found",)
    x = np.array([1, -2, 3, -4], np.float32)
    np.testing.assert_array_equal(session.run("m", {"x": x})["y"], abs(x))


def test_a_cast_whose_symbols_stand_nowhere_alone_is_refused():
    with pytest.raises(CompileError, match=r"'m': \(found \* 2\) depends on data"):
        lowered(cast_model(tirx.Var("found", "int64") * 2), *CAST_INFOS)


def counted_rows() -> relax.BlockBuilder:
    """``ones [n, 2]``, the first ``n`` of x doubled, and ``[n + 1]``; n elements are positive."""
    builder, x = relax.BlockBuilder(), tensor("x", [6])
    n = tirx.Var("n", "int64")
    with builder.function("m", [x]):
        with builder.dataflow():
            flags = builder.emit(relax.op.greater(x, relax.const(0.0)))
            whole = builder.emit(relax.op.astype(flags, "int64"))
            count = builder.emit(relax.op.sum(whole, axis=0, keepdims=True))
            shape = builder.emit(relax.op.tensor_to_shape(count))
            builder.match_cast(shape, relax.ShapeType([n]))
            ones = builder.emit(relax.op.full((n, 2), relax.const(1.0)))
            first = builder.emit(relax.op.strided_slice(x, [0], [0], [tirx.max(n, 0)]))
            first = builder.emit(relax.op.reshape(first, (n,)))
            size = builder.emit(relax.op.shape_to_tensor(relax.ShapeExpr([n + 1])))
            found = relax.Tuple([ones, builder.emit(relax.op.add(first, first)), size])
            results = builder.emit_output(found)
        builder.emit_func_output(results)
    return builder


def test_a_tensor_read_as_a_shape_binds_symbols():
    names = ("ones", "twice", "size")
    program, session = lowered(
        counted_rows(),
        [TensorInfo("x", "float32", (6,))],
        [TensorInfo(name, "float32", ()) for name in names],
    )
    (bind,) = (step for step in program.instructions if isinstance(step, BindSymbols))
    assert bind.symbols == ("n",)
    assert [info.shape for info in program.outputs[:2]] == [("n", 2), ("n",)]
    for count in (4, 0, 6, 4):
        x = np.where(np.arange(6) < count, 1, -1).astype(np.float32) * np.arange(1, 7)
        results = session.run("m", {"x": x.astype(np.float32)})
        np.testing.assert_array_equal(results["ones"], np.ones((count, 2)))
        np.testing.assert_array_equal(results["twice"], 2 * x[:count])
        assert results["size"].tolist() == [count + 1]


def test_data_may_not_give_a_value_to_a_known_dimension():
    builder, n = relax.BlockBuilder(), tirx.Var("n", "int64")
    x, s = tensor("x", [n]), tensor("s", [1], "int64")
    with builder.function("m", [x, s]):
        with builder.dataflow():
            shape = builder.emit(relax.op.tensor_to_shape(s))
            builder.match_cast(shape, relax.ShapeType([n]))
            y = builder.emit_output(builder.emit(relax.op.add(x, x)))
        builder.emit_func_output(y)
    infos = [TensorInfo("x", "float32", ("n",)), TensorInfo("s", "int64", (1,))]
    with pytest.raises(CompileError, match="only give values to new dimensions, not to n"):
        lowered(builder, infos, [TensorInfo("y", "float32", ("n",))])
