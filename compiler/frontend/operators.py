"""Which operators the front end converts, and how: by operator domain and type.

A converter takes a ``Node`` and returns a Relax expression, a value, or a list of them,
one per output. Those of the default domain lie in ``converters/``, one family per file;
other domains have a package each below it. Before them come those that users register, beside
them TVM's own, for what it converts well, and the function bodies that onnx defines.
"""

from __future__ import annotations

from . import functions, tvm_converters
from .converters import CONVERTERS, Convert
from .domains import DEFAULT_DOMAIN
from .registry import user_converter

# Operators that the importer itself handles: they hold graphs, or compute on shapes.
_IMPORTER = frozenset({"Constant", "Shape", "Size", "If", "Loop", "Scan", "SequenceMap"})
_MAX_DEPTH = 4


def converter_of(domain: str, op_type: str, version: int) -> Convert | None:
    """The converter of an operator; None where its function body has to do, or nothing.

    version: of the domain's operator set; users' converters may differ by it.
    """
    found = user_converter(domain, op_type, version) or CONVERTERS.get((domain, op_type))
    if found is None and domain == DEFAULT_DOMAIN and op_type in tvm_converters.USABLE:
        return tvm_converters.convert
    return found


def is_supported(domain: str, op_type: str, opset: int, depth: int = 0) -> bool:
    """Whether some way to convert the operator exists (some uses may still be refused)."""
    if converter_of(domain, op_type, opset) is not None:
        return True
    if domain == DEFAULT_DOMAIN and op_type in _IMPORTER:
        return True
    if depth > _MAX_DEPTH or not functions.has_body(domain, op_type, opset):
        return False
    return all(
        is_supported(*inner, opset, depth + 1)
        for inner in functions.body_operators(domain, op_type, opset)
    )
