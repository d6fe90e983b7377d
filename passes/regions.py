"""Joins the array's units into *regions*: private functions that become one array program each.

Values that pass from unit to unit inside a region can stay in the array's scratchpads;
what the host reads, or another region, is a result of the region. Views (reshape and
its kin) between units of a region are part of it: the same bytes.

Rule. Every call of a block has a level; constants, parameters and values from outside have
level 0 and stand on the host, a view has the level and the target of what it views:

    level(call) = max over its inputs i of  level(i) + (1 if target(i) != target(call) else 0)

A region is a connected component of array units of one level, where a unit and the
producer of an input of it, through views, are connected.

Regions are convex, and can be run in an order. Along every path levels never fall, and
they rise wherever the target changes. A path from a unit of level L to another one of
level L has thus no host call on it (leaving the array and coming back adds 2), so all of
its units have level L and, as each reads the one before, are of one region: nothing outside a
region lies between two units of it. A path from one region to another either has a host
call on it, or an edge between units that are not of one region, hence not of one level; in both
cases the level rises. So paths between regions go up in level, and none comes back.

A product of vectors, or of bytes summed in int32, is a region of its own: a program has one format.
It reads integers that the host makes, so no path leads to it from its own level.

A ``MatchCast`` or an ``If`` may bind the symbols that what follows it needs: regions do not
reach across one. Exact: nothing is changed but where a function ends.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tvm import IRModule, relax, transform
from tvm.ir import GlobalVar
from tvm.ir.expr import GenericConst

from motet.passes.copying import with_own_variables
from motet.passes.graph import bindings_of, block_like, use_counts, variables_in
from motet.passes.names import ARRAY, KIND, ONNX_NODES, OP, TARGET, WEIGHTS
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.options import RegionsOptions
from motet.passes.ordering import Edges, ordered
from motet.passes.outlined_body import OutlinedBody
from motet.passes.typing import with_type
from motet.targets.operators.vectors import PRODUCTS
from motet.targets.systolic.from_relax.integers import is_integer_product


def levels_of(inputs: Edges, on_array: Sequence[bool]) -> list[int]:
    """The level of every call; ``inputs[i]`` are the calls that call i reads, all before it.

    What comes from elsewhere counts as an input of level 0 on the host, for every call.
    """
    levels: list[int] = []
    for reads, here in zip(inputs, on_array, strict=True):
        levels.append(max([int(here), *(levels[i] + (on_array[i] != here) for i in reads)]))
    return levels


def components(inputs: Edges, on_array: Sequence[bool], levels: Sequence[int]) -> list[int]:
    """The region of every call: the least number of a unit in it, or -1 on the host."""
    parent = [i if here else -1 for i, here in enumerate(on_array)]

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    for reader, reads in enumerate(inputs):
        for read in reads:
            if on_array[reader] and on_array[read] and levels[reader] == levels[read]:
                one, other = root(reader), root(read)
                parent[max(one, other)] = min(one, other)
    return [root(i) if here else -1 for i, here in enumerate(on_array)]


@dataclass(frozen=True)
class _Outlined:
    """A region's function, what it is called with, and the values that it gives."""

    function: relax.Function
    arguments: tuple[relax.Expr, ...]
    results: tuple[relax.VarBinding, ...]


