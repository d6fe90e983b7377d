"""What a specification gives the array to do, without kernels, weights or a bundle.

For ``motet simulate`` and ``motet explore``, which ask for cycles and energy: models are
imported and the passes run, and the regions of the array become workloads. Compiling the
host's kernels, most of a compilation's time, is left out.
"""

from __future__ import annotations

import math

import numpy as np
from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.compiler.compile import CompileOptions, transformed
from motet.compiler.dimensions import added, dimension_of, shape_of
from motet.compiler.kernels import region_binding
from motet.compiler.open_sizes import assumed_shapes, telling, with_shapes
from motet.compiler.spec import BundleSpec
from motet.passes.graph import bindings_of
from motet.passes.macs import macs_of
from motet.passes.names import ARRAY, KIND, ONNX_NODES, OP, TARGET
from motet.runtime.shapes import Dimension, is_static
from motet.targets.systolic.workload.work import ModelWork, Stage


def array_work(spec: BundleSpec, options: CompileOptions | None = None) -> list[ModelWork]:
    """The models of ``spec`` as stages; it must be for an array.

    Array programs have static shapes: sizes that the models and ``spec`` leave open are taken
    as 1, and ``ModelWork.assumed`` says which. Raises what ``compile_bundle`` raises before it
    makes kernels.
    """
    options = options or CompileOptions()
    done = transformed(spec, options)
    assumed = assumed_shapes(done.models)
    if any(assumed.values()):
        with telling(assumed):
            done = transformed(with_shapes(spec, assumed), options)
    placement = next((r.summary for r in done.records if r.name == "place"), "")
    return [
        ModelWork(
            model.name,
            tuple(_stages(done.module, model.name)),
            placement,
            assumed[model.name],
        )
        for model in done.models
    ]


def _stages(mod: IRModule, model: str) -> list[Stage]:
    calls = [
        mod[binding.value.op]
        for binding in bindings_of(mod[model])
        if isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)
    ]
    return [_stage(mod, function) for function in calls]


def _stage(mod: IRModule, function: relax.Function) -> Stage:
    attrs = function.attrs
    on_array = attrs[TARGET] == ARRAY
    macs = _macs(mod, function)
    return Stage(
        str(attrs[OP]),
        str(attrs[KIND]),
        tuple(str(name) for name in attrs[ONNX_NODES]),
        macs if isinstance(macs, int) else 0,
        region_binding(mod, function).workload if on_array else None,
        bytes=0 if on_array else _bytes(function),
    )


def _bytes(function: relax.Function) -> int:
    """Bytes of a unit's operands and results; 0 where a size is open."""
    result = function.ret_ty
    results = list(result.fields) if isinstance(result, relax.TupleType) else [result]
    total = 0
    for kind in [*(parameter.ty for parameter in function.params), *results]:
        if isinstance(kind, relax.TensorType):
            sizes = getattr(kind.shape, "values", None)
            if sizes is None or not is_static(shape_of(kind)):
                return 0
            elements = math.prod(int(size) for size in sizes)
            total += elements * int(np.dtype(str(kind.dtype)).itemsize)
    return total


def _macs(mod: IRModule, function: relax.Function) -> Dimension:
    """Multiply-accumulates of a unit, or of all units of a region."""
    total: Dimension = 0
    for binding in bindings_of(function):
        call = binding.value
        if isinstance(call, relax.Call) and isinstance(call.op, GlobalVar):
            total = added(total, _macs(mod, mod[call.op]))
        elif isinstance(call, relax.Call):
            total = added(total, dimension_of(macs_of(call)))
    return total
