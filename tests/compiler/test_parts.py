"""Concatenations and slices by place: random graphs are right, and cost what they should."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy_kernels import NumpyKernels, evaluated
from tvm import relax

from motet.compiler.lower import CodeMakers, lower
from motet.compiler.weights import WeightPool
from motet.passes.fuse import fuse
from motet.passes.graph import static_shape
from motet.runtime.program import Part, Program, Stored, TensorInfo
from motet.runtime.stages import Machine
from motet.runtime.verify import verify_program
from motet.runtime.vm import ModelVM, fill

OP = relax.op


class Graph:
    """A Relax function ``m`` in the making."""

    def __init__(self, *shapes: tuple[int, ...]) -> None:
        self.builder = relax.BlockBuilder()
        self.inputs = [
            relax.Var(f"x{i}", relax.TensorType(shape, "float32")) for i, shape in enumerate(shapes)
        ]
        self.values: list[relax.Expr] = list(self.inputs)

    def emit(self, value: relax.Expr) -> relax.Var:
        return self.builder.emit(value)

    def made(self, *values: relax.Expr) -> list[relax.Var]:
        """A kernel's result for each value."""
        return [self.emit(OP.negative(value)) for value in values]

    def compiled(self, *outputs: relax.Expr) -> Compiled:
        """Fuse and lower; the function must have been built within ``frame``."""
        self.builder.emit_func_output(relax.Tuple(list(outputs)))
        return Compiled(self, [static_shape(output) for output in outputs])


class Compiled:
    """The program of a graph, and what it should give."""

    def __init__(self, graph: Graph, outputs: list[Any]) -> None:
        self.shapes = [static_shape(value) for value in graph.inputs]
        self.infos = [TensorInfo(f"y{i}", "float32", s) for i, s in enumerate(outputs)]
        self.builder = graph.builder
        self.kernels = NumpyKernels()
        self.weights = WeightPool()

    def lower(self) -> Program:
        mod = self.builder.get()
        self.function = mod["m"]
        infos = [TensorInfo(f"x{i}", "float32", s) for i, s in enumerate(self.shapes)]
        code = CodeMakers(self.kernels, self.weights)  # type: ignore[arg-type]
        self.program = lower(fuse()(mod), "m", infos, self.infos, code)
        verify_program("m", self.program, self.weights.arrays)
        return self.program

    def check(self) -> None:
        """Two runs on different inputs, so that the second finds the first one's values."""
        machine = Machine(self.kernels, self.weights.arrays)  # type: ignore[arg-type]
        frame = ModelVM("m", self.program, machine).bind(tuple(self.shapes))
        random = np.random.default_rng(0)
        for _ in range(2):
            inputs = [random.standard_normal(s).astype(np.float32) for s in self.shapes]
            fill(frame, dict(enumerate(inputs)))
            frame.run()
            for found, wanted in zip(frame.outputs, evaluated(self.function, inputs), strict=True):
                np.testing.assert_array_equal(found, wanted)


@st.composite
def graphs(draw: st.DrawFn) -> Compiled:
    """Concatenations, slices, splits, views and arithmetic over tensors of one image size."""
    batch, area = draw(st.sampled_from([1, 1, 2])), draw(st.sampled_from([16, 8, 3]))
    channels = st.sampled_from([2, 4, 6])
    graph = Graph(*((batch, draw(channels), area) for _ in range(draw(st.integers(1, 2)))))
    with graph.builder.function("m", graph.inputs):
        for _ in range(draw(st.integers(2, 14))):
            _grow(draw, graph)
        count = draw(st.integers(1, 3))
        outputs = [graph.values[-1], *(_pick(draw, graph) for _ in range(count - 1))]
        return graph.compiled(*outputs)


def _pick(draw: st.DrawFn, graph: Graph) -> relax.Expr:
    """Some value; late ones more often, so that graphs are deep."""
    return graph.values[-1 - min(draw(st.integers(0, 12)), len(graph.values) - 1)]


