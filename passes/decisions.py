"""What approximate passes decided: plain JSON keyed by ONNX node names, weights beside it.

A pass that changes what a network computes, or how its layers are cut, writes down what it did
as ``Decisions``. They can be read back (to pin or edit what a pass did), applied to the Relax
module again, or to the ONNX model. New weights lie in an ``.npz`` file beside the JSON, each
array under the key that the decision names. Nothing here knows tvm or ONNX.

Values are named by nodes: ``output`` is the node whose first output the new layer computes, and
``input`` the node that computes what it reads, or the model's input of that name. In ONNX the
value read is that input of ``nodes[0]`` which is neither an initializer nor a constant.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np
from msgspec import Struct

from motet.runtime.atomic import write_atomically
from motet.runtime.device import Array
from motet.runtime.errors import SpecError

FORMAT = 1

Border = Literal["exact", "bias_map", "strip", "padding_moved"]
Dim = int | str


class Geometry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A convolution but for its values.

    kernel, stride, dilation: per spatial axis; padding: zeros before each axis, then after each,
    as ONNX's ``pads``.
    """

    in_channels: int
    out_channels: int
    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int = 1


class Removed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An activation that a merge took out.

    nodes: its ONNX nodes (a HardSwish written out is several). affine: key of an array
    [2, channels] in the weights, scale and shift that stand in its place; "" for none.
    """

    nodes: tuple[str, ...]
    affine: str = ""


class Merge(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="merge"):
    """Convolutions in a row that became one.

    model: the entry function. block: number of the chain in its model, in graph order, kept or
        merged: what ``blocks`` of the options counts.
    nodes: ONNX nodes merged, in order: convolutions, batch-norms, scales, pads, the shortcut's
        Add, and activations removed. convolutions: those of ``nodes`` that are convolutions.
    removed: activations taken out; none for an exact merge.
    input, output: by node, as the module says; input_shape, output_shape: a str is symbolic.
    geometry: of the merged convolution. shortcut: whether it includes an identity shortcut.
    border: "exact": nothing to do; "bias_map": ``bias`` is [1, O, *sizes], exact; "strip": the
        outermost ``strip`` results (before each axis, then after) are computed by the unmerged
        layers, exact; "padding_moved": differs at the border, asked for. why: in words.
    activation: "relu6" or "relu" behind the merged layer where the spec asks for it, else "".
    macs_before, macs_after: of one sample; None where sizes are open.
    seconds_before, seconds_after: estimated on the target; None where nothing was estimated.
    weight, bias: keys in the weights: [O, I / groups, *kernel] and [O] or [1, O, *sizes];
        ``bias`` is "" where there is none.
    """

    model: str
    block: int
    nodes: tuple[str, ...]
    convolutions: tuple[str, ...]
    removed: tuple[Removed, ...] = ()
    input: str
    output: str
    input_shape: tuple[Dim, ...]
    output_shape: tuple[Dim, ...]
    geometry: Geometry
    shortcut: bool = False
    border: Border = "exact"
    why: str = ""
    strip: tuple[int, ...] = ()
    activation: Literal["", "relu", "relu6"] = ""
    macs_before: int | None = None
    macs_after: int | None = None
    seconds_before: float | None = None
    seconds_after: float | None = None
    weight: str = ""
    bias: str = ""

    @property
    def is_exact(self) -> bool:
        """Whether the model computes what it did, up to rounding."""
        return not self.removed and self.border != "padding_moved" and not self.activation


class Kept(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="kept"):
    """Convolutions in a row that were not merged, and why.

    nodes, block, removable: as ``Merge`` has them; removable: activations that stand between.
    """

    model: str
    block: int
    nodes: tuple[str, ...]
    reason: str
    removable: tuple[tuple[str, ...], ...] = ()
    seconds_before: float | None = None
    seconds_after: float | None = None


Variant = Literal["full", "half"]


class NewWeights(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A convolution beside a replaced one that gets other weights.

    nodes: its ONNX nodes: the convolution, batch-norm, bias. output: the last of them, whose
    first output the layer computes. weight, bias: keys of [O, I, *kernel] and [O].
    """

    nodes: tuple[str, ...]
    output: str
    weight: str
    bias: str


class Replacement(
    Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="replace_depthwise"
):
    """A K x K depthwise convolution that became 1 x K and K x 1 ones side by side.

    model: the entry function. index: number of the depthwise convolution in its model, in
        graph order, replaced or not: what ``which`` of the options counts.
    nodes: ONNX nodes of the depthwise layer: convolution, batch-norm, bias. output: the last
        of them; its value becomes the concatenation of rows and columns along the channels.
    rows: channels that the 1 x K convolution gives: of ``full`` all C, of ``half`` the first
        ones. geometry: of the K x K convolution.
    row, column: keys of weights [rows, 1, 1, K] and [columns, 1, K, 1]; row_bias,
        column_bias: of their biases.
    widened: of ``full``: nodes behind it whose other operands are given to both halves.
    layers: convolutions that get other weights: those that read the result, and of ``half``
        the one before, whose channels may be reordered.
    error: relative, root of the sum of squares; error_of: "weights": of the K x K kernels that
        rows and columns stand for, in the norm of what they give to values that correlate as
        was measured or assumed; "outputs": of the layers that read the result, on calibration
        data, with the error of all replacements before it.
    macs_before, macs_after: of the layer and of the layers that read it, of one sample; None
        where sizes are open.
    """

    model: str
    index: int
    nodes: tuple[str, ...]
    output: str
    variant: Variant
    rows: int
    geometry: Geometry
    row: str
    column: str
    row_bias: str
    column_bias: str
    widened: tuple[str, ...] = ()
    layers: tuple[NewWeights, ...] = ()
    error: float
    error_of: Literal["weights", "outputs"] = "weights"
    macs_before: int | None = None
    macs_after: int | None = None


