"""A machine as TVM's target."""

from __future__ import annotations

from typing import Any

import tvm

from motet.targets.host.machine import Machine


def tvm_target(machine: Machine) -> tvm.target.Target:
    """The LLVM target of ``machine``; the name of the CPU is what turns vectors on."""
    fields: dict[str, Any] = {
        "kind": "llvm",
        "mtriple": f"{machine.arch}-unknown-linux-gnu",
        "mcpu": machine.mcpu,
        "num-cores": machine.cores,
    }
    if machine.extensions:
        fields["mattr"] = [f"+{name}" for name in machine.extensions]
    target = tvm.target.Target(fields)
    return target.with_host(target)
