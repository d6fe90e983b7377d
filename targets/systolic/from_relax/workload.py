"""From Relax functions to the array's workloads; ``calls`` has the single calls.

A *unit* is a function whose body is one block: an anchor (before it, optionally, the
transpose of a matrix product's right side) and then what its epilogue takes in, in the
order bias, residual, activation, clamp. A *region* is a function whose body is one block
of calls of units and of views between them; it becomes one workload, a step per unit.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import relax
from tvm.ir import GlobalVar

from motet.runtime.errors import CompileError
from motet.targets.systolic.from_relax.anchor import Anchor
from motet.targets.systolic.from_relax.calls import anchor_of, follower, is_channel_vector
from motet.targets.systolic.from_relax.integers import FORMAT as INTEGERS
from motet.targets.systolic.from_relax.integers import SUMS, WORDS
from motet.targets.systolic.from_relax.rules import accepts_epilogue
from motet.targets.systolic.from_relax.values import (
    RefusedError,
    name_of,
    operands_of,
    shape_of,
    swaps_last_axes,
)
from motet.targets.systolic.instructions.program import MAX_RANK, Element, Role, Tensor
from motet.targets.systolic.workload.graph import Epilogue, Step, Workload
from motet.targets.systolic.workload.join_parts import with_parts

UnitOf = Callable[[GlobalVar], relax.Function]
NameOf = Callable[[relax.Function], str]


@dataclass(frozen=True)
class RegionBinding:
    """A region, or a single unit, as a workload.

    Attributes
    ----------
    workload: what the array computes.
    params: for each argument of the workload (INPUT and WEIGHT tensors in order), the
        index of the function's parameter that feeds it.
    results: for each OUTPUT tensor in order, the index of the function's result that it is.
    """

    workload: Workload
    params: tuple[int, ...]
    results: tuple[int, ...]


def workload_of(
    function: relax.Function,
    unit_of: UnitOf,
    name_of_unit: NameOf,
    weights: Collection[int] = (),
) -> RegionBinding:
    """The workload that a region, or a single unit, is; ``CompileError`` where it is none.

    unit_of: the unit that a region calls under a name. name_of_unit: what its step is
    called. weights: the parameters whose values are known when the program is made.
    """
    builder = _Builder(function, frozenset(weights))
    try:
        builder.add(function, unit_of, name_of_unit)
    except RefusedError as error:
        raise CompileError(f"not a region of the array: {error}") from error
    return builder.binding()


Bindings = Sequence[relax.VarBinding]


def _block(function: relax.Function) -> tuple[list[Any], relax.Expr]:
    """The bindings of a function of one block, aliases at its end left out; its result."""
    body = function.body
    if not isinstance(body, relax.SeqExpr) or len(body.blocks) != 1:
        raise RefusedError("its body is not one block")
    bindings, result = list(body.blocks[0].bindings), body.body
    while bindings and isinstance(bindings[-1].value, (relax.Var, relax.Tuple)):
        if not result.same_as(bindings[-1].var):
            break
        result = bindings.pop().value
    if not bindings or any(not isinstance(item.value, relax.Call) for item in bindings):
        raise RefusedError("its body is not a list of calls")
    return bindings, result


@dataclass
class _Builder:
    """Collects tensors and steps. ``values``: the tensor that each Relax variable is."""

    function: relax.Function
    weights: frozenset[int]
    tensors: list[Tensor] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    params: list[int] = field(default_factory=list)
    arguments: dict[tuple[int, Element], int] = field(default_factory=dict)
    values: dict[relax.Var, int] = field(default_factory=dict)
    pairs: dict[tuple[int, int, Element], int] = field(default_factory=dict)
    formats: set[str] = field(default_factory=set)
    returned: list[int] = field(default_factory=list)

    def add(self, function: relax.Function, unit_of: UnitOf, name_of_unit: NameOf) -> None:
        """The steps of the whole function."""
        bindings, result = _block(function)
        if not any(isinstance(binding.value.op, GlobalVar) for binding in bindings):
            self.values[result] = self.unit(function, name_of_unit(function), {})
        else:
            for binding in bindings:
                self.values[binding.var] = self.call(binding.value, unit_of, name_of_unit)
        items = result.fields if isinstance(result, relax.Tuple) else [result]
        self.returned = [self.values[item] for item in items]

    def call(self, call: relax.Call, unit_of: UnitOf, name_of_unit: NameOf) -> int:
        """The tensor of a call of a unit, or of a view: the same as what it views."""
        if not isinstance(call.op, GlobalVar):
            return self.tensor(call.args[0], Element.WORD)
        unit = unit_of(call.op)
        outer = dict(zip(unit.params, call.args, strict=True))
        return self.unit(unit, name_of_unit(unit), outer)

    def unit(self, unit: relax.Function, name: str, outer: dict[relax.Var, relax.Expr]) -> int:
        """A step; ``outer`` is what the unit's parameters are in the function around it."""
        reader = _UnitReader(self, unit, outer)
        step, result = reader.step(name), unit.body.body
        element = Element.INT64 if str(result.ty.dtype) == "int64" else reader.element
        shape = shape_of(result, (*SUMS, "int64"))
        self.tensors.append(_tensor(shape, Role.INTERNAL, element))
        self.steps.append(replace(step, output=len(self.tensors) - 1))
        return len(self.tensors) - 1

    def tensor(self, value: relax.Expr, element: Element) -> int:
        """The tensor of a variable: computed before, or an argument."""
        if value in self.values:
            return self.values[value]
        for index, param in enumerate(self.function.params):
            if param.same_as(value):
                return self.argument(index, element)
        raise RefusedError("an operand is not a parameter")

    def argument(self, index: int, element: Element) -> int:
        if (index, element) not in self.arguments:
            role = Role.WEIGHT if index in self.weights else Role.INPUT
            shape = shape_of(self.function.params[index], (*WORDS, *SUMS))
            if element is not Element.WORD:
                shape = (math.prod(shape),)
            self.tensors.append(_tensor(shape, role, element))
            self.params.append(index)
            self.arguments[index, element] = len(self.tensors) - 1
        return self.arguments[index, element]

    def of_vectors(self, integers: relax.Expr, scales: relax.Expr, element: Element) -> int:
        """The tensor of vectors that two parameters are, its scales the one behind it."""
        found = [
            next((i for i, p in enumerate(self.function.params) if p.same_as(value)), -1)
            for value in (integers, scales)
        ]
        if -1 in found:
            raise RefusedError("vectors that the array multiplies are made in its program")
        key = (found[0], found[1], element)
        if key not in self.pairs:
            role = Role.WEIGHT if {*found} <= self.weights else Role.INPUT
            shape = shape_of(scales, ("uint16",))
            self.pairs[key] = len(self.tensors)
            self.tensors += [_tensor(shape, role, each) for each in (element, Element.SCALE)]
            self.params += found
        return self.pairs[key]

    def binding(self) -> RegionBinding:
        """The finished workload."""
        if len(set(self.returned)) != len(self.returned):
            raise CompileError("not a region of the array: it returns a value twice")
        for number in self.returned:
            self.tensors[number] = replace(self.tensors[number], role=Role.OUTPUT)
        results = tuple(self.returned.index(number) for number in sorted(self.returned))
        if len(self.formats) > 1 or (self.formats and len(self.steps) > len(self.formats)):
            raise RefusedError("products of vectors of different formats in one region")
        vectors = next(iter(self.formats), "")
        workload = with_parts(Workload(tuple(self.tensors), tuple(self.steps), vectors=vectors))
        return RegionBinding(workload, tuple(self.params), results)


