"""Outlines a run of bindings into a private function that a kernel is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tvm import IRModule, relax, tirx
from tvm.ir import GlobalVar, PrimType
from tvm.ir.expr import GenericConst

from motet.passes.copying import with_own_variables
from motet.passes.graph import static_shape, symbols_in
from motet.passes.names import ARRAY, OP, TARGET
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.outlined_body import OutlinedBody
from motet.passes.typing import with_type


class Outliner:
    """Adds units of one entry function to ``module``, numbered in order of the calls.

    ``carriers`` are bindings that the calls since they were last taken read beside those
    of the entry function.
    """

    def __init__(self, module: IRModule, model: str, entry: relax.Function) -> None:
        self.module = module
        self.model = model
        self.entry = entry
        self.count = 0
        self.carriers: list[relax.VarBinding] = []
        self.taken = {str(variable.name_hint) for variable in module.get_global_vars()}

    def outline(
        self, bindings: Sequence[relax.VarBinding], attributes: Mapping[str, object]
    ) -> relax.Call:
        """A call of a new private function that computes the last of ``bindings``.

        Constants become parameters. Scalars stay inside on the host; the array takes
        every operand as a parameter.
        """
        builder = _UnitBuilder(self.entry, attributes[TARGET] != ARRAY)
        for binding in bindings:
            builder.copy(binding)
        unit = with_own_variables(builder.function(bindings[-1].var))
        self.carriers.extend(builder.carriers)
        number = self.count
        self.count += 1
        unit = unit.with_attrs({OP: f"{self.model}/{number}", **attributes})
        variable = with_type(GlobalVar(self.free_name(f"{self.model}__unit{number}")), unit.ty)
        self.module[variable] = unit
        return with_type(relax.Call(variable, builder.arguments), bindings[-1].var.ty)

    def taken_carriers(self) -> list[relax.VarBinding]:
        """The carriers so far, which are then the caller's to bind."""
        carriers, self.carriers = self.carriers, []
        return carriers

    def free_name(self, name: str) -> str:
        """``name``, or one like it where a model is called so."""
        while name in self.taken:
            name += "_"
        return name


class _UnitBuilder(OutlinedBody):
    """Copies bindings; what they read from outside becomes a parameter."""

    def __init__(self, entry: relax.Function, keeps_scalars: bool) -> None:
        super().__init__()
        self.entry = entry
        self.keeps_scalars = keeps_scalars
        self.carriers: list[relax.VarBinding] = []

    def copy(self, binding: relax.VarBinding) -> None:
        call = binding.value
        keeps = self.keeps_scalars and _takes_scalars(call)
        self.copied(binding, [self.inner(argument, keeps) for argument in call.args[:]])

    def inner(self, expr: relax.Expr, keeps_scalars: bool) -> relax.Expr:
        """``expr`` as the unit reads it."""
        if isinstance(expr, relax.Tuple):
            items = [self.inner(item, keeps_scalars) for item in expr.fields[:]]
            return with_type(relax.Tuple(items), expr.ty)
        if isinstance(expr.ty, PrimType):
            return expr
        if isinstance(expr, relax.Var):
            return self.inside[expr] if expr in self.inside else self.parameter(expr)
        is_constant = isinstance(expr, GenericConst)
        if is_constant and not (keeps_scalars and static_shape(expr) == ()):
            return self.parameter(expr)
        return expr

    def function(self, result: relax.Var) -> relax.Function:
        output = relax.Var("result", self.inside[result].ty)
        last = self.bindings.pop()
        self.bindings.append(relax.VarBinding(output, last.value))
        self.bind_symbols()
        body = with_type(relax.SeqExpr([relax.DataflowBlock(self.bindings)], output), output.ty)
        return relax.Function(self.params, body, output.ty, is_pure=True)

    def bind_symbols(self) -> None:
        """Make every symbol that the unit reads the plain dimension of a parameter.

        A unit such as ``full((N, 4))`` reads no tensor that says what N is; an input
        of the model that does is passed along, unread. Where data binds N there is none:
        a tensor of shape [N, 0] is made up.
        """
        wanted = {s for b in self.bindings for s in symbols_in(b.value)}
        for symbol in sorted(wanted - _plain(self.params), key=str):
            inputs = [param for param in self.entry.params if symbol in _plain([param])]
            self.parameter(inputs[0] if inputs else self.carrier(symbol))

    def carrier(self, symbol: tirx.Var) -> relax.Var:
        """A tensor without elements that has ``symbol`` as a dimension."""
        empty = relax.BlockBuilder().normalize(relax.op.zeros((symbol, 0), "bool"))
        variable = relax.Var(f"carrier_{symbol.name}", empty.ty)
        self.carriers.append(relax.VarBinding(variable, empty))
        return variable


def _takes_scalars(call: relax.Call) -> bool:
    """Whether a kernel of ``call`` can hold a scalar operand as an immediate value."""
    return kind_of(call) is Kind.ELEMENTWISE or op_name(call) == "relax.full"


def _plain(params: Sequence[relax.Var]) -> set[tirx.Var]:
    shapes = [getattr(param.ty, "shape", None) for param in params]
    dims = [dim for shape in shapes for dim in getattr(shape, "values", None) or ()]
    return {dim for dim in dims if isinstance(dim, tirx.Var)}
