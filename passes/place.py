"""Placement: which operators run on the array; what it does not take, the host runs.

Rules, for calls that the array accepts and of which no ONNX node is pinned to the host:

1. Convolutions and matrix products run on the array. The transpose of the last two axes
   of a product's right side does too, where nothing else reads it.
2. Pooling, softmax, layer normalisation, elementwise work and what only moves values
   (concatenations, slices, transposes) do where an input is computed
   there and none has to wait for the host to finish with the array's results (the levels
   of ``regions``): data does not go back and forth for nothing.

For products, pooling and normalisation that stay on the host though they could follow, the
reason is taken down, which ``inspect`` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

from tvm import IRModule, relax, transform

from motet.passes.fuse import TRANSPOSE, AcceptsEpilogue
from motet.passes.graph import blocks_of, map_functions, use_counts, variables_in
from motet.passes.macs import is_product
from motet.passes.names import ARRAY, names_of, with_names
from motet.passes.op_kinds import Kind, kind_of, op_name
from motet.passes.rewrite import Rewriter
from motet.targets.systolic.from_relax.values import swaps_last_axes

Refusal = Callable[[relax.Call], str | None]
"""Why the array does not take a call, or None where it does."""

Unit = tuple[relax.Call, ...]
"""An anchor, and the calls behind it that it takes in."""


def nothing_follows(_anchor: relax.Call, _next: relax.Call, _so_far: Sequence[relax.Call]) -> bool:
    """No call is taken in behind an anchor."""
    return False


@dataclass(frozen=True)
class Placement:
    """What was decided: ONNX names on the array, and reasons for products that are not.

    unknown: names pinned to the host that no call carries.
    """

    on_array: list[tuple[str, ...]] = field(default_factory=list)
    refused: list[tuple[tuple[str, ...], str]] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def summary(self) -> str:
        """One line for the bundle's record: how many, and each reason with its nodes."""
        by_reason: dict[str, list[str]] = {}
        for names, why in self.refused:
            by_reason.setdefault(why, []).append("+".join(names))
        reasons = "; ".join(f"{why}: {_few(nodes)}" for why, nodes in by_reason.items())
        line = f"{len(self.on_array)} operators on the array, {len(self.refused)} refused"
        return f"{line} ({reasons})" if reasons else line


def _few(nodes: list[str]) -> str:
    """The first ``NAMED`` nodes, and how many more."""
    more = len(nodes) - NAMED
    return ", ".join(nodes[:NAMED]) + (f" and {more} more" if more > 0 else "")


NAMED = 4
"""Nodes that a reason names; a large model may have hundreds."""


VECTOR_WORK = {
    *("relax.nn.max_pool2d", "relax.nn.max_pool1d", "relax.nn.avg_pool2d", "relax.nn.avg_pool1d"),
    *("relax.nn.adaptive_avg_pool2d", "relax.nn.adaptive_avg_pool1d", "relax.mean", "relax.max"),
    *("relax.nn.softmax", "relax.nn.layer_norm"),
}
"""What follows products, beside elementwise work: rule 2."""


MOVES = {"relax.concat", "relax.strided_slice", "relax.image.resize2d", TRANSPOSE}
"""What moves values, and may go along with them: rule 2."""


