"""The body of a function that is outlined, in the making: copies, and what they read as parameters.

Units (``outline``) and regions of the array (``regions``) are both made so; what each of them
reads in its own way is theirs to say.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from motet.passes.typing import with_type


class OutlinedBody:
    """Bindings copied into a function; what they read from outside becomes a parameter.

    inside: the variable in the function for one outside that was copied. params, arguments: the
    function's parameters, and what a call of it gives for each.
    """

    def __init__(self) -> None:
        self.inside: dict[relax.Var, relax.Var] = {}
        self.bindings: list[relax.VarBinding] = []
        self.params: list[relax.Var] = []
        self.arguments: list[relax.Expr] = []

    def copied(self, binding: relax.VarBinding, arguments: Sequence[relax.Expr]) -> relax.Var:
        """The variable of a copy of ``binding``, a call, that reads ``arguments``."""
        call = binding.value
        copied = relax.Call(call.op, arguments, call.attrs, call.ty_args, call.span)
        variable = relax.DataflowVar(binding.var.name, binding.var.ty)
        self.bindings.append(relax.VarBinding(variable, with_type(copied, call.ty)))
        self.inside[binding.var] = variable
        return variable

    def parameter(self, expr: relax.Expr) -> relax.Var:
        """The parameter for ``expr``, which is of outside; one for all its uses."""
        for known, variable in zip(self.arguments, self.params, strict=True):
            if known.same_as(expr):
                return variable
        variable = relax.Var(f"p{len(self.params)}", expr.ty)
        self.arguments.append(expr)
        self.params.append(variable)
        return variable