def _grow(draw: st.DrawFn, graph: Graph) -> None:
    """One call more, of a kind that is drawn."""
    kind = draw(st.sampled_from(["negative", "negative", "add", "concat", "concat", "cut", "view"]))
    value = _pick(draw, graph)
    batch, channels, area = static_shape(value)
    if kind == "negative":
        graph.values += graph.made(value)
    elif kind == "add":
        same = [v for v in graph.values if static_shape(v) == static_shape(value)]
        graph.values.append(graph.emit(OP.add(value, draw(st.sampled_from(same)))))
    elif kind == "view":
        flat = graph.emit(OP.reshape(value, [batch * channels, area]))
        back = graph.emit(OP.reshape(flat, [batch, channels, area]))
        graph.values.append(back)
    elif kind == "cut":
        _cut(draw, graph, value)
    elif channels < 40:
        _concat(draw, graph, value)


def _cut(draw: st.DrawFn, graph: Graph, value: relax.Expr) -> None:
    axis = draw(st.sampled_from([0, 1, 1, 1, 2]))
    size = static_shape(value)[axis]
    if axis == 1 and size % 2 == 0 and draw(st.booleans()):
        parts = graph.emit(OP.split(value, 2, 1))
        graph.values += [graph.emit(relax.TupleGetItem(parts, i)) for i in range(2)]
        return
    if axis == 1:
        begin = draw(st.integers(0, size - 1))
        end, step = draw(st.integers(begin + 1, size)), draw(st.sampled_from([1, 1, 2]))
        graph.values.append(graph.emit(OP.strided_slice(value, [1], [begin], [end], [step])))


def _concat(draw: st.DrawFn, graph: Graph, value: relax.Expr) -> None:
    axis = draw(st.sampled_from([1, 1, 1, 1, 2]))
    fits = [other for other in graph.values if _beside(other, axis) == _beside(value, axis)]
    others = draw(st.lists(st.sampled_from(fits[-6:]), max_size=3))
    operands = draw(st.permutations([value, *others]))
    if sum(static_shape(v)[2] for v in operands) > 64 and axis == 2:
        return
    graph.values.append(graph.emit(OP.concat(operands, axis)))


def _beside(value: relax.Expr, axis: int) -> tuple[int, ...]:
    """The extents of the other axes."""
    shape = static_shape(value)
    return (*shape[:axis], *shape[axis + 1 :])


@given(graphs())
@settings(deadline=None, derandomize=True, max_examples=200)
def test_random_graphs_give_what_numpy_gives(compiled: Compiled) -> None:
    compiled.lower()
    compiled.check()


ROW = (1, 4, 16)


def joined(graph: Graph, *values: relax.Expr) -> relax.Var:
    return graph.emit(OP.concat(list(values), 1))


def built(wire: Callable[[Graph], Sequence[relax.Expr]], *shapes: tuple[int, ...]) -> Compiled:
    """The graph that ``wire`` makes, lowered and checked against numpy."""
    graph = Graph(*(shapes or (ROW,)))
    with graph.builder.function("m", graph.inputs):
        compiled = graph.compiled(*wire(graph))
    compiled.lower()
    compiled.check()
    return compiled


def instructions(compiled: Compiled) -> Counter[str]:
    return Counter(type(instruction).__name__ for instruction in compiled.program.instructions)


def test_a_growing_chain_is_one_storage() -> None:
    def chain(graph: Graph) -> list[relax.Expr]:
        (value,) = graph.made(graph.inputs[0])
        for _ in range(4):
            new = graph.made(graph.emit(OP.strided_slice(value, [1], [0], [4])))
            value = joined(graph, value, *new)
        return graph.made(value)

    compiled = built(chain)
    assert instructions(compiled) == {"Kernel": 6}
    assert sorted(storage.bytes for storage in compiled.program.storages) == [5 * 256, 5 * 256]


