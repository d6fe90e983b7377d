"""What a workload computes, in plain numpy and fp64: the truth that tests compare with."""

from __future__ import annotations

import math

import numpy as np

from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.instructions.program import Role
from motet.targets.systolic.workload.layers import (
    Convolution,
    Elementwise,
    LayerNorm,
    MatrixProduct,
    Pooling,
    Softmax,
)
from motet.targets.systolic.workload.moves import Concat, Permute, Slice, Upsample

ACTIVATIONS = {
    Activation.NONE: lambda x, alpha: x,
    Activation.SIGMOID: lambda x, alpha: 1 / (1 + np.exp(-x)),
    Activation.TANH: lambda x, alpha: np.tanh(x),
    Activation.ERF: lambda x, alpha: np.vectorize(math.erf)(x),
    Activation.GELU: lambda x, alpha: x * (1 + np.vectorize(math.erf)(x / 2**0.5)) / 2,
    Activation.GELU_TANH: lambda x, alpha: (
        x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))) / 2
    ),
    Activation.SILU: lambda x, alpha: x / (1 + np.exp(-x)),
    Activation.LEAKY_RELU: lambda x, alpha: np.where(x > 0, x, alpha * x),
    Activation.EXP: lambda x, alpha: np.exp(x),
    Activation.SQRT: lambda x, alpha: np.sqrt(x),
    Activation.RSQRT: lambda x, alpha: 1 / np.sqrt(x),
    Activation.ABS: lambda x, alpha: np.abs(x),
    Activation.NEGATE: lambda x, alpha: -x,
}


def evaluate(workload, arguments):
    """The OUTPUT tensors in order; ``arguments`` feed the INPUT and WEIGHT tensors in order."""
    given = iter(arguments)
    values = {}
    for number, tensor in enumerate(workload.tensors):
        if tensor.role in (Role.INPUT, Role.WEIGHT):
            values[number] = np.asarray(next(given), np.float64).reshape(tensor.shape)
    assert next(given, None) is None
    parts = {part.tensor: part for part in workload.parts}
    for step in workload.steps:
        for number in step.reads:
            if number in parts:
                values[number] = stretch(workload, values, parts[number])
        made = layer_values(step.layer, [values[number] for number in step.inputs])
        made = with_epilogue(step, made.reshape(step.layer.output_shape), values)
        if step.output in parts:
            stretch(workload, values, parts[step.output])[...] = made.reshape(
                workload.tensors[step.output].shape
            )
        else:
            values[step.output] = made.reshape(workload.tensors[step.output].shape)
    return [values[i] for i, t in enumerate(workload.tensors) if t.role is Role.OUTPUT]


def stretch(workload, values, part):
    """The values of a part, in its whole."""
    shape = workload.tensors[part.tensor].shape
    whole = values.setdefault(part.whole, np.zeros(workload.tensors[part.whole].shape))
    return whole.reshape(-1)[part.offset : part.offset + math.prod(shape)].reshape(shape)


def with_epilogue(step, value, values):
    end = step.epilogue
    if end.bias is not None:
        is_row = isinstance(step.layer, MatrixProduct)
        shape = (-1,) if is_row else (-1, 1, 1)
        value = value + values[end.bias].reshape(shape)
    if end.residual is not None:
        value = value + values[end.residual].reshape(value.shape)
    value = ACTIVATIONS[end.activation](value, end.alpha)
    return value if end.clamp is None else np.clip(value, *end.clamp)


