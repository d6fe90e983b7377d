"""Operator domains, and the versions of their operator sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx

from motet.runtime.errors import ModelError

DEFAULT_DOMAIN = ""


def domain_of(node: onnx.NodeProto) -> str:
    """The node's operator domain; ``""`` is the default one, which also has a long name."""
    return _short(node.domain)


def full_name(domain: str, op_type: str) -> str:
    """How messages call an operator: ``com.microsoft::FusedConv``, or just ``Conv``."""
    return f"{domain}::{op_type}" if domain else op_type


def _short(domain: str) -> str:
    return DEFAULT_DOMAIN if domain == "ai.onnx" else domain


class Opsets:
    """Versions of the operator sets that a graph, or a function body, is written in."""

    def __init__(self, versions: Mapping[str, int]) -> None:
        self._versions = dict(versions)

    def updated(self, imports: Iterable[onnx.OperatorSetIdProto]) -> Opsets:
        """With what a model or function imports."""
        return Opsets(self._versions | {_short(e.domain): e.version for e in imports})

    def has(self, domain: str) -> bool:
        """Whether ``domain`` is imported."""
        return domain in self._versions

    @property
    def versions(self) -> Mapping[str, int]:
        """The version of every domain that is imported."""
        return self._versions

    @property
    def default(self) -> int:
        """Version of the default operator set."""
        return self.version(DEFAULT_DOMAIN)

    def version(self, domain: str) -> int:
        """Version of ``domain``'s operators; raises ``ModelError`` where it is not imported."""
        if domain not in self._versions:
            raise ModelError(f"operators of '{domain}' are used but the domain is not imported")
        return self._versions[domain]
