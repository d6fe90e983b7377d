"""What a specification gives the array to do, without kernels, weights or a bundle.

For ``motet simulate`` and ``motet explore``, which ask for cycles and energy: models are
imported and the passes run, and the regions of the array become workloads. Compiling the
host's kernels, most of a compilation's time, is left out.
"""

from __future__ import annotations

from tvm import IRModule, relax
from tvm.ir import GlobalVar

from motet.compiler.compile import CompileOptions, transformed
from motet.compiler.kernels import region_binding
from motet.compiler.macs import macs_in
from motet.compiler.open_sizes import assumed_shapes, telling, with_shapes
from motet.compiler.spec import BundleSpec
from motet.passes.graph import bindings_of, bytes_of
from motet.passes.names import ARRAY, KIND, ONNX_NODES, OP, TARGET
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
    macs = macs_in(mod, function)
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
    types = [*(parameter.ty for parameter in function.params), function.ret_ty]
    return bytes_of(relax.TupleType(types)) or 0