class _Segment:
    """Bindings without one that binds symbols, and the regions among them.

    is_alone: units that share a region with no other; views of theirs are the host's. number:
    of each variable's binding. region: of every binding, -1 for none; views are in it too.
    """

    def __init__(
        self,
        bindings: Sequence[relax.VarBinding],
        is_unit: Sequence[bool],
        joined: bool,
        is_alone: Sequence[bool],
    ) -> None:
        self.bindings = bindings
        self.is_unit = is_unit
        self.number = {binding.var: i for i, binding in enumerate(bindings)}
        self.is_view = [kind_of(binding.value) is Kind.VIEW for binding in bindings]
        inputs = [self.reads(binding.value) for binding in bindings]
        on_array: list[bool] = []
        for position, binding in enumerate(bindings):
            source = self.reads(binding.value.args[0]) if self.is_view[position] else []
            follows = any(on_array[i] and not is_alone[i] for i in source)
            on_array.append(is_unit[position] or follows)
        if joined:
            levels = levels_of(inputs, on_array)
            apart = [
                [read for read in reads if not (is_alone[read] or is_alone[reader])]
                for reader, reads in enumerate(inputs)
            ]
            self.region = components(apart, on_array, levels)
        else:
            self.region = [i if unit else -1 for i, unit in enumerate(is_unit)]

    def reads(self, value: relax.Expr) -> list[int]:
        """Positions of the bindings that ``value`` reads, without repeats."""
        return [self.number[v] for v in dict.fromkeys(variables_in(value)) if v in self.number]

    def members(self, region: int) -> list[int]:
        """Positions of the units of a region, in order."""
        return [i for i, r in enumerate(self.region) if r == region and self.is_unit[i]]

    def needed_outside(self, uses: Mapping[relax.Var, int]) -> list[bool]:
        """Of every unit or view of a region: whether something outside the region reads it.

        A view that only units of its region read is part of the region alone.
        """
        inside: Counter[relax.Var] = Counter()
        needed = [True] * len(self.bindings)
        for position in reversed(range(len(self.bindings))):
            region, binding = self.region[position], self.bindings[position]
            if region < 0:
                continue
            needed[position] = uses.get(binding.var, 0) > inside[binding.var]
            if self.is_unit[position] or not needed[position]:
                inside.update(
                    v
                    for v in variables_in(binding.value)
                    if v in self.number and self.region[self.number[v]] == region
                )
        return needed


class _Outliner(OutlinedBody):
    """Builds the function of one region of a segment."""

    def __init__(self, segment: _Segment, region: int) -> None:
        super().__init__()
        self.segment = segment
        self.region = region

    def outlined(self, needed: Sequence[bool]) -> _Outlined:
        """The function; ``needed`` says which bindings the outside reads."""
        members = self.segment.members(self.region)
        for position in members:
            binding = self.segment.bindings[position]
            self.copied(binding, [self.operand(value) for value in binding.value.args[:]])
        kept = [i for i in members if needed[i]] or members[-1:]
        results = tuple(self.segment.bindings[i] for i in kept)
        return _Outlined(self.function(results), tuple(self.arguments), results)

    def operand(self, value: relax.Expr) -> relax.Expr:
        """``value`` as the region reads it: computed inside, a view inside, or a parameter."""
        if not isinstance(value, relax.Var):
            return self.parameter(value)
        if value in self.inside:
            return self.inside[value]
        position = self.segment.number.get(value, -1)
        if position < 0 or self.segment.region[position] != self.region:
            return self.parameter(value)
        view = self.segment.bindings[position]
        source, *shape = view.value.args
        return self.copied(view, [self.operand(source), *shape])

    def function(self, results: Sequence[relax.VarBinding]) -> relax.Function:
        values = [self.inside[binding.var] for binding in results]
        value = values[0] if len(values) == 1 else _tuple(values)
        output = relax.Var("result", value.ty)
        bindings = [*self.bindings, relax.VarBinding(output, value)]
        body = with_type(relax.SeqExpr([relax.DataflowBlock(bindings)], output), output.ty)
        made = relax.Function(self.params, body, output.ty, is_pure=True)
        weights = [i for i, a in enumerate(self.arguments) if isinstance(a, GenericConst)]
        return with_own_variables(made).with_attr(WEIGHTS, weights)


def _tuple(values: Sequence[relax.Expr]) -> relax.Expr:
    return with_type(relax.Tuple(values), relax.TupleType([value.ty for value in values]))