def test_lists_that_grow_are_one_storage_too() -> None:
    """As torchvision writes DenseNet: every layer concatenates all results before it."""

    def lists(graph: Graph) -> list[relax.Expr]:
        results = graph.made(graph.inputs[0])
        for _ in range(4):
            whole = joined(graph, *results)
            results += graph.made(graph.emit(OP.strided_slice(whole, [1], [0], [4])))
        return [joined(graph, *results), joined(graph, *results[1:3])]

    compiled = built(lists)
    assert instructions(compiled) == {"Kernel": 5}
    assert [storage.bytes for storage in compiled.program.storages] == [5 * 256]
    places = [compiled.program.registers[n].place for n in compiled.program.output_registers]
    assert places == [Stored(0, 0), Stored(0, 256)]


@pytest.mark.parametrize(
    ("wire", "kernels", "copies"),
    [
        (lambda g, a, b, c: [joined(g, a, b, c)], 3, 0),
        (lambda g, a, b, c: [joined(g, a, a, b, c)], 3, 1),
        (lambda g, a, b, c: [joined(g, a, g.inputs[0])], 3, 1),
        (lambda g, a, b, c: [joined(g, a, g.inputs[0], g.inputs[0])], 4, 0),
        (lambda g, a, b, c: [joined(g, a, b), joined(g, b, c)], 3, 1),
        (lambda g, a, b, c: [joined(g, a, b, c), joined(g, b, c)], 3, 0),
        (lambda g, a, b, c: [joined(g, a, b), joined(g, b, a)], 4, 0),
        (lambda g, a, b, c: [joined(g, a, b), a, g.made(b)[0]], 4, 0),
        (lambda g, a, b, c: [joined(g, joined(g, a, b), c), joined(g, a, b)], 3, 0),
        (lambda g, a, b, c: g.made(joined(g, a, b, c)), 4, 0),
    ],
)
def test_what_is_copied(wire: Any, kernels: int, copies: int) -> None:
    def three(graph: Graph) -> list[relax.Expr]:
        a, b, c = graph.made(*graph.inputs)
        return list(wire(graph, a, b, c))

    compiled = built(three, ROW, ROW, ROW)
    assert instructions(compiled) == Counter(Kernel=kernels, Move=copies)


@pytest.mark.parametrize(
    ("shape", "axis", "kernels"),
    [((1, 4, 16), 1, 1), ((2, 4, 16), 1, 2), ((2, 4, 16), 0, 1), ((1, 1, 16), 2, 1),
     ((1, 4, 16), 2, 2), ((1, 3, 7), 1, 2)],
)  # fmt: skip
def test_what_is_one_run(shape: tuple[int, ...], axis: int, kernels: int) -> None:
    """Else a kernel concatenates, and takes in the elementwise calls behind it."""

    def two(graph: Graph) -> list[relax.Expr]:
        parts = graph.made(*graph.inputs)
        return graph.made(graph.emit(OP.concat(parts, axis)))

    compiled = built(two, shape, shape)
    assert instructions(compiled) == {"Kernel": 3}
    kinds = [operator.kind for operator in compiled.program.operators]
    assert kinds[-1] == ("negative" if kernels == 1 else "concat+negative")


def test_slices_and_splits_are_parts_of_what_they_cut() -> None:
    def cuts(graph: Graph) -> list[relax.Expr]:
        x = graph.inputs[0]
        halves = graph.emit(OP.split(x, 2, 1))
        late = graph.emit(OP.strided_slice(x, [0, 1], [-1, -1], [1, 4]))
        parts = [graph.emit(relax.TupleGetItem(halves, i)) for i in range(2)]
        return [late, *parts, *graph.made(parts[1])]

    compiled = built(cuts)
    places = [compiled.program.registers[n].place for n in compiled.program.output_registers]
    assert instructions(compiled) == {"Kernel": 1}
    assert places[:3] == [Part(0, 192), Part(0, 0), Part(0, 128)]


@pytest.mark.parametrize("cut", [([1], [0], [4], [2]), ([2], [0], [8]), ([1], [3], [0], [-1])])
def test_other_slices_are_computed(cut: tuple[list[int], ...]) -> None:
    graph = Graph(ROW)
    with graph.builder.function("m", graph.inputs):
        compiled = graph.compiled(graph.emit(OP.strided_slice(graph.inputs[0], *cut)))
    compiled.lower()
    assert instructions(compiled) == {"Kernel": 1}
