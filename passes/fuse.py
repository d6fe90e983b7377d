"""Cuts entry functions into units: private functions that become one kernel each.

Rules, over the bindings of a block in order:

1. An anchor, injective or opaque call starts a unit. A view (reshape and its kin)
   is never in a unit: the VM does it without moving data.
2. An elementwise call joins the unit of an operand where that unit's result is read
   by nothing else and has the call's own shape and place (host or array). Units of
   elementwise calls alone all join; of units with an anchor only one does, the last. None
   joins a concatenation or slice that needs no kernel (``contiguous``).
3. On the array, what may follow an anchor is for the array to say (bias, residual,
   activation, clamp). A call that is placed there itself joins no unit of the host; one that
   is not joins one of the array only where no other tensor of its size comes in. A sum of
   two units joins the one that is computed last.
4. The transpose of the right side of a product, both on the array, is in the product's unit.
5. Cheap elementwise calls of one tensor (a scale and a shift per channel, a gate, a clamp)
   whose result only a blocked convolution of the host reads are in that convolution's unit:
   it copies its input in any case, or is glad to.

6. Calls that only widen the 8 bits a unit ends in (dequantisation) go to the unit with an
   anchor that alone reads them: a byte goes through memory, not a float.

A unit never has more than ``max_ops`` calls. Weights become parameters, so that
equal kernels are compiled once; single values stay inside. Exact: nothing is changed.
The outlined function carries ``motet.op`` (``<model>/<number>``), ``motet.kind``,
``motet.onnx_nodes`` and ``motet.target``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from tvm import IRModule, relax, transform
from tvm_ffi import structural_equal

from motet.passes.contiguous import needs_no_kernel
from motet.passes.graph import block_like, definitions, use_counts, variables_in
from motet.passes.names import ARRAY, KIND, ONNX_NODES, TARGET, merged_names, target_of
from motet.passes.op_kinds import Kind, kind_of, label, op_name
from motet.passes.options import FuseOptions
from motet.passes.outline import Outliner
from motet.passes.prologue import is_blocked_convolution, is_cheap_map
from motet.passes.typing import with_type
from motet.passes.widenings import reads_of, widening_tail
from motet.targets.systolic.from_relax.values import swaps_last_axes

TRANSPOSE = "relax.permute_dims"

AcceptsEpilogue = Callable[[relax.Call, relax.Call, Sequence[relax.Call]], bool]
"""(anchor, next call, calls between) -> whether the array's anchor takes it along."""


class Group:
    """A unit in the making: its bindings in order; the last one is its result.

    has_anchor: whether some call is more than elementwise; is_open: whether elementwise
    calls may follow.
    """

    def __init__(self, binding: relax.VarBinding) -> None:
        self.bindings = [binding]
        self.target = target_of(binding.value)
        kind = kind_of(binding.value)
        self.has_anchor = kind is not Kind.ELEMENTWISE or self.target == ARRAY
        self.is_open = kind is not Kind.OPAQUE

    @property
    def result(self) -> relax.Var:
        """The value that the outside reads."""
        return self.bindings[-1].var

    @property
    def calls(self) -> list[relax.Call]:
        """The calls in order."""
        return [binding.value for binding in self.bindings]

    @property
    def is_transpose(self) -> bool:
        """Whether it is a transpose on the array."""
        return self.target == ARRAY and op_name(self.calls[-1]) == TRANSPOSE

    def absorb(self, other: Group) -> None:
        """Take the bindings of a group whose result this one reads."""
        self.bindings = [*other.bindings, *self.bindings]
        self.has_anchor = self.has_anchor or other.has_anchor
        self.target = ARRAY if ARRAY in (self.target, other.target) else self.target

    @property
    def attributes(self) -> dict[str, object]:
        """What the outlined function says of itself, its number apart."""
        return {
            KIND: "+".join(map(label, self.calls)),
            ONNX_NODES: list(merged_names(self.calls)),
            TARGET: self.target,
        }


