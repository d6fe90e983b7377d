"""What is done to each element of an anchor's result before it is stored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from motet.targets.host.exprs import is_axis, loads, rewrite, same_expr, substitute
from motet.targets.host.loops import Buffer, Expr, Stmt, constant_of, store
from motet.targets.host.stages import Stage, StagedFunction, readers


@dataclass(frozen=True, eq=False)
class Epilogue:
    """Where the accumulators of ``anchor`` go: through ``stage``, or as they are."""

    anchor: Stage
    stage: Stage | None

    @property
    def output(self) -> Buffer:
        """The buffer that is written."""
        return (self.stage or self.anchor).output

    def write(self, accumulator: Expr, at: Sequence[Expr]) -> Stmt:
        """Stores the element at ``at``, whose accumulated value is given."""
        if self.stage is None:
            return store(self.output, accumulator, *at)
        source = self.anchor.output

        def accumulated(e: Expr) -> Expr | None:
            return accumulator if hasattr(e, "source") and e.source.same_as(source) else None

        axes = {a.var: i for a, i in zip(self.stage.spatial, at, strict=True)}
        value = substitute(self.stage.value, axes)
        return store(self.output, rewrite(value, accumulated), *at)


def _reads_same_element(stage: Stage, anchor: Stage) -> bool:
    if len(stage.spatial) != len(anchor.spatial):
        return False
    equal = same_expr
    if not all(
        equal(a.extent, b.extent) for a, b in zip(stage.spatial, anchor.spatial, strict=True)
    ):
        return False
    return all(
        is_axis(i, a.var) or constant_of(a.extent) == 1
        for x in loads(stage.value)
        if x.source.same_as(anchor.output)
        for i, a in zip(x.indices, stage.spatial, strict=True)
    )


def find_epilogue(anchor: Stage, func: StagedFunction) -> Epilogue:
    """The element-wise stage that alone reads the anchor's result, where it can be fused."""
    users = readers(func.stages, anchor.output)
    users = [u for u in users if u is not anchor]
    is_output = any(anchor.output.same_as(b) for b in func.outputs)
    if is_output or len(users) != 1:
        return Epilogue(anchor, None)
    user = users[0]
    later = {id(s) for s in func.stages[func.stages.index(anchor) + 1 : func.stages.index(user)]}
    produced = [s for s in func.stages if id(s) in later]
    if not user.injective or "motet.role" in user.attrs or not _reads_same_element(user, anchor):
        return Epilogue(anchor, None)
    if any(x.source.same_as(b) for s in produced for b in s.outputs for x in loads(user.value)):
        return Epilogue(anchor, None)
    return Epilogue(anchor, user)
