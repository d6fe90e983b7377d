"""Turns float operators between dequantisation and quantisation into integer arithmetic.

Quantised models are often written as float operators with a pair QuantizeLinear,
DequantizeLinear around each tensor. What stands between takes the form of the QLinear
operators (``compiler/frontend/converters/quantization``), as in onnxruntime, whose order of
roundings this follows:

1. A convolution or matrix product of a tensor with one scale by constant weights with one
   scale (or one an output channel) and zero points, a bias in int32 with the product of both
   scales, and a ReLU or clip: int32 sums of centred integers, then one factor
   ``x_scale * w_scale / y_scale``, one rounding. With a bias in float32, or no quantisation
   behind: the same sums, then one factor ``x_scale * w_scale``, and float32 from there.
   A depthwise convolution, which sums over one channel, may also have an input with a scale
   (and zero point) per channel; a matrix product may have two computed operands. Views and
   transpositions of what is dequantised move its integers. Sums that int32 might not hold stay
   float.
2. A sum of two tensors: ``a ra + (b rb + (zc - (ra za + rb zb)))`` with ``ra = sa / sc``.
3. A mean over the plane: an int32 sum and one factor ``x_scale / (y_scale * n)``.
4. A maximum pooling, reshape, flatten, transposition or concatenation whose operands and
   result have equal scales and zero points: the same of the integers.

Float sums of products round after every addition, integer ones never: results may differ by
one step where the float sum fell on the other side of a half. Values that others read as
well stay as they are. Exact up to that rounding (Jacob et al., CVPR 2018, section 2.2).
"""

from __future__ import annotations

from dataclasses import replace

from tvm import IRModule, relax, transform

from motet.passes.dead_code import dead_code
from motet.passes.graph import definitions, map_functions, use_counts
from motet.passes.names import merged_names, names_of, with_names
from motet.passes.op_kinds import op_name
from motet.passes.quantized_forms import (
    Bias,
    Scaled,
    Weights,
    bias_of,
    by_channel_of,
    dequantized_of,
    fits_int32,
    ratio,
    scaled_result,
    weights_of,
)
from motet.passes.rewrite import Rewriter

_PRODUCTS = frozenset(("relax.nn.conv1d", "relax.nn.conv2d", "relax.nn.conv3d", "relax.matmul"))
_ALIKE = frozenset(
    ("relax.reshape", "relax.permute_dims", "relax.nn.max_pool2d", "relax.concat",
     "relax.expand_dims", "relax.squeeze", "relax.flatten", "relax.nn.batch_flatten")
)  # fmt: skip
_MOVES = _ALIKE - {"relax.nn.max_pool2d", "relax.concat"}
_BOUNDS = frozenset(("relax.nn.relu", "relax.clip"))


