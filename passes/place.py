"""Placement: which operators run on the array; what it does not take, the host runs.

Every convolution and matrix product that the array accepts is marked for it, unless
one of its ONNX nodes is pinned to the host. For the others the reason is taken down,
which ``inspect`` shows.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tvm import IRModule, relax, transform

from motet.passes.graph import map_functions
from motet.passes.macs import is_product
from motet.passes.names import ARRAY, names_of, with_names
from motet.passes.rewrite import Rewriter

Refusal = Callable[[relax.Call], str | None]
"""Why the array does not take a call, or None where it does."""


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


class _Marker(Rewriter):
    def __init__(
        self, refusal: Refusal, pinned: Collection[str], placement: Placement, seen: set[str]
    ) -> None:
        super().__init__()
        self.refusal = refusal
        self.pinned = frozenset(pinned)
        self.placement = placement
        self.seen = seen

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        names = names_of(value)
        self.seen.update(names)
        if not is_product(value):
            return value
        why = self.refusal(value)
        if why is None and self.pinned.isdisjoint(names):
            self.placement.on_array.append(names)
            return with_names(value, names, ARRAY)
        self.placement.refused.append((names, why or "pinned to the host"))
        return value


def place(
    refusal: Refusal, pinned_to_host: Collection[str] = (), placement: Placement | None = None
) -> transform.Pass:
    """The pass. ``placement`` takes down what it decides."""
    record = placement if placement is not None else Placement()

    @transform.module_pass(opt_level=0, name="place")
    def run(mod: IRModule, _context: transform.PassContext) -> IRModule:
        seen: set[str] = set()
        placed = map_functions(
            mod, lambda f: _Marker(refusal, pinned_to_host, record, seen).function(f)
        )
        record.unknown.extend(name for name in pinned_to_host if name not in seen)
        return placed

    return run