class _Former:
    """Rewrites one entry function of ``module``, and adds its regions to it."""

    def __init__(self, module: IRModule, model: str, options: RegionsOptions) -> None:
        self.module = module
        self.model = model
        self.options = options
        self.count = 0
        self.taken = {str(variable.name_hint) for variable in module.get_global_vars()}

    def run(self, function: relax.Function) -> relax.Function:
        self.uses = use_counts(function)
        body = self.sequence(function.body)
        about = (function.ret_ty, function.is_pure, function.attrs)
        return relax.Function(function.params, body, *about)

    def sequence(self, body: relax.SeqExpr) -> relax.SeqExpr:
        blocks = [self.block(block) for block in body.blocks]
        return with_type(relax.SeqExpr(blocks, body.body), body.ty)

    def block(self, block: relax.BindingBlock) -> relax.BindingBlock:
        """The block with its regions called; segments end at what may bind symbols."""
        bindings: list[relax.Binding] = []
        segment: list[relax.VarBinding] = []
        for binding in block.bindings[:]:
            if isinstance(binding, relax.MatchCast) or isinstance(binding.value, relax.If):
                bindings += [*self.segment(segment), self.other(binding)]
                segment = []
            else:
                segment.append(binding)
        return block_like(block, [*bindings, *self.segment(segment)])

    def other(self, binding: relax.Binding) -> relax.Binding:
        value = binding.value
        if not isinstance(value, relax.If):
            return binding
        branches = (self.sequence(value.true_branch), self.sequence(value.false_branch))
        return relax.VarBinding(binding.var, with_type(relax.If(value.cond, *branches), value.ty))

    def segment(self, bindings: Sequence[relax.VarBinding]) -> list[relax.Binding]:
        """The bindings, with a call of each region in place of its units, in a valid order."""
        units = [self.is_array_unit(binding.value) for binding in bindings]
        if not any(units):
            return list(bindings)
        alone = [
            unit and self.is_of_vectors(binding.value)
            for unit, binding in zip(units, bindings, strict=True)
        ]
        segment = _Segment(bindings, units, self.options.enabled, alone)
        needed = segment.needed_outside(self.uses)
        items: dict[int, list[relax.VarBinding]] = {}
        for position, binding in enumerate(bindings):
            if position == segment.region[position]:
                made = _Outliner(segment, position).outlined(needed)
                items[position] = list(self.calls(segment, position, made))
            elif not units[position] and needed[position]:
                items[position] = [binding]
        return _in_order(items)

    def is_array_unit(self, value: relax.Expr) -> bool:
        if not isinstance(value, relax.Call) or not isinstance(value.op, GlobalVar):
            return False
        return str(self.module[value.op].attrs[TARGET]) == ARRAY

    def is_of_vectors(self, call: relax.Call) -> bool:
        """Whether a unit is a product of vectors, or of bytes."""
        return any(
            op_name(item.value) in PRODUCTS or is_integer_product(item.value)
            for item in bindings_of(self.module[call.op])
        )

    def calls(self, segment: _Segment, region: int, made: _Outlined) -> Iterator[relax.VarBinding]:
        """The call of a new region, and its results taken out where there are several."""
        units = [self.module[segment.bindings[i].value.op].attrs for i in segment.members(region)]
        kinds = dict.fromkeys(kind for attrs in units for kind in str(attrs[KIND]).split("+"))
        nodes = dict.fromkeys(str(name) for attrs in units for name in attrs[ONNX_NODES])
        function = made.function.with_attrs({
            OP: str(units[0][OP]),
            KIND: "+".join(kinds),
            ONNX_NODES: list(nodes),
            TARGET: ARRAY,
        })  # fmt: skip
        variable = with_type(GlobalVar(self.name()), function.ty)
        self.module[variable] = function
        call = with_type(relax.Call(variable, made.arguments), function.ret_ty)
        if len(made.results) == 1:
            yield relax.VarBinding(made.results[0].var, call)
            return
        together = relax.DataflowVar(f"region{self.count - 1}", function.ret_ty)
        yield relax.VarBinding(together, call)
        for index, binding in enumerate(made.results):
            taken = with_type(relax.TupleGetItem(together, index), binding.var.ty)
            yield relax.VarBinding(binding.var, taken)

    def name(self) -> str:
        """A free name for the next region."""
        name = f"{self.model}__region{self.count}"
        self.count += 1
        while name in self.taken:
            name += "_"
        return name


def _in_order(items: Mapping[int, Sequence[relax.VarBinding]]) -> list[relax.Binding]:
    """The bindings of all items, each after what it reads."""
    places = list(items.values())
    giver = {binding.var: i for i, place in enumerate(places) for binding in place}
    inputs = [
        [
            giver[v]
            for binding in place
            for v in variables_in(binding.value)
            if v in giver and giver[v] != i
        ]
        for i, place in enumerate(places)
    ]
    return [binding for i in ordered(inputs) for binding in places[i]]


def regions(options: RegionsOptions | None = None) -> transform.Pass:
    """The pass; it runs after ``fuse``. Where not enabled, every unit is a region of its own."""

    @transform.module_pass(opt_level=0, name="regions")
    def run(mod: IRModule, _context: transform.PassContext) -> IRModule:
        result = mod.clone()
        for variable, function in mod.functions_items():
            if isinstance(function, relax.Function) and OP not in (function.attrs or {}):
                former = _Former(result, str(variable.name_hint), options or RegionsOptions())
                result[variable] = former.run(function)
        return result

    return run
