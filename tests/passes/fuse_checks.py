"""What every fused module must satisfy."""

from __future__ import annotations

from typing import Any

import numpy as np
import tvm
from relax_modules import calls, named, names, units
from tvm import relax
from tvm.ir import GlobalVar

from motet.passes.fuse import fuse
from motet.passes.names import names_of

WEIGHT = np.random.default_rng(0).uniform(-1, 1, (4, 4)).astype("float32")


def checked(before: tvm.IRModule, **more: Any) -> tvm.IRModule:
    """``before`` fused: well formed, every call in one unit, the same values."""
    before = named(before)
    after = fuse(**more)(before)
    assert relax.analysis.check_well_formed(after)
    inside = [call for unit in units(after) for call in calls(unit)]
    assert sorted(names_of(call) for call in inside + views(after)) == sorted(names(before["main"]))
    for unit in units(after):
        assert [str(name) for name in unit.attrs["motet.onnx_nodes"]] == [
            name for call in calls(unit) for name in names_of(call)
        ]
    return after


def views(after: tvm.IRModule) -> list[relax.Call]:
    return [call for call in calls(after["main"]) if not isinstance(call.op, GlobalVar)]
