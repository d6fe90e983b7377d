"""What a kernel family gives back for an anchor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from motet.targets.host.kernels.operand import Packing
from motet.targets.host.loops import Buffer, Stmt
from motet.targets.host.stages import Stage


@dataclass(frozen=True, eq=False)
class EmittedAnchor:
    """The statement of an anchor, the stages it makes superfluous, and re-laid weights.

    outputs: what the statement fills.
    repacked: parameter to (its packed form as the kernel reads it, how to pack it).
    beside: parameter to other constants that its packing reads, in order behind it.
    """

    statement: Stmt
    outputs: tuple[Buffer, ...]
    consumed: tuple[Stage, ...]
    repacked: Mapping[Buffer, tuple[Buffer, Packing]] = field(default_factory=dict)
    beside: Mapping[Buffer, tuple[Buffer, ...]] = field(default_factory=dict)