def layer_values(layer, inputs):
    if isinstance(layer, Convolution):
        weight = inputs[1].reshape(layer.weight_shape)
        return convolution(layer, inputs[0].reshape(layer.input_shape), weight)
    if isinstance(layer, MatrixProduct):
        left, right = inputs[0].reshape(layer.input_shape), inputs[1].reshape(layer.weight_shape)
        return left @ (right.swapaxes(-1, -2) if layer.rhs_transposed else right)
    if isinstance(layer, Pooling):
        return pooling(layer, inputs[0].reshape(layer.input_shape))
    if isinstance(layer, Elementwise):
        return elementwise(layer, inputs)
    if isinstance(layer, Permute):
        return inputs[0].reshape(layer.shape).transpose(layer.axes)
    if isinstance(layer, Concat):
        return np.concatenate(
            [x.reshape(s) for x, s in zip(inputs, layer.input_shapes, strict=True)], axis=1
        )
    if isinstance(layer, Slice):
        cuts = zip(layer.begins, layer.lengths, layer.steps, strict=True)
        return inputs[0].reshape(layer.shape)[np.ix_(*(b + np.arange(n) * s for b, n, s in cuts))]
    if isinstance(layer, Upsample):
        rows = inputs[0].reshape(*layer.input_shapes[0]).repeat(layer.factors[0], axis=1)
        return rows.repeat(layer.factors[1], axis=2)
    if isinstance(layer, Softmax):
        rows = inputs[0].reshape(layer.output_shape)
        powers = np.exp(rows - rows.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)
    if isinstance(layer, LayerNorm):
        rows = inputs[0].reshape(layer.output_shape)
        centred = rows - rows.mean(axis=1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + layer.epsilon)
        scaled = scaled * inputs[1].reshape(-1)
        return scaled + inputs[2].reshape(-1) if layer.shifted else scaled
    return transposed(layer, inputs[0].reshape(layer.input_shape), inputs[1])


def elementwise(layer, inputs):
    value = inputs[0].reshape(layer.shape)
    if layer.kind == "identity":
        return value
    other = inputs[1].reshape((-1,) if layer.vector else layer.shape)
    return {"add": np.add, "multiply": np.multiply, "maximum": np.maximum}[layer.kind](value, other)


def taps(layer, padded):
    """For every kernel position, the values that it meets: [batch, channels, out_y, out_x]."""
    height, width = layer.out_size
    for y in range(layer.kernel[0]):
        for x in range(layer.kernel[1]):
            top, left = y * layer.dilation[0], x * layer.dilation[1]
            rows = slice(top, top + (height - 1) * layer.stride[0] + 1, layer.stride[0])
            columns = slice(left, left + (width - 1) * layer.stride[1] + 1, layer.stride[1])
            yield y, x, padded[:, :, rows, columns]


def padded_by(layer, value, fill):
    top, left, bottom, right = layer.padding
    return np.pad(value, ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=fill)


def convolution(layer, value, weight):
    result = np.zeros(layer.output_shape)
    own, made = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    for y, x, met in taps(layer, padded_by(layer, value, 0)):
        for group in range(layer.groups):
            outs = slice(group * made, (group + 1) * made)
            ins = slice(group * own, (group + 1) * own)
            result[:, outs] += np.einsum("bchw,oc->bohw", met[:, ins], weight[outs, :, y, x])
    return result


def pooling(layer, value):
    if layer.kind == "max":
        return np.max([met for *_, met in taps(layer, padded_by(layer, value, -np.inf))], axis=0)
    total = sum(met for *_, met in taps(layer, padded_by(layer, value, 0)))
    if layer.count_padding:
        return total / math.prod(layer.kernel)
    ones = padded_by(layer, np.ones_like(value), 0)
    return total / sum(met for *_, met in taps(layer, ones))


def transposed(layer, value, weight):
    """Every input value adds its kernel to the output."""
    weight = weight.reshape(layer.weight_shape)
    top, left, _, _ = layer.padding
    height, width = layer.out_size
    own, made = layer.in_channels // layer.groups, layer.out_channels // layer.groups
    result = np.zeros(layer.output_shape)
    for y, x, ky, kx in np.ndindex(layer.in_height, layer.in_width, *layer.kernel):
        out_y = y * layer.stride[0] + ky * layer.dilation[0] - top
        out_x = x * layer.stride[1] + kx * layer.dilation[1] - left
        if not (0 <= out_y < height and 0 <= out_x < width):
            continue
        for group in range(layer.groups):
            outs = slice(group * made, (group + 1) * made)
            ins = slice(group * own, (group + 1) * own)
            result[:, outs, out_y, out_x] += value[:, ins, y, x] @ weight[ins, :, ky, kx]
    return result
