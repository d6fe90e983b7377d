"""ONNX node names and target on Relax calls: what survives every pass.

A call carries the names of the ONNX nodes it came from in its span (TVM's own
passes copy spans), and after placement its target. A value fused or merged from
several nodes carries all their names, in graph order, without repeats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache

from tvm import relax
from tvm.ir import SourceName, Span

from motet.passes.typing import with_type

HOST = "host"
ARRAY = "array"

OP, KIND = "motet.op", "motet.kind"
ONNX_NODES, TARGET = "motet.onnx_nodes", "motet.target"
STAGE = "motet.stage"
"""Of a unit that runs beside others: stage and group, as "3/0"."""
UNIT_MARKS = (OP, KIND, ONNX_NODES, TARGET, STAGE)
"""Attributes by which an outlined unit says who it is; ``fuse`` has their meaning."""

WEIGHTS = "motet.weights"
"""Attribute of a region: its parameters whose values are known when compiling."""


def span_of(names: Iterable[str], target: str = HOST) -> Span:
    """A span that carries ``names``, repeats removed, and ``target``."""
    marks = {"nodes": list(dict.fromkeys(names)), "target": target}
    return Span(SourceName(json.dumps(marks)), 0, 0, 0, 0)


def _marks(expr: relax.Expr) -> Mapping[str, object]:
    span = expr.span
    if span is None or not isinstance(span, Span):
        return {}
    return _parsed(str(span.source_name.name))


@lru_cache(maxsize=1 << 14)
def _parsed(text: str) -> Mapping[str, object]:
    return dict(json.loads(text)) if text.startswith("{") else {}


def names_of(expr: relax.Expr) -> tuple[str, ...]:
    """ONNX node names that ``expr`` carries; empty where it carries none."""
    nodes = _marks(expr).get("nodes", [])
    assert isinstance(nodes, list)
    return tuple(nodes)


def target_of(expr: relax.Expr) -> str:
    """``"array"`` where placement chose it, else ``"host"``."""
    return str(_marks(expr).get("target", HOST))


def merged_names(exprs: Iterable[relax.Expr]) -> tuple[str, ...]:
    """The names of several expressions, in order, without repeats."""
    return tuple(dict.fromkeys(name for expr in exprs for name in names_of(expr)))


def with_names(call: relax.Call, names: Iterable[str], target: str = HOST) -> relax.Call:
    """The same call with ``names`` as its ONNX node names (type info is kept)."""
    named = relax.Call(call.op, call.args, call.attrs, call.ty_args, span_of(names, target))
    return with_type(named, call.ty)