def _tensor(shape: tuple[int, ...], role: Role, element: Element = Element.WORD) -> Tensor:
    """A tensor of at most ``MAX_RANK`` axes; further ones are folded into the first."""
    split = max(len(shape) - MAX_RANK + 1, 0)
    folded = (math.prod(shape[:split]), *shape[split:]) if split > 1 else shape
    return Tensor("", folded or (1,), role, element)


class _UnitReader:
    """Reads one unit as a step of the builder's workload."""

    def __init__(
        self, builder: _Builder, unit: relax.Function, outer: dict[relax.Var, relax.Expr]
    ) -> None:
        self.builder = builder
        self.outer = outer
        self.element = Element.WORD
        self.bindings, result = _block(unit)
        if not result.same_as(self.bindings[-1].var):
            raise RefusedError("it returns something else than its last value")

    def step(self, name: str) -> Step:
        """The step, with its output still to come."""
        transpose = self.bindings.pop(0) if self._starts_with_transpose() else None
        anchor, *following = self.bindings
        made = anchor_of(anchor.value, rhs_transposed=transpose is not None)
        arguments = operands_of(anchor.value)
        operands = [arguments[index] for index in made.operands]
        if transpose is not None:
            operands[1] = transpose.value.args[0]
        if made.product is not None:
            step = self.product_of_vectors(name, made, arguments)
        else:
            if made.is_integer:
                self.element = Element.INT32
                self.builder.formats.add(INTEGERS)
            inputs = tuple(
                self.tensor(operand, Element.FP32 if index in made.vectors else Element.WORD)
                for index, operand in enumerate(operands)
            )
            step = Step(name, made.layer, inputs, -1, made.epilogue)
        running, absorbed = anchor.var, list[relax.Call]()
        for binding in following:
            call = binding.value
            if not accepts_epilogue(anchor.value, call, absorbed):
                raise RefusedError(f"{name_of(call)} does not belong to its epilogue")
            step = replace(step, epilogue=self._joined(step.epilogue, made, call, running))
            absorbed.append(call)
            running = binding.var
        return step

    def product_of_vectors(self, name: str, made: Anchor, arguments: Sequence[relax.Expr]) -> Step:
        """The step of a product of vectors, whose values are floats."""
        product = made.product
        assert product is not None
        self.element = Element.FP32
        self.builder.formats.add(product.words.name)
        sides = (Element.WORD, Element.WEIGHT)
        inputs = []
        for index, element in zip(made.operands, sides, strict=True):
            integers, scales = (self.outer.get(v, v) for v in arguments[index : index + 2])
            inputs.append(self.builder.of_vectors(integers, scales, element))
        factor = product.factor
        number = None if factor is None else self.tensor(arguments[factor], Element.FP32)
        return Step(name, made.layer, tuple(inputs), -1, Epilogue(dequantise=number))

    def _starts_with_transpose(self) -> bool:
        """Whether the unit begins with the transpose of its product's right side."""
        first = self.bindings[0]
        if name_of(first.value) != "relax.permute_dims" or len(self.bindings) < 2:
            return False
        product = self.bindings[1].value
        if name_of(product) != "relax.matmul" or not product.args[1].same_as(first.var):
            raise RefusedError("a transpose that no product reads as its right side")
        if product.args[0].same_as(first.var) or not swaps_last_axes(first.value):
            raise RefusedError("a transpose of other axes than the last two")
        return True

    def _joined(
        self, epilogue: Epilogue, made: Anchor, call: relax.Call, running: relax.Var
    ) -> Epilogue:
        """The epilogue with ``call``, which reads the value ``running``."""
        if not any(argument.same_as(running) for argument in call.args):
            raise RefusedError(f"{name_of(call)} does not use the value before it")
        alone = follower(call)
        if alone is not None and alone.clamp is not None:
            return replace(epilogue, clamp=alone.clamp)
        if alone is not None:
            return replace(epilogue, activation=alone.activation, alpha=alone.alpha)
        other = call.args[1] if call.args[0].same_as(running) else call.args[0]
        if is_channel_vector(made.layer, shape_of(call, SUMS), shape_of(other, SUMS)):
            element = Element.INT32 if made.is_integer else Element.FP32
            return replace(epilogue, bias=self.tensor(other, element))
        return replace(epilogue, residual=self.tensor(other))

    def tensor(self, value: relax.Expr, element: Element = Element.WORD) -> int:
        """The tensor of a parameter of the unit."""
        return self.builder.tensor(self.outer.get(value, value), element)
