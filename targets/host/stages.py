"""A unit as a list of stages: what is computed, element by element, without loops.

``LegalizeOps`` and ``FuseTIR`` turn a unit into one function of naive loop nests. Each
nest is read back as a ``Stage``: an output buffer, spatial axes, reduction axes and the
expression of one element. Element-wise stages are then inlined into their consumers, so
what is left is a few stages, each of which a kernel family writes anew as a good nest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tvm import s_tir, tirx
from tvm.ir import Call
from tvm.ir.expr import Var

from motet.targets.host.exprs import loads, rewrite, substitute, walk
from motet.targets.host.loops import Buffer, Expr, constant_of


@dataclass(frozen=True)
class Axis:
    """An iteration variable from 0 to ``extent`` (int64, maybe symbolic)."""

    var: Var
    extent: Expr


@dataclass(frozen=True, eq=False)
class Stage:
    """``output[spatial] = value``, or a reduction of it over ``reduction``.

    For a reduction ``init`` is the start value and ``value`` contains a load of
    ``output`` at the spatial axes. ``attrs`` are those the operator's definition left.
    ``statement`` is set, and the rest empty, for a nest that is not of that form (a sort,
    a scan, a scatter).
    """

    outputs: tuple[Buffer, ...]
    spatial: tuple[Axis, ...] = ()
    reduction: tuple[Axis, ...] = ()
    value: Expr = None
    init: Expr = None
    attrs: Mapping[str, Any] = field(default_factory=dict)
    statement: Any = None

    @property
    def output(self) -> Buffer:
        """The only output."""
        (buffer,) = self.outputs
        return buffer

    @property
    def opaque(self) -> bool:
        """Whether the stage can only run as the statement it came as."""
        return self.statement is not None

    @property
    def injective(self) -> bool:
        """Whether every element is computed by itself."""
        return not self.opaque and not self.reduction


@dataclass(frozen=True, eq=False)
class StagedFunction:
    """A unit's stages in order; ``params`` are its buffers, outputs last."""

    params: tuple[Buffer, ...]
    output_count: int
    stages: tuple[Stage, ...]

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        """The buffers that the caller sees written."""
        return self.params[len(self.params) - self.output_count :]


def _innermost(statement: Any) -> tuple[list[Var], Any]:
    loops = []
    while isinstance(statement, tirx.For):
        loops.append(statement.loop_var)
        statement = statement.body
    return loops, statement


def _writes_at_axes(store: Any, spatial: Sequence[Axis]) -> bool:
    return len(store.indices) == len(spatial) and all(
        (isinstance(i, Var) and i.same_as(a.var)) or constant_of(a.extent) == 1
        for i, a in zip(store.indices, spatial, strict=True)
    )


def _stage_of(nest: Any) -> Stage | None:
    _, realize = _innermost(nest)
    if not isinstance(realize, s_tir.SBlockRealize):
        return None
    block = realize.block
    if not all(isinstance(v, Var | tirx.IntImm) for v in realize.iter_values):
        return None
    if not isinstance(block.body, tirx.BufferStore) or len(block.alloc_buffers):
        return None
    axes = [Axis(iv.var, iv.dom.extent) for iv in block.iter_vars]
    spatial = tuple(a for a, iv in zip(axes, block.iter_vars, strict=True) if iv.iter_type == 0)
    reduction = tuple(a for a, iv in zip(axes, block.iter_vars, strict=True) if iv.iter_type == 2)
    if len(spatial) + len(reduction) != len(axes) or bool(reduction) != (block.init is not None):
        return None
    if not _writes_at_axes(block.body, spatial):
        return None
    return Stage(
        (block.body.buffer,), spatial, reduction, block.body.value,
        block.init.value if block.init is not None else None, dict(block.annotations),
    )  # fmt: skip


def block_of(nest: Any) -> Any:
    """The block inside a loop nest; None where the nest does not hold exactly one."""
    _, realize = _innermost(nest)
    return realize.block if isinstance(realize, s_tir.SBlockRealize) else None


def _written_buffers(nest: Any) -> tuple[Buffer, ...]:
    _, realize = _innermost(nest)
    if not isinstance(realize, s_tir.SBlockRealize):
        return ()
    return tuple(region.source for region in realize.block.writes)


