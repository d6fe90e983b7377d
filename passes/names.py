"""ONNX node names on Relax calls: how operator identity survives every pass.

A call carries the names of the ONNX nodes it came from in its span (TVM's own
passes copy spans). A value fused or merged from several nodes carries all their
names, in graph order, without repeats.
"""

from __future__ import annotations

import json
from collections.abc import Iterable

from tvm import relax
from tvm.ir import SourceName, Span


def span_of(names: Iterable[str]) -> Span:
    """A span that carries ``names``, repeats removed."""
    return Span(SourceName(json.dumps(list(dict.fromkeys(names)))), 0, 0, 0, 0)


def names_of(expr: relax.Expr) -> tuple[str, ...]:
    """ONNX node names that ``expr`` carries; empty where it carries none."""
    span = expr.span
    if span is None or not isinstance(span, Span):
        return ()
    text = str(span.source_name.name)
    return tuple(json.loads(text)) if text.startswith("[") else ()


def merged_names(exprs: Iterable[relax.Expr]) -> tuple[str, ...]:
    """The names of several expressions, in order, without repeats."""
    return tuple(dict.fromkeys(name for expr in exprs for name in names_of(expr)))


def with_names(call: relax.Call, names: Iterable[str]) -> relax.Call:
    """The same call with ``names`` as its ONNX node names (type info is kept)."""
    named = relax.Call(call.op, call.args, call.attrs, call.ty_args, span_of(names))
    if call.ty is not None:
        relax.expr._update_type(named, call.ty)
    return named
