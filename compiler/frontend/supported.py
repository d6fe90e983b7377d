"""One list of all operators of a model that cannot be lowered."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import onnx

from motet.runtime.errors import UnsupportedOperatorError

from .choices import check_choices
from .domains import DEFAULT_DOMAIN, Opsets, domain_of, full_name
from .operators import is_supported
from .places import node_name


def all_nodes(graph: onnx.GraphProto, prefix: str = "") -> Iterator[tuple[str, onnx.NodeProto]]:
    """Every node with the name that the importer uses, branches and loop bodies included."""
    for index, node in enumerate(graph.node):
        name = node_name(node, index, prefix)
        yield name, node
        for attribute in node.attribute:
            for inner in [attribute.g] if attribute.HasField("g") else attribute.graphs:
                yield from all_nodes(inner, f"{name}/")


def unsupported_message(found: list[tuple[str, str]], file: str) -> str:
    """The message for pairs of operator and node name: each operator once, with a count."""
    counts = Counter(operator for operator, _ in found)
    first = dict(reversed(found))
    listed = ", ".join(f"{op} ({n}x, e.g. node '{first[op]}')" for op, n in sorted(counts.items()))
    return f"{file}: operators that cannot be lowered: {listed}"


def unsupported(graph: onnx.GraphProto, opsets: Opsets) -> list[tuple[str, str]]:
    """Operator and node name of every node that cannot be lowered."""
    return [
        (full_name(domain_of(node), node.op_type), name)
        for name, node in all_nodes(graph)
        if not _is_supported(domain_of(node), node.op_type, opsets)
    ]


def _is_supported(domain: str, op_type: str, opsets: Opsets) -> bool:
    return opsets.has(domain) and is_supported(domain, op_type, opsets.version(domain))


def check_supported(graph: onnx.GraphProto, opsets: Opsets, file: str) -> None:
    """Raise one ``UnsupportedOperatorError`` that lists every unsupported operator.

    Raises ``ModelError`` for a string attribute of which the operator knows no such word.
    """
    found = unsupported(graph, opsets)
    if found:
        raise UnsupportedOperatorError(unsupported_message(found, file))
    for name, node in all_nodes(graph):
        if domain_of(node) == DEFAULT_DOMAIN:
            check_choices(node, name, file)
