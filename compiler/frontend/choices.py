"""Attribute values that operators admit: one of a few words, 0 or 1, no negative number.

ONNX's checker takes any. The words are those of onnx/docs/Operators.md, of all versions of
an operator together.
"""

from __future__ import annotations

import onnx

from motet.runtime.errors import ModelError

_AUTO_PAD = ("NOTSET", "SAME_UPPER", "SAME_LOWER", "VALID")
_DIRECTIONS = ("forward", "reverse", "bidirectional")
_REDUCTIONS = ("none", "add", "mul", "max", "min")
_LOSSES = ("none", "sum", "mean")

CHOICES: dict[tuple[str, str], tuple[str, ...]] = {
    **{
        (op_type, "auto_pad"): _AUTO_PAD
        for op_type in (
            "AveragePool", "Conv", "ConvInteger", "ConvTranspose", "LpPool", "MaxPool",
            "QLinearConv",
        )
    },
    **{(op_type, "direction"): _DIRECTIONS for op_type in ("GRU", "LSTM", "RNN")},
    **{(op_type, "reduction"): _REDUCTIONS for op_type in ("ScatterElements", "ScatterND")},
    ("NegativeLogLikelihoodLoss", "reduction"): _LOSSES,
    ("SoftmaxCrossEntropyLoss", "reduction"): _LOSSES,
    ("BitShift", "direction"): ("LEFT", "RIGHT"),
    ("DepthToSpace", "mode"): ("DCR", "CRD"),
    ("Gelu", "approximate"): ("none", "tanh"),
    ("GridSample", "mode"): ("linear", "nearest", "cubic", "bilinear", "bicubic"),
    ("GridSample", "padding_mode"): ("zeros", "border", "reflection"),
    ("Pad", "mode"): ("constant", "reflect", "edge", "wrap"),
    ("Resize", "mode"): ("nearest", "linear", "cubic"),
    ("Resize", "nearest_mode"): ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"),
    ("Resize", "coordinate_transformation_mode"): (
        "half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners",
        "asymmetric", "tf_half_pixel_for_nn", "tf_crop_and_resize",
    ),
    ("Resize", "keep_aspect_ratio_policy"): ("stretch", "not_larger", "not_smaller"),
    ("RoiAlign", "mode"): ("avg", "max"),
    ("RoiAlign", "coordinate_transformation_mode"): ("half_pixel", "output_half_pixel"),
    ("TensorScatter", "mode"): ("linear", "circular"),
    ("Upsample", "mode"): ("nearest", "linear"),
}  # fmt: skip

NOT_NEGATIVE = (("Attention", "softcap"),)
"""0 means none; of a negative one, ONNX's function body and its reference make two things."""

_FLAG_NAMES = """
    align_corners allowzero antialias ceil_mode center_point_box count_include_pad
    detect_negative detect_positive exclude_outside exclusive fmod input_forget interleaved
    inverse is_causal keepdims largest layout linear_before_reset noop_with_empty_axes onesided
    reverse saturate select_last_index sorted storage_order transA transB upper
"""
FLAGS = frozenset(_FLAG_NAMES.split())
"""Integers that are 0 or 1, whichever operator has them; of others, readers differ."""


def check_choices(node: onnx.NodeProto, name: str, label: str) -> None:
    """Refuse a value that the operator does not have.

    Raises
    ------
    ModelError
        Names the node, the attribute, and the words that there are.
    """
    for attribute in node.attribute:
        if attribute.name in FLAGS and attribute.i not in (0, 1):
            raise ModelError(
                f"{label}: node '{name}' ({node.op_type}): {attribute.name} is {attribute.i}: "
                "it is 0 or 1"
            )
        if (node.op_type, attribute.name) in NOT_NEGATIVE and attribute.f < 0:
            raise ModelError(
                f"{label}: node '{name}' ({node.op_type}): {attribute.name} is {attribute.f:g}: "
                "give 0 for none, or a positive number"
            )
        words = CHOICES.get((node.op_type, attribute.name))
        if words is None or attribute.type != onnx.AttributeProto.STRING:
            continue
        word = attribute.s.decode("utf-8", "replace")
        if word not in words:
            raise ModelError(
                f"{label}: node '{name}' ({node.op_type}): {attribute.name} is '{word}', "
                f"which is none of {', '.join(words)}"
            )