class _Grouper:
    """Forms the groups of one block."""

    def __init__(
        self,
        uses: dict[relax.Var, int],
        options: FuseOptions,
        accepts_epilogue: AcceptsEpilogue,
        values: Mapping[relax.Var, relax.Expr],
    ) -> None:
        self.uses = uses
        self.values = values
        self.options = options
        self.accepts_epilogue = accepts_epilogue
        self.by_result: dict[relax.Var, Group] = {}

    def add(self, binding: relax.VarBinding) -> Group:
        group = Group(binding)
        if self.options.enabled and kind_of(binding.value) is Kind.ELEMENTWISE:
            self.join(group, binding)
        elif group.target == ARRAY:
            self.take_transpose(group, binding)
        elif self.options.enabled and is_blocked_convolution(binding.value):
            self.take_prologue(group, binding.value.args[0])
        self.by_result[binding.var] = group
        return group

    def take_transpose(self, group: Group, binding: relax.VarBinding) -> None:
        """Rule 4; any other transpose on the array is a unit of its own."""
        for variable in dict.fromkeys(variables_in(binding.value)):
            other = self.by_result.get(variable)
            if other is not None and self.is_right_side(other, binding.value):
                group.absorb(other)
                del self.by_result[variable]

    def take_prologue(self, group: Group, data: relax.Expr) -> None:
        """Rule 5."""
        other = self.by_result.get(data) if isinstance(data, relax.Var) else None
        if other is None or self.uses[other.result] != 1 or other.target == ARRAY:
            return
        if len(other.bindings) < self.options.max_ops and is_cheap_map(other.calls, data):
            group.absorb(other)
            del self.by_result[data]

    def return_widenings(self) -> None:
        """Rule 6."""
        for group in list(self.by_result.values()):
            count = widening_tail(group.calls)
            readers = [
                other for other in self.by_result.values() if group.result in reads_of(other)
            ]
            if not count or group.target == ARRAY or self.uses[group.result] != 1:
                continue
            room = self.options.max_ops - count
            if len(readers) != 1 or readers[0].target == ARRAY or not readers[0].has_anchor:
                continue
            if len(readers[0].bindings) <= room:
                del self.by_result[group.result]
                readers[0].bindings = [*group.bindings[-count:], *readers[0].bindings]
                group.bindings = group.bindings[:-count]
                self.by_result[group.result] = group

    def is_right_side(self, group: Group, call: relax.Call) -> bool:
        """Whether ``group`` is the transpose of what ``call`` multiplies with."""
        if not group.is_transpose or len(group.bindings) > 1 or op_name(call) != "relax.matmul":
            return False
        is_only = self.uses[group.result] == 1 and call.args[1].same_as(group.result)
        return is_only and swaps_last_axes(group.calls[0])

    def join(self, group: Group, binding: relax.VarBinding) -> None:
        candidates = [
            self.by_result[variable]
            for variable in dict.fromkeys(variables_in(binding.value))
            if variable in self.by_result and self.may_join(self.by_result[variable], binding)
        ]
        for candidate in reversed(self.chosen(candidates)):
            group.absorb(candidate)
            del self.by_result[candidate.result]

    def chosen(self, candidates: Sequence[Group]) -> list[Group]:
        """Those that fit together, in their order: the last anchor's, then the others.

        An anchor on the array goes before one on the host.
        """
        order = {result: number for number, result in enumerate(self.by_result)}
        anchored = sorted(
            (candidate for candidate in candidates if candidate.has_anchor),
            key=lambda candidate: (candidate.target == ARRAY, order[candidate.result]),
        )[-1:]
        others = [candidate for candidate in candidates if not candidate.has_anchor]
        if anchored and anchored[0].target == ARRAY:
            others = []
        room, kept = self.options.max_ops - 1, []
        for candidate in [*anchored, *others]:
            if len(candidate.bindings) <= room:
                room -= len(candidate.bindings)
                kept.append(candidate)
        return [candidate for candidate in candidates if candidate in kept]

    def may_join(self, group: Group, binding: relax.VarBinding) -> bool:
        reads = list(variables_in(binding.value)).count(group.result)
        if not group.is_open or self.uses[group.result] != reads:
            return False
        placed = target_of(binding.value) == ARRAY
        if group.target == ARRAY:
            return (placed or _is_alone(group, binding)) and self.accepted(group, binding.value)
        if placed or needs_no_kernel(group.calls[-1], self.values):
            return False
        return _same_shape(group.result, binding.var)

    def accepted(self, group: Group, call: relax.Call) -> bool:
        """Whether the array takes ``call`` into the unit ``group``."""
        calls = group.calls
        if op_name(calls[0]) == TRANSPOSE:
            calls = calls[1:]
        return bool(calls) and self.accepts_epilogue(calls[0], call, calls[1:])