class _Joiner(Rewriter):
    """Rewrites every quantisation whose operand can be computed in integers."""

    def __init__(self, function: relax.Function) -> None:
        super().__init__()
        self.values, self.uses = definitions(function), use_counts(function)
        self.calls: list[relax.Call] = []

    def value(self, variable: relax.Var, value: relax.Expr) -> relax.Expr:
        result = scaled_result(value)
        if result is None:
            return self.real_product(value)
        self.calls = [value]
        made = self.joined(self.alone(value.args[0]), result)
        if made is None:
            return value
        return with_names(self._builder.normalize(made), self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Of all ONNX nodes that became one chain of integers."""
        return merged_names(reversed(self.calls))

    def made(self, call: relax.Call) -> relax.Var:
        """``call`` bound, under the names of the chain."""
        return self.emit(with_names(call, self.names))

    def call_of(self, expr: relax.Expr) -> relax.Call | None:
        """The call that a variable of the function is bound to."""
        value = self.values.get(expr) if isinstance(expr, relax.Var) else None
        return value if isinstance(value, relax.Call) else None

    def alone(self, expr: relax.Expr) -> relax.Call | None:
        """The call behind a variable that is read once."""
        call = self.call_of(expr)
        return call if call is not None and self.uses[expr] == 1 else None

    def scaled(self, expr: relax.Expr) -> Scaled | None:
        """The integers that a variable is the dequantisation of, whatever moved them since."""
        call = self.call_of(expr)
        if call is not None and op_name(call) in _MOVES:
            below = self.scaled(call.args[0])
            return None if below is None else self.moved(call, below)
        found = dequantized_of(call)
        return None if found is None else replace(found, integers=self.read(found.integers))

    def moved(self, call: relax.Call, below: Scaled) -> Scaled:
        """The integers of ``below`` as ``call`` moves them."""
        moved = relax.Call(call.op, [below.integers, *call.args[1:]], call.attrs, call.ty_args)
        named = with_names(self._builder.normalize(moved), names_of(call))
        return replace(below, integers=self.emit(named))

    def operands(self, product: relax.Call) -> tuple[Scaled | None, Weights | None]:
        """What ``product`` multiplies, where integers can; else None for one of them."""
        x, weights = self.data(product), self.weights(product)
        if x is not None and weights is not None and not fits_int32(product, x, weights):
            return None, None
        return x, weights

    def data(self, product: relax.Call) -> Scaled | None:
        """The integers that a product's left operand is the dequantisation of."""
        one = self.scaled(product.args[0])
        if one is not None:
            return one
        found = by_channel_of(self.call_of(product.args[0]), product)
        return None if found is None else replace(found, integers=self.read(found.integers))

    def weights(self, product: relax.Call) -> Weights | None:
        """Those of a product's right operand; computed ones only of a matrix product."""
        found = weights_of(product, self.call_of)
        if found is not None or op_name(product) != "relax.matmul":
            return found
        computed = self.scaled(product.args[1])
        return None if computed is None else Weights(computed, computed.scale)

    def joined(self, call: relax.Call | None, result: Scaled) -> relax.Call | None:
        """The integer form of quantising ``call``; None where there is none."""
        if call is None:
            return None
        self.calls.append(call)
        name = op_name(call)
        if name in _ALIKE:
            return self.alike(call, result)
        if name == "relax.mean":
            return self.mean(call, result)
        if name == "relax.add":
            added = self.sum(call, result)
            if added is not None:
                return added
        return self.product(call, result)

    def product(self, call: relax.Call, result: Scaled) -> relax.Call | None:
        """Rule 1."""
        bound, biased, product = self.parts_of(call)
        if product is None:
            return None
        x, weights = self.operands(product)
        if x is None or weights is None:
            return None
        bias = Bias.none() if biased is None else bias_of(biased, product, x, weights, self.call_of)
        if bias is None:
            return None
        sums = self.made(self.sums(product, x, weights))
        if bias.values is not None:
            sums = self.made(relax.op.add(sums, relax.const(bias.values)))
        real = self.made(relax.op.astype(sums, "float32"))
        real = self.made(relax.op.multiply(real, relax.const(weights.factor(x, result))))
        if bound is not None:
            real = self.made(self.bounded(bound, real, result))
        return result.rounded(real)

    def real_product(self, value: relax.Expr) -> relax.Expr:
        """Rule 1 without a quantisation behind; where one joins it, this is not read."""
        if op_name(value) not in _PRODUCTS or str(value.ty.dtype) != "float32":
            return value
        x, weights = self.operands(value)
        if x is None or weights is None:
            return value
        self.calls = [value]
        real = self.made(relax.op.astype(self.made(self.sums(value, x, weights)), "float32"))
        made = relax.op.multiply(real, relax.const(weights.worth(x)))
        return with_names(self._builder.normalize(made), self.names)

    def parts_of(
        self, call: relax.Call
    ) -> tuple[relax.Call | None, relax.Call | None, relax.Call | None]:
        """Bound, addition of a bias, and product, from the end; None for what there is not."""
        bound = biased = None
        step: relax.Call | None = call
        if step is not None and op_name(step) in _BOUNDS:
            bound, step = step, self.alone(step.args[0])
        if step is not None and op_name(step) == "relax.add":
            biased = step
            for side in biased.args:
                step = self.alone(side)
                if op_name(step) in _PRODUCTS:
                    break
        self.calls += [c for c in (biased, step) if c is not None and c not in self.calls]
        return bound, biased, step if op_name(step) in _PRODUCTS else None

    def sums(self, product: relax.Call, x: Scaled, weights: Weights) -> relax.Call:
        """The product of centred integers."""
        data, right = self.centred(x), weights.values
        held = self.centred(right) if isinstance(right, Scaled) else relax.const(right)
        if op_name(product) == "relax.matmul":
            return relax.op.matmul(data, held, out_dtype="int32")
        attrs = product.attrs
        convolve = getattr(relax.op.nn, op_name(product).rpartition(".")[2])
        return convolve(
            data, held, attrs.strides, attrs.padding, attrs.dilation,
            int(attrs.groups), attrs.data_layout, attrs.kernel_layout, attrs.out_layout, "int32",
        )  # fmt: skip

    def centred(self, x: Scaled) -> relax.Expr:
        """Integers without their zero point: in int16 where there is one."""
        if not x.zero.any():
            return x.integers
        wide = self.made(relax.op.astype(x.integers, "int16"))
        return self.made(relax.op.subtract(wide, relax.const(x.zero)))

    def bounded(self, bound: relax.Call, real: relax.Var, result: Scaled) -> relax.Call:
        """A ReLU or clip in units of the result's scale."""
        if op_name(bound) == "relax.nn.relu":
            return relax.op.nn.relu(real)
        low, high = (float(limit.value) / float(result.scale) for limit in bound.args[1:])
        return relax.op.clip(real, low, high)

    def sum(self, call: relax.Call, result: Scaled) -> relax.Call | None:
        """Rule 2."""
        a, b = (self.scaled(side) for side in call.args)
        if a is None or b is None:
            return None
        ra, rb = ratio(a.scale, result.scale), ratio(b.scale, result.scale)
        fixed = result.zero_float - (ra * a.zero_float + rb * b.zero_float)
        left, right = (
            self.made(
                relax.op.multiply(
                    self.made(relax.op.astype(side.integers, "float32")), relax.const(factor)
                )
            )
            for side, factor in ((a, ra), (b, rb))
        )
        shifted = self.made(relax.op.add(right, relax.const(fixed)))
        return result.unshifted().rounded(self.made(relax.op.add(left, shifted)))

    def mean(self, call: relax.Call, result: Scaled) -> relax.Call | None:
        """Rule 3."""
        x = self.scaled(call.args[0])
        rank, axes = int(call.args[0].ty.ndim), call.attrs.axis
        if x is None or axes is None or rank < 3:
            return None
        if sorted(int(a) % rank for a in axes) != list(range(2, rank)):
            return None
        extents = call.args[0].ty.shape.values[2:]
        counted = [int(d.value) for d in extents if hasattr(d, "value")]
        if len(counted) < rank - 2:
            return None
        wide = self.made(relax.op.astype(self.centred(x), "int32"))
        sums = self.made(relax.op.sum(wide, axes, bool(call.attrs.keepdims)))
        factor = x.mean_factor(result, counted)
        real = self.made(relax.op.astype(sums, "float32"))
        return result.rounded(self.made(relax.op.multiply(real, relax.const(factor))))

    def alike(self, call: relax.Call, result: Scaled) -> relax.Call | None:
        """Rule 4."""
        first, *rest = call.args
        parts = list(first) if isinstance(first, relax.Tuple) else [first]
        held = [self.scaled(part) for part in parts]
        integers = [part.integers for part in held if part is not None and part.same(result)]
        if len(integers) < len(parts):
            return None
        data = relax.Tuple(integers) if isinstance(first, relax.Tuple) else integers[0]
        return relax.Call(call.op, [data, *rest], call.attrs, call.ty_args)


@transform.module_pass(opt_level=0, name="join_quantized")
def join_quantized(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply to every function of ``mod``."""

    def joined(function: relax.Function) -> relax.Function:
        return _Joiner(function).function(function)

    return dead_code(map_functions(mod, joined))