class NotReplaced(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag="depthwise"):
    """A depthwise convolution that stays as it is, and why; index: as ``Replacement`` has it."""

    model: str
    index: int
    nodes: tuple[str, ...]
    reason: str


Decision = Merge | Kept | Replacement | NotReplaced

Command = Literal["merge", "fuse-depthwise"]

_COMMANDS: Mapping[type[Decision], Command] = {
    Merge: "merge",
    Kept: "merge",
    Replacement: "fuse-depthwise",
    NotReplaced: "fuse-depthwise",
}
"""What decides so."""

_OPTIONS: Mapping[Command, str] = {"merge": "merge_depth", "fuse-depthwise": "replace_depthwise"}
"""The table of a specification's passes that does the same."""


class Decisions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that approximate passes decided for a module, in the order of its graph."""

    format: int = FORMAT
    decisions: tuple[Decision, ...] = ()

    @property
    def merges(self) -> tuple[Merge, ...]:
        """The merges."""
        return tuple(d for d in self.decisions if isinstance(d, Merge))

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What was not merged."""
        return tuple(d for d in self.decisions if isinstance(d, Kept))

    @property
    def replacements(self) -> tuple[Replacement, ...]:
        """The depthwise convolutions that were replaced."""
        return tuple(d for d in self.decisions if isinstance(d, Replacement))

    @property
    def not_replaced(self) -> tuple[NotReplaced, ...]:
        """The depthwise convolutions that were not."""
        return tuple(d for d in self.decisions if isinstance(d, NotReplaced))


@dataclass(frozen=True)
class Decided:
    """Decisions and the arrays that they name."""

    decisions: Decisions = field(default_factory=Decisions)
    weights: Mapping[str, Array] = field(default_factory=dict)


def weights_path(path: Path) -> Path:
    """Where the arrays of the decisions at ``path`` lie: ``x.json`` has ``x.npz``."""
    return path.with_suffix(".npz")


def write_decisions(decided: Decided, path: Path | str) -> None:
    """Write JSON, and the arrays beside it where there are any; each whole or not at all."""
    path = Path(path)
    text = msgspec.json.format(msgspec.json.encode(decided.decisions), indent=2)
    if decided.weights:
        made = io.BytesIO()
        np.savez(made, allow_pickle=False, **dict(sorted(decided.weights.items())))
        write_atomically(weights_path(path), [made.getbuffer()])
    write_atomically(path, [text, b"\n"])


def read_decisions(path: Path | str) -> Decided:
    """Decisions and their arrays; ``SpecError`` where the file does not hold any."""
    path = Path(path)
    try:
        decisions = msgspec.json.decode(path.read_bytes(), type=Decisions)
    except OSError as error:
        raise SpecError(f"decisions {path}: {error.strerror}; name a file that exists") from error
    except msgspec.MsgspecError as error:
        raise SpecError(
            f"decisions {path}: {error}; write them with motet merge or motet fuse-depthwise"
        ) from error
    if decisions.format > FORMAT:
        raise SpecError(f"decisions {path}: format {decisions.format} is newer than this Motet")
    decided = Decided(decisions, _arrays(weights_path(path)))
    _check(decided, path)
    return decided


def require_kind(decided: Decided, command: Command, path: Path | str) -> Decided:
    """``decided`` as it is, read from ``path``, for what does the work of ``command``.

    Raises ``SpecError`` where all of them are another command's: nothing would come of them.
    """
    others = {_COMMANDS[type(one)] for one in decided.decisions.decisions}
    if others and command not in others:
        [other] = others
        option = _OPTIONS[other]
        raise SpecError(
            f"decisions {path}: these are decisions of motet {other}: give them to motet {other} "
            f"--apply, or to passes.{option}.decisions"
        )
    return decided


def _arrays(path: Path) -> dict[str, Array]:
    if not path.exists():
        return {}
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError) as error:
        raise SpecError(f"weights {path}: {error}; write them anew") from error


def _check(decided: Decided, path: Path) -> None:
    """Every array that a decision names is there, and of the shape that it says."""
    for replacement in decided.decisions.replacements:
        for key in replaced_keys(replacement):
            if key not in decided.weights:
                raise SpecError(
                    f"decisions {path}: {weights_path(path).name} has no array {key!r}, weights"
                    f" of the replacement at {replacement.output!r}"
                )
    for merge in decided.decisions.merges:
        named = (merge.weight, merge.bias, *(removed.affine for removed in merge.removed))
        for key in filter(None, named):
            if key not in decided.weights:
                raise SpecError(
                    f"decisions {path}: {weights_path(path).name} has no array {key!r}, the"
                    f" weights of the merge at {merge.output!r}"
                )
        g = merge.geometry
        shape = (g.out_channels, g.in_channels // g.groups, *g.kernel)
        if merge.weight and decided.weights[merge.weight].shape != shape:
            raise SpecError(
                f"decisions {path}: array {merge.weight!r} has shape"
                f" {decided.weights[merge.weight].shape}, the merge at {merge.output!r} {shape}"
            )


def replaced_keys(replacement: Replacement) -> tuple[str, ...]:
    """The arrays that a replacement names."""
    one = replacement
    layers = (key for layer in one.layers for key in (layer.weight, layer.bias))
    return (one.row, one.column, one.row_bias, one.column_bias, *layers)