def _opaque_stage(nest: Any) -> Stage:
    block = block_of(nest)
    attrs = {} if block is None else dict(block.annotations)
    return Stage(_written_buffers(nest), attrs=attrs, statement=nest)


def read_stages(func: Any, output_count: int) -> StagedFunction:
    """The stages of a fused function whose last ``output_count`` parameters are outputs."""
    root = func.body.block if isinstance(func.body, s_tir.SBlockRealize) else None
    body = root.body if root is not None else func.body
    nests = list(body) if isinstance(body, tirx.SeqStmt) else [body]
    stages = [_stage_of(nest) or _opaque_stage(nest) for nest in nests]
    return StagedFunction(tuple(func.params), output_count, tuple(stages))


_COSTLY = frozenset(("exp", "erf", "tanh", "sigmoid", "log", "pow", "sqrt", "rsqrt", "sin", "cos"))


def _costly(expr: Expr) -> bool:
    return any(
        isinstance(e, tirx.Div)
        or (isinstance(e, Call) and str(getattr(e.op, "name", "")).rpartition(".")[2] in _COSTLY)
        for e in walk(expr)
    )


def _guarded(expr: Expr) -> bool:
    """Whether ``expr`` branches, as padding does, so that its reader would not vectorise."""
    return any(isinstance(e, Call) and str(e.op.name).endswith("if_then_else") for e in walk(expr))


def inline_into(value: Expr, producer: Stage) -> Expr:
    """``value`` with loads of the producer's output replaced by what it computes."""

    def inlined(expr: Expr) -> Expr | None:
        if not hasattr(expr, "source") or not expr.source.same_as(producer.output):
            return None
        axes = {a.var: i for a, i in zip(producer.spatial, expr.indices, strict=True)}
        return substitute(producer.value, axes)

    return rewrite(value, inlined)


def _reads(stage: Stage, buffer: Buffer) -> bool:
    if stage.opaque:
        return any(
            region.source.same_as(buffer) for region in _innermost(stage.statement)[1].block.reads
        )
    return any(x.source.same_as(buffer) for x in loads(stage.value))


def readers(stages: Sequence[Stage], buffer: Buffer) -> list[Stage]:
    """The stages that read ``buffer``."""
    return [s for s in stages if _reads(s, buffer)]


KEEP = "motet.keep"
"""The attribute of a stage whose result is read many times or gathered: it is not inlined."""

_MOST_NODES = 400
_MOST_REINTERPRETS = 8
"""Of bits as another type, two for each rounding: LLVM's time grows eightfold with each of
these roundings that is nested in another, from 0.04 s at five."""


def _reinterprets(expr: Expr) -> int:
    names = (str(getattr(e.op, "name", "")) for e in walk(expr) if isinstance(e, Call))
    return sum(name.endswith("reinterpret") for name in names)


def _may_inline(stage: Stage, users: Sequence[Stage]) -> bool:
    if KEEP in stage.attrs:
        return False
    if any(u.opaque or "motet.anchor" in u.attrs for u in users):
        return False
    if _costly(stage.value) and (len(users) > 1 or users[0].reduction):
        return False
    if _guarded(stage.value) and users[0].reduction:
        return False
    bits = _reinterprets(stage.value)
    if bits and any(bits + _reinterprets(u.value) > _MOST_REINTERPRETS for u in users):
        return False
    size = len(walk(stage.value))
    uses = [sum(x.source.same_as(stage.output) for x in loads(u.value)) for u in users]
    return bool(max(uses) * size <= _MOST_NODES)


def inline_injective(func: StagedFunction) -> StagedFunction:
    """Inlines element-wise stages into the stages that read them.

    Not where it would compute a costly expression more than once, and never into an
    operator with a kernel of its own, which reads memory.
    """
    stages = list(func.stages)
    for buffer in [s.output for s in stages if s.injective]:
        stage = next(s for s in stages if s.injective and s.output.same_as(buffer))
        users = [s for s in readers(stages, buffer) if s is not stage]
        is_output = any(buffer.same_as(b) for b in func.outputs)
        if is_output or not users or not _may_inline(stage, users):
            continue
        stages = [
            replace(s, value=inline_into(s.value, stage)) if s in users else s
            for s in stages
            if s is not stage
        ]
    return replace(func, stages=tuple(stages))
