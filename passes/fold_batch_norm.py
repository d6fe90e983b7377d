"""Folds scales and shifts per channel into the layer before (exact up to rounding).

A layer is a convolution, transposed convolution or matrix product with constant
weights W. Behind it may come batch-norms with constant parameters, and arithmetic
with constants that have one value per output channel (a bias; batch-norm written out).
As long as nothing else reads what is between, they compose to one scale and shift:

1. layer(x, W) s + t = layer(x, W') + t        with W'[o, ...] = W[o, ...] s[o]
2. any other batch-norm with constant parameters becomes x s + t.

For batch-norm s = gamma / sqrt(variance + epsilon) and t = beta - mean s. Scales are
computed in float64 and rounded once. Layers whose weights are of another type than
their output are left alone, and so are scales with which a weight would overflow.

Source: Jacob et al., CVPR 2018 (arXiv 1712.05877), section 3.2, equation 14.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from tvm import IRModule, relax, transform

from motet.passes.affine import IDENTITY, Affine, of_arithmetic, of_batch_norm
from motet.passes.dead_code import dead_code
from motet.passes.decompose_batch_norm import is_inference_norm
from motet.passes.graph import (
    bindings_of,
    blocks_of,
    constant_array,
    map_functions,
    use_counts,
)
from motet.passes.names import merged_names, with_names
from motet.passes.op_kinds import op_name
from motet.passes.rewrite import Rewriter
from motet.passes.typing import with_type
from motet.runtime.device import Array

# Where the output channels lie in the weights. Transposed convolutions have them
# second, split in groups.
_CONVOLUTIONS = {"relax.nn.conv1d": "OIW", "relax.nn.conv2d": "OIHW", "relax.nn.conv3d": "OIDHW"}
_TRANSPOSED = {
    "relax.nn.conv1d_transpose": "IOW",
    "relax.nn.conv2d_transpose": "IOHW",
    "relax.nn.conv3d_transpose": "IODHW",
}
_LAYOUTS = {**_CONVOLUTIONS, **_TRANSPOSED}


def _is_layer(expr: Any) -> bool:
    """Whether ``expr`` has output channels that scaled weights can scale."""
    name = op_name(expr)
    if name != "relax.matmul" and name not in _LAYOUTS:
        return False
    weight = expr.args[1]
    if constant_array(weight) is None or str(weight.ty.dtype) != str(expr.ty.dtype):
        return False
    if not str(expr.ty.dtype).startswith("float") or expr.ty.shape is None:
        return False
    if name == "relax.matmul":
        return int(weight.ty.ndim) >= 2
    attrs = expr.attrs
    return (
        attrs.kernel_layout == _LAYOUTS[name]
        and attrs.data_layout.startswith("NC")
        and attrs.out_layout in ("", attrs.data_layout)
    )


def _channel_axis(layer: relax.Call) -> int:
    """The output channels' axis: the last of a product, the second of a convolution."""
    return int(layer.ty.ndim) - 1 if op_name(layer) == "relax.matmul" else 1


def _scaled_weights(layer: relax.Call, scale: Array) -> Array | None:
    """The weights with each output channel scaled; None where one would overflow."""
    weights = constant_array(layer.args[1])
    assert weights is not None
    rank, name = weights.ndim, op_name(layer)
    grouped = weights
    if scale.ndim == 1 and name in _CONVOLUTIONS:
        scale = scale.reshape((-1,) + (1,) * (rank - 1))
    elif scale.ndim == 1 and name in _TRANSPOSED:
        groups = int(layer.attrs.groups)
        grouped = weights.reshape((groups, -1, *weights.shape[1:]))
        scale = scale.reshape((groups, 1, -1) + (1,) * (rank - 2))
    with np.errstate(over="ignore"):
        scaled = (grouped * scale).astype(weights.dtype).reshape(weights.shape)
    return scaled if bool(np.isfinite(scaled).all()) else None


@dataclass(frozen=True)
class _Chain:
    """A layer and what scales and shifts its result, as one scale and shift."""

    calls: tuple[relax.Call, ...]
    affine: Affine = IDENTITY

    @property
    def layer(self) -> relax.Call:
        return self.calls[0]

    def then(self, call: relax.Call, affine: Affine) -> _Chain:
        return _Chain((*self.calls, call), self.affine.then(affine))

    @property
    def pays(self) -> bool:
        """Whether folding saves something: a bias alone is as good as it gets."""
        return len(self.calls) > 2 or self.affine.scales


