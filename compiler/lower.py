"""Entry functions to VM programs: the last step before the bundle.

After ``regions`` an entry function is a list of bindings: calls of units of the host and of
regions of the array, views, tuples, shapes and ``If``. These become kernel and array calls,
views cost nothing, concatenations and slices often neither (``parts``), what an ``If`` returns
is moved into a register where its branches join, and a tensor that is read as a shape binds
the symbols that it is matched with.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.compiler.dimensions import dimension_of, is_empty, shape_of
from motet.compiler.items import Item, Names, ShapeSource, ShapeValue, Tensors
from motet.compiler.kernels import ArrayPrograms, HostKernels, step_name
from motet.compiler.macs import macs_in
from motet.compiler.memory_plan import lay_out, lifetimes
from motet.compiler.naming import named
from motet.compiler.parts import placed
from motet.compiler.registers import RegisterFile, named_outputs
from motet.compiler.stages import Stages
from motet.compiler.weights import WeightPool
from motet.passes.graph import bindings_of, constant_array
from motet.passes.macs import integer_macs_of
from motet.passes.names import ARRAY, KIND, ONNX_NODES, OP, STAGE, TARGET, names_of
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.runtime.errors import CompileError
from motet.runtime.late import symbols_in
from motet.runtime.program import (
    ArrayCall,
    BindSymbols,
    Branch,
    Goto,
    Instruction,
    Kernel,
    Move,
    Operator,
    Program,
    ShapeTensor,
    TensorInfo,
)
from motet.runtime.shapes import Shape, render_shape


@dataclass(frozen=True)
class CodeMakers:
    """Where kernels, array programs and weights of all models go."""

    host: HostKernels
    weights: WeightPool
    array: ArrayPrograms | None = None


def lower(
    mod: IRModule,
    model: str,
    inputs: Sequence[TensorInfo],
    outputs: Sequence[TensorInfo],
    code: CodeMakers,
) -> Program:
    """The program of entry function ``model``. ``outputs`` give the ONNX names."""
    lowering = _Lowering(mod, model, code)
    results = lowering.run()
    registers, sizes = lowering.file.settled()
    spans = lifetimes(len(sizes), registers, lowering.instructions, results)
    storages, offsets, arena = lay_out(sizes, spans)
    return Program(
        inputs=tuple(inputs),
        outputs=named_outputs(outputs, results, registers),
        output_registers=results,
        registers=tuple(registers),
        storages=storages,
        instructions=tuple(lowering.instructions),
        operators=tuple(lowering.operators),
        offsets=offsets,
        arena_bytes=arena,
    )


@dataclass
class _Lowering:
    """Walks one entry function."""

    mod: IRModule
    model: str
    code: CodeMakers
    instructions: list[Instruction] = field(default_factory=list)
    operators: list[Operator] = field(default_factory=list)
    values: dict[relax.Var, Item] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.file = RegisterFile(self.code.weights)
        self.stages = Stages(self.instructions)
        self.symbols: frozenset[str] = frozenset()

    def run(self) -> tuple[int, ...]:
        """Lower the whole function; the registers of its outputs."""
        function = self.mod[self.model]
        for index, param in enumerate(function.params):
            shape = shape_of(param.ty)
            self.symbols |= symbols_in(shape)
            self.values[param] = self.file.input(index, str(param.ty.dtype), shape)
        result = self.sequence(function.body)
        items = result.items if isinstance(result, Tensors) else (result,)
        return tuple(self.tensor(item) for item in items)

    def tensor(self, item: Item) -> int:
        """``item`` as a register; a shape is written out as an int64 tensor."""
        if isinstance(item, int):
            return item
        if isinstance(item, ShapeValue):
            return self.shape_tensor(item)
        raise CompileError(f"model {self.model!r}: a sequence where a tensor is needed")

    def shape_tensor(self, shape: ShapeValue) -> int:
        target = self.file.stored("int64", (len(shape.dimensions),))
        self.instructions.append(ShapeTensor(shape.dimensions, target))
        return target

    def sequence(self, body: relax.Expr) -> Item:
        if not isinstance(body, relax.SeqExpr):
            return self.item(body)
        for block in body.blocks:
            for binding in block.bindings:
                self.stages.enter(self.stage_of(binding.value))
                self.values[binding.var] = self.bound(binding)
            self.stages.close()
        return self.item(body.body)

    def stage_of(self, value: relax.Expr) -> str:
        """The stage and group that a unit runs in beside others; views cost nothing and are
        of the one before.
        """
        if isinstance(value, relax.Call) and isinstance(value.op, GlobalVar):
            return str(self.mod[value.op].attrs.get(STAGE, ""))
        return self.stages.mark

    def bound(self, binding: relax.Binding) -> Item:
        try:
            return self.computed(binding)
        except CompileError as error:
            raise named(error, self.model, binding.value, self.mod) from error

    def computed(self, binding: relax.Binding) -> Item:
        if isinstance(binding, relax.MatchCast):
            return self.cast(binding)
        if isinstance(binding.value, relax.If):
            return self.choice(binding.value)
        if isinstance(binding.value, relax.Call):
            return self.call(binding.value)
        return self.item(binding.value)

    def cast(self, binding: relax.MatchCast) -> Item:
        """A shape that the run time proves: binding fails where the bytes do not fit it."""
        return self.matched(self.item(binding.value), binding.ty)

    def matched(self, item: Item, ty: relax.Type) -> Item:
        if isinstance(ty, relax.TupleType):
            assert isinstance(item, Tensors)
            return Tensors(tuple(map(self.matched, item.items, ty.fields)))
        if isinstance(ty, relax.ShapeType):
            return self.matched_shape(item, tuple(map(dimension_of, ty.values)))
        if ty.shape is None:  # a branch forgets what only it knows
            return item
        register, shape = self.tensor(item), shape_of(ty)
        have = self.file.registers[register].shape
        new = {
            want: dimension
            for want, dimension in zip(shape, have, strict=False)
            if isinstance(want, str) and want not in self.symbols
        }
        if len(shape) != len(have) or symbols_in(shape) - self.symbols - new.keys():
            raise CompileError(
                f"model {self.model!r}: {render_shape(shape)} depends on data in a way that the "
                "VM cannot run; fix the input shapes with --shape where that helps"
            )
        if new:
            self.bind_dimensions(tuple(new), tuple(new.values()), ())
        return self.file.view(register, shape)

    def bind_dimensions(self, symbols: tuple[str, ...], values: Shape, names: Names) -> None:
        """Bind ``symbols`` to dimensions, each to one."""
        values_at = self.shape_tensor(ShapeValue(values))
        self.instructions.append(BindSymbols(symbols, values_at, names))
        self.symbols |= set(symbols)

    def matched_shape(self, item: Item, dimensions: Shape) -> ShapeValue:
        """The shape ``dimensions``, whose symbols are bound where ``item`` comes from data."""
        if isinstance(item, ShapeSource):
            symbols = tuple(d for d in dimensions if isinstance(d, str) and d not in self.symbols)
            if len(set(symbols)) != len(dimensions):
                raise CompileError(
                    f"model {self.model!r}, node {', '.join(item.names)}: data may only give "
                    f"values to new dimensions, not to {', '.join(map(str, dimensions))}"
                )
            self.instructions.append(BindSymbols(symbols, item.register, item.names))
            self.symbols |= set(symbols)
        return ShapeValue(dimensions)

    def item(self, expr: relax.Expr) -> Item:
        """An operand: a variable, constant, shape, tuple, or an item of a tuple."""
        if isinstance(expr, relax.Var):
            return self.values[expr]
        if isinstance(expr, relax.ShapeExpr):
            return ShapeValue(tuple(dimension_of(value) for value in expr.values))
        if isinstance(expr, relax.Tuple):
            return Tensors(tuple(self.item(field) for field in expr.fields))
        if isinstance(expr, relax.TupleGetItem):
            whole = self.item(expr.tuple_value)
            assert isinstance(whole, Tensors)
            return whole.items[int(expr.index)]
        array = constant_array(expr)
        if array is None:
            raise CompileError(f"model {self.model!r}: a {type(expr).__name__} cannot be run")
        return self.file.constant(array)

    def call(self, call: relax.Call) -> Item:
        if isinstance(call.op, GlobalVar):
            return self.unit(call)
        if kind_of(call) is Kind.VIEW:
            return self.file.view(self.tensor(self.item(call.args[0])), shape_of(call.ty))
        if op_name(call) == "relax.shape_of":
            return ShapeValue(shape_of(call.args[0].ty))
        if op_name(call) == "relax.shape_to_tensor":
            return self.tensor(self.item(call.args[0]))
        if op_name(call) == "relax.tensor_to_shape":
            return ShapeSource(self.tensor(self.item(call.args[0])), names_of(call))
        if op_name(call) == "relax.zeros" and is_empty(call.ty):
            return self.outputs(call.ty)
        names = ", ".join(names_of(call)) or "unnamed"
        raise CompileError(
            f"model {self.model!r}, node {names}: {op_name(call)} needs a shape that depends on "
            "data, which the VM cannot run yet; fix the input shapes with --shape where that helps"
        )

    def unit(self, call: relax.Call) -> Item:
        unit = self.mod[call.op]
        on_array = unit.attrs[TARGET] == ARRAY
        found = None if on_array else self.placed(call, unit)
        if found is not None:
            return found
        self.operators.append(self.operator(unit))
        return self.array_call(call, unit) if on_array else self.host_call(call, unit)

    def placed(self, call: relax.Call, unit: relax.Function) -> Item | None:
        """The value of a unit whose bytes only need a place; None where it needs a kernel."""
        arguments = dict(zip(unit.params, call.args, strict=True))
        operand = lambda param: self.tensor(self.item(arguments[param]))  # noqa: E731
        return placed(unit, operand, self.file, self.instructions)

    def operator(self, unit: relax.Function) -> Operator:
        attrs = unit.attrs
        steps = self.units_of(unit)
        on_array = attrs[TARGET] == ARRAY
        return Operator(
            str(attrs[OP]),
            str(attrs[KIND]),
            tuple(str(name) for name in attrs[ONNX_NODES]),
            "array" if on_array else "host",
            macs_in(self.mod, unit),
            tuple(map(step_name, steps)) if on_array else (),
            macs_in(self.mod, unit, integer_macs_of),
        )

    def units_of(self, function: relax.Function) -> list[relax.Function]:
        """The units that a region calls, in order; a unit itself."""
        called = [b.value.op for b in bindings_of(function) if isinstance(b.value, relax.Call)]
        return [self.mod[name] for name in called if isinstance(name, GlobalVar)] or [function]

    def host_call(self, call: relax.Call, unit: relax.Function) -> Item:
        if is_empty(unit.ret_ty):
            return self.outputs(unit.ret_ty)
        arrays = [constant_array(argument) for argument in call.args]
        constants = frozenset(i for i, array in enumerate(arrays) if array is not None)
        kernel = self.code.host.kernel_for(unit, constants)
        arguments = []
        for index, (argument, array) in enumerate(zip(call.args, arrays, strict=True)):
            if array is not None and index in kernel.lowered.packings:
                arguments.append(self.file.constant(kernel.lowered.packed(index, arrays)))
            else:
                arguments.append(self.tensor(self.item(argument)))
        outputs = self.outputs(unit.ret_ty)
        registers = outputs.items if isinstance(outputs, Tensors) else (outputs,)
        written = [register for register in registers if isinstance(register, int)]
        self.instructions.append(
            Kernel(kernel.symbol, (*arguments, *written), len(written), len(self.operators) - 1)
        )
        return outputs

    def outputs(self, ty: relax.Type) -> Item:
        """New registers for a value of type ``ty``."""
        if isinstance(ty, relax.TupleType):
            return Tensors(tuple(self.outputs(part) for part in ty.fields))
        if ty.shape is None:  # what a choice gives, whose branches differ
            shape = tuple(f"choice_{len(self.file.registers)}_dim{k}" for k in range(ty.ndim))
            return self.file.stored(str(ty.dtype), shape)
        return self.file.stored(str(ty.dtype), shape_of(ty))

    def array_call(self, call: relax.Call, region: relax.Function) -> Item:
        assert self.code.array is not None, "only placement marks units for the array"
        name, binding = self.code.array.program_for(self.mod, region, call.args)
        inputs = tuple(self.tensor(self.item(call.args[index])) for index in binding.params)
        results = self.outputs(region.ret_ty)
        registers = results.items if isinstance(results, Tensors) else (results,)
        outputs = tuple(self.tensor(registers[index]) for index in binding.results)
        self.instructions.append(ArrayCall(name, inputs, outputs, len(self.operators) - 1))
        return results

    def choice(self, choice: relax.If) -> Item:
        """``if`` over the branches' instructions; both move their results to one place.

        Where the branches differ in shape, each binds the dimensions of that place.
        """
        names = names_of(choice)
        condition = self.tensor(self.item(choice.cond))
        joined = self.outputs(choice.ty)
        start = len(self.instructions)
        self.instructions.append(Branch(condition, 0))
        self.move(self.sequence(choice.true_branch), joined, names)
        middle = len(self.instructions)
        self.instructions.append(Goto(0))
        self.instructions[start] = Branch(condition, middle + 1)
        self.move(self.sequence(choice.false_branch), joined, names)
        self.instructions[middle] = Goto(len(self.instructions))
        return joined

    def move(self, source: Item, target: Item, names: Names) -> None:
        if isinstance(target, Tensors):
            assert isinstance(source, Tensors)
            for one, other in zip(source.items, target.items, strict=True):
                self.move(one, other, names)
            return
        origin, place = self.tensor(source), self.tensor(target)
        have, want = (self.file.registers[register].shape for register in (origin, place))
        own = tuple(d for d in want if isinstance(d, str) and d.startswith(f"choice_{place}_"))
        if own:
            self.bind_dimensions(own, have, names)
        self.instructions.append(Move(origin, place))