class _Marker(Rewriter):
    """Marks one function.

    places: each value's level, and whether it is on the array. units: of values there, the
    anchor and what its epilogue takes in up to this value.
    """

    def __init__(
        self,
        refusal: Refusal,
        accepts_epilogue: AcceptsEpilogue,
        pinned: Collection[str],
        placement: Placement,
        seen: set[str],
    ) -> None:
        super().__init__()
        self.refusal = refusal
        self.accepts_epilogue = accepts_epilogue
        self.units: dict[relax.Var, Unit] = {}
        self.uses: Mapping[relax.Var, int] = {}
        self.pinned = frozenset(pinned)
        self.placement = placement
        self.seen = seen
        self.places: dict[relax.Var, tuple[int, bool]] = {}
        self.product_of: dict[relax.Var, relax.Call] = {}

    def function(self, function: relax.Function) -> relax.Function:
        self.product_of = _products_with_transposes(function)
        self.uses = use_counts(function)
        return super().function(function)

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        names = names_of(value)
        self.seen.update(names)
        inputs = [self.places[v] for v in variables_in(value) if v in self.places]
        if kind_of(value) is Kind.VIEW and inputs:
            self.places[variable] = inputs[0]
            return value
        if variable in self.product_of and self.takes(self.product_of[variable]):
            self.places[variable] = max(inputs, default=(0, False))
            return with_names(value, names, ARRAY)
        if not isinstance(value, relax.Call):
            self.settle(variable, inputs, here=False)
            return value
        unit = self.joined(value, names, inputs)
        if unit is not None:
            marked = self.refusal(value) is None
        else:
            marked = self.is_chosen(value, names, inputs)
            unit = (value,) if marked else None
        self.settle(variable, inputs, here=unit is not None)
        if unit is not None:
            self.units[variable] = unit
        return with_names(value, names, ARRAY) if marked else value

    def settle(
        self, variable: relax.Var, inputs: Sequence[tuple[int, bool]], *, here: bool
    ) -> None:
        """Take down where a value is computed, and its level."""
        level = max([int(here), *(at + (there != here) for at, there in inputs)])
        self.places[variable] = level, here

    def takes(self, call: relax.Call) -> bool:
        """Whether the array takes ``call`` and it is not pinned."""
        return self.pinned.isdisjoint(names_of(call)) and self.refusal(call) is None

    def is_chosen(
        self, call: relax.Call, names: tuple[str, ...], inputs: Sequence[tuple[int, bool]]
    ) -> bool:
        """Rules 1 and 2; takes down what was decided."""
        if not is_product(call):
            follows = kind_of(call) is Kind.ELEMENTWISE or op_name(call) in VECTOR_WORK | MOVES
            if not follows or not any(here for _, here in inputs):
                return False
        why = self.refusal(call)
        if not self.pinned.isdisjoint(names):
            why = why or "pinned to the host"
        if why is None and not is_product(call) and _waits_for_host(inputs):
            why = "it waits for what the host computes from the array's results"
        if why is None:
            self.placement.on_array.append(names)
        elif kind_of(call) is not Kind.ELEMENTWISE:
            self.placement.refused.append((names, why))
        return why is None

    def joined(
        self, call: relax.Call, names: tuple[str, ...], inputs: Sequence[tuple[int, bool]]
    ) -> Unit | None:
        """The unit that ``call`` will be a part of, with it; None where there is none."""
        if kind_of(call) is not Kind.ELEMENTWISE or not self.pinned.isdisjoint(names):
            return None
        for variable in dict.fromkeys(variables_in(call)):
            unit = self.units.get(variable)
            if unit is None or self.uses[variable] > 1 or _waits_for_host(inputs):
                continue
            if self.accepts_epilogue(unit[0], call, unit[1:]):
                return (*unit, call)
        return None


def _waits_for_host(inputs: Sequence[tuple[int, bool]]) -> bool:
    """Whether a host input comes later than all that the array computes for the call."""
    ready = max(level for level, here in inputs if here)
    return any(level + 1 > ready for level, here in inputs if not here)


def _products_with_transposes(function: relax.Function) -> dict[relax.Var, relax.Call]:
    """Transposes of the last two axes that only a product reads, as its right side."""
    uses, found = use_counts(function), dict[relax.Var, relax.Call]()
    for block in blocks_of(function):
        own = {b.var: b.value for b in block.bindings if op_name(b.value) == TRANSPOSE}
        for binding in block.bindings:
            if op_name(binding.value) != "relax.matmul":
                continue
            right = binding.value.args[1]
            if right in own and uses[right] == 1 and swaps_last_axes(own[right]):
                found[right] = binding.value
    return found


def place(
    refusal: Refusal,
    pinned_to_host: Collection[str] = (),
    placement: Placement | None = None,
    accepts_epilogue: AcceptsEpilogue = nothing_follows,
) -> transform.Pass:
    """The pass. ``placement`` takes down what it decides.

    accepts_epilogue: what ``fuse`` will take in behind an operator of the array, which then
    is computed there too.
    """
    record = placement if placement is not None else Placement()

    @transform.module_pass(opt_level=0, name="place")
    def run(mod: IRModule, _context: transform.PassContext) -> IRModule:
        seen: set[str] = set()
        placed = map_functions(
            mod,
            lambda f: _Marker(refusal, accepts_epilogue, pinned_to_host, record, seen).function(f),
        )
        record.unknown.extend(name for name in pinned_to_host if name not in seen)
        return placed

    return run