class _Chains:
    """Finds the chains of a function: at their last variable, inside one block."""

    def __init__(self, function: relax.Function) -> None:
        self.uses = use_counts(function)
        items = (b.value for b in bindings_of(function) if isinstance(b.value, relax.TupleGetItem))
        self.items = Counter((item.tuple_value, int(item.index)) for item in items)
        self.norms: dict[relax.Var, relax.Call] = {}
        self.open: dict[relax.Var, _Chain] = {}
        self.found: dict[relax.Var, _Chain] = {}
        for block in blocks_of(function):
            self.open = {}
            for binding in block.bindings:
                self._visit(binding.var, binding.value)
            self.found.update({var: chain for var, chain in self.open.items() if chain.pays})

    def _visit(self, variable: relax.Var, value: relax.Expr) -> None:
        if isinstance(value, relax.TupleGetItem):
            self._norm(variable, value)
        elif _is_layer(value):
            self.open[variable] = _Chain((value,))
        elif is_inference_norm(value):
            self.norms[variable] = value
        elif isinstance(value, relax.Call):
            self._arithmetic(variable, value)

    def _norm(self, variable: relax.Var, item: relax.TupleGetItem) -> None:
        norm = self.norms.get(item.tuple_value)
        if norm is None or item.index != 0 or self.items[item.tuple_value, 0] != 1:
            return
        affine, before = of_batch_norm(norm), self.open.get(norm.args[0])
        rank = int(norm.args[0].ty.ndim)
        if affine is None or before is None:
            return
        if int(norm.attrs.axis) % rank == _channel_axis(before.layer):
            self._extend(variable, norm.args[0], norm, affine)

    def _arithmetic(self, variable: relax.Var, call: relax.Call) -> None:
        for operand in call.args:
            before = self.open.get(operand) if isinstance(operand, relax.Var) else None
            step = of_arithmetic(call, _channel_axis(before.layer)) if before else None
            if step is not None:
                self._extend(variable, operand, call, step)

    def _extend(
        self, variable: relax.Var, before: relax.Var, call: relax.Call, affine: Affine
    ) -> None:
        if self.uses[before] == 1:
            self.open[variable] = self.open.pop(before).then(call, affine)


class _Folder(Rewriter):
    """Puts folded layers where chains end; what they replace is dead afterwards."""

    def __init__(self, function: relax.Function) -> None:
        super().__init__()
        chains = _Chains(function)
        self.chains, self.norms = chains.found, chains.norms

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        chain = self.chains.get(variable)
        weights = _scaled_weights(chain.layer, chain.affine.scale) if chain else None
        if chain is not None and weights is not None:
            return self.folded(chain, weights)
        norm = self.norms.get(value.tuple_value) if isinstance(value, relax.TupleGetItem) else None
        if norm is None:
            return value
        if value.index != 0:
            return self.read(norm.args[2 + value.index])
        affine = of_batch_norm(norm)
        return value if affine is None else self.scaled(norm, affine)

    def folded(self, chain: _Chain, weights: Array) -> relax.Expr:
        layer, names = chain.layer, merged_names(chain.calls)
        operands = [self.read(layer.args[0]), relax.const(weights, weights.dtype.name)]
        product = relax.Call(layer.op, operands, layer.attrs, layer.ty_args)
        product = with_names(with_type(product, layer.ty), names)
        if not chain.affine.shift.any():
            return product
        shift = _along_axis(chain.affine.shift, _channel_axis(layer), layer)
        return with_names(relax.op.add(self.emit(product), shift), names)

    def scaled(self, norm: relax.Call, affine: Affine) -> relax.Expr:
        data, names = self.read(norm.args[0]), merged_names((norm,))
        scale, shift = (
            _along_axis(values, int(norm.attrs.axis), data)
            for values in (affine.scale, affine.shift)
        )
        scaled = self.emit(with_names(relax.op.multiply(data, scale), names))
        return with_names(relax.op.add(scaled, shift), names)


def _along_axis(values: Array, axis: int, like: relax.Expr) -> relax.Expr:
    """A constant that broadcasts ``values`` along ``axis`` of a tensor."""
    shape, dtype = [1] * int(like.ty.ndim), str(like.ty.dtype)
    shape[axis] = -1
    return relax.const(values.reshape(shape).astype(dtype), dtype)


@transform.module_pass(opt_level=0, name="fold_batch_norm")
def fold_batch_norm(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply the rules to every function of ``mod``."""
    folded = map_functions(mod, lambda function: _Folder(function).function(function))
    return dead_code(folded)