def _is_alone(group: Group, binding: relax.VarBinding) -> bool:
    """Whether ``binding`` reads no variable of its own size beside the unit's result."""
    others = [v for v in variables_in(binding.value) if not v.same_as(group.result)]
    return not any(_same_shape(other, binding.var) for other in others)


def _same_shape(left: relax.Var, right: relax.Var) -> bool:
    if not isinstance(left.ty, relax.TensorType) or not isinstance(right.ty, relax.TensorType):
        return False
    return left.ty.shape is not None and bool(structural_equal(left.ty.shape, right.ty.shape))


class _Cutter:
    """Rewrites one entry function; ``outliner`` collects the units."""

    def __init__(
        self,
        function: relax.Function,
        outliner: Outliner,
        options: FuseOptions,
        accepts_epilogue: AcceptsEpilogue,
    ) -> None:
        self.function = function
        self.uses = dict(use_counts(function))
        self.values = definitions(function)
        self.outliner = outliner
        self.options = options
        self.accepts_epilogue = accepts_epilogue

    def run(self) -> relax.Function:
        """The entry function with every unit replaced by a call of it."""
        function = self.function
        return relax.Function(
            function.params,
            self.sequence(function.body),
            function.ret_ty,
            function.is_pure,
            function.attrs,
        )

    def sequence(self, body: relax.SeqExpr) -> relax.SeqExpr:
        blocks = [self.block(block) for block in body.blocks]
        return with_type(relax.SeqExpr(blocks, body.body), body.ty)

    def block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        grouper = _Grouper(self.uses, self.options, self.accepts_epilogue, self.values)
        groups: dict[relax.Var, Group] = {}
        for binding in block.bindings[:]:
            if isinstance(binding.value, relax.Call) and _becomes_kernel(binding.value):
                groups[binding.var] = grouper.add(binding)
        grouper.return_widenings()
        results = set(grouper.by_result)
        bindings = []
        for binding in block.bindings[:]:
            if binding.var not in groups:
                bindings.append(self.other(binding))
            elif binding.var in results:
                outlined = self.outlined(binding.var, grouper.by_result[binding.var])
                bindings += [*self.outliner.taken_carriers(), outlined]
        return block_like(block, bindings)

    def other(self, binding: relax.Binding) -> relax.Binding:
        value = binding.value
        if not isinstance(value, relax.If):
            return binding
        branches = (self.sequence(value.true_branch), self.sequence(value.false_branch))
        choice = with_type(relax.If(value.cond, *branches), value.ty)
        return relax.VarBinding(binding.var, choice)

    def outlined(self, result: relax.Var, group: Group) -> relax.VarBinding:
        return relax.VarBinding(result, self.outliner.outline(group.bindings, group.attributes))


_VM_OPERATORS = {"relax.shape_of", "relax.shape_to_tensor", "relax.tensor_to_shape"}


def _becomes_kernel(call: relax.Call) -> bool:
    if kind_of(call) is Kind.VIEW or op_name(call) in _VM_OPERATORS:
        return False
    return bool(op_name(call))


def fuse(
    options: FuseOptions | None = None, accepts_epilogue: AcceptsEpilogue | None = None
) -> transform.Pass:
    """The pass; ``accepts_epilogue`` is needed where calls are placed on the array."""

    def refuse(_anchor: relax.Call, _next: relax.Call, _between: Sequence[relax.Call]) -> bool:
        return False

    @transform.module_pass(opt_level=0, name="fuse")
    def run(mod: IRModule, _context: transform.PassContext) -> IRModule:
        result = mod.clone()
        for variable, function in mod.functions_items():
            if isinstance(function, relax.Function):
                outliner = Outliner(result, str(variable.name_hint), function)
                cutter = _Cutter(
                    function, outliner, options or FuseOptions(), accepts_epilogue or refuse
                )
                result[variable] = cutter.run()
        return result

    return run
