"""Options of the passes: plain frozen structs, read from a specification's ``[passes]``.

They stand apart from the passes so that reading a specification does not import tvm.
"""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

NodeName = Annotated[str, Meta(min_length=1)]


class FoldBatchNormOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fold batch normalisation into the weights of the layer before it."""

    enabled: Annotated[bool, Meta(description="Whether the pass runs.")] = True


class MergeDepthModel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which activations a model gives up so that convolutions merge; by default none."""

    remove_blocks: Annotated[
        tuple[Annotated[int, Meta(ge=0)], ...],
        Meta(
            description="Blocks that lose the activations inside and become one convolution. A"
            " block is convolutions with activations between them; motet inspect numbers them."
        ),
    ] = ()
    remove: Annotated[
        tuple[NodeName, ...],
        Meta(
            description="ONNX node names of activations to remove, so that what they part merges."
        ),
    ] = ()
    remove_activations: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Most activations to remove: those that save the most estimated time."),
    ] = None
    latency_budget_ms: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Remove as few activations as bring the model's estimated time to this,"
            " in milliseconds."
        ),
    ] = None


class MergeDepthOptions(MergeDepthModel, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Merge convolutions that follow each other into one.

    What has no activation inside merges exactly, where it is estimated to be faster; removing
    an activation is an approximation.
    """

    enabled: Annotated[bool, Meta(description="Whether the pass runs.")] = True
    exact: Annotated[
        bool,
        Meta(description="Whether convolutions without an activation between them merge unasked."),
    ] = True
    border: Annotated[
        Literal["exact", "move_padding"],
        Meta(
            description="Of merges that lose activations: exact computes the border apart, or does"
            " not merge; move_padding pads the input instead, so that the border differs."
        ),
    ] = "exact"
    activation: Annotated[
        Literal["none", "relu", "relu6"],
        Meta(
            description="What stands behind merges that lost activations, as the network was"
            " fine-tuned."
        ),
    ] = "none"
    decisions: Annotated[
        str,
        Meta(
            description="Decisions file that says which convolutions merge, with the weights beside"
            " it, relative to the specification's directory; nothing else merges then."
        ),
    ] = ""
    models: Annotated[
        dict[Annotated[str, Meta(min_length=1)], MergeDepthModel],
        Meta(description="By model name: what it gives up, instead of what is said for all."),
    ] = {}


class FuseOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fuse operators with their elementwise neighbours into one kernel."""

    enabled: Annotated[bool, Meta(description="Whether the pass runs.")] = True
    max_ops: Annotated[
        int, Meta(ge=1, le=1024, description="Most operators that one kernel may hold.")
    ] = 32


class JoinVectorsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Compute products of vectors with a scale each (VS-Quant) in integers."""

    enabled: Annotated[
        bool, Meta(description="Whether the pass runs; if not, such products are float.")
    ] = True
    product_bits: Annotated[
        Annotated[int, Meta(ge=2, le=32)] | None,
        Meta(
            description="Bits that the product of two integer scales is rounded to, as VS-Quant's"
            " hardware does (approximate); all of them where absent."
        ),
    ] = None


class LayoutOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Keep feature maps of the host in blocks of channels from one convolution to the next."""

    enabled: Annotated[bool, Meta(description="Whether the pass runs.")] = True


class PlaceOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Place each operator on the array or on the host."""

    enabled: Annotated[
        bool, Meta(description="Whether the array is used; if not, all runs on the host.")
    ] = True
    host_ops: Annotated[
        tuple[NodeName, ...], Meta(description="ONNX node names that stay on the host.")
    ] = ()


class RegionsOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Join the array's operators into programs of several, so that values stay on it."""

    enabled: Annotated[
        bool,
        Meta(description="Whether they are joined; if not, each is an array program of its own."),
    ] = True


class ReplaceDepthwiseOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Replace K x K depthwise convolutions by 1 x K and K x 1 ones (FuSeConv). Approximate."""

    enabled: Annotated[bool, Meta(description="Whether the pass runs.")] = False
    variant: Annotated[
        Literal["full", "half", "full50", "half50"],
        Meta(
            description="full: rows and columns of all channels; half: rows of one half of the"
            " channels, columns of the other; full50, half50: only in the half of the layers that"
            " cost most."
        ),
    ] = "half"
    which: Annotated[
        tuple[Annotated[int, Meta(ge=0)] | NodeName, ...],
        Meta(
            description="Depthwise convolutions to replace, by number (from 0, in graph order) or"
            " ONNX node name; all, or the costlier half, where empty."
        ),
    ] = ()
    fit: Annotated[
        Literal["least_squares", "rank_one"],
        Meta(
            description="Weights of rows and columns: of least error, or the same of the nearest"
            " separable kernel (SVD)."
        ),
    ] = "least_squares"
    decisions: Annotated[
        str,
        Meta(
            description="Decisions file (JSON) to apply instead of deciding, relative to the"
            ' specification\'s directory; "" for none. `motet fuse-depthwise --decisions` writes'
            " one, with weights refitted on calibration data."
        ),
    ] = ""


Algorithm = Literal["ios", "greedy", "sequential"]


class ScheduleOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Which operators run at the same time: on pods of an array, on threads of the host."""

    enabled: Annotated[
        bool,
        Meta(
            description="Whether operators that do not depend on each other may share the pods of"
            " an array, and small kernels the threads of the host. Programs that this makes for"
            " an array are simulated, and the fastest is taken: compiling takes longer."
        ),
    ] = False
    algorithm: Annotated[
        Algorithm,
        Meta(
            description="ios: the stages with the least estimated time, beside greedy ones; greedy:"
            " in every stage all that is ready; sequential: one operator after another."
        ),
    ] = "ios"
    merge: Annotated[
        bool,
        Meta(
            description="For ios on an array: whether convolutions that read the same value may"
            " become one, where the simulated program is faster so."
        ),
    ] = True
    r: Annotated[int, Meta(ge=1, description="Most operators in a group of a stage, for ios.")] = 3
    s: Annotated[int, Meta(ge=1, description="Most groups in a stage, for ios.")] = 8
    budget_seconds: Annotated[
        Annotated[float, Meta(gt=0)] | None,
        Meta(
            description="Time for each search of ios, after which the best stages so far are taken."
            " Absent: 8 million steps (endings of states that are looked at), some 20 seconds, so"
            " that what is found does not depend on the machine."
        ),
    ] = None
    file: Annotated[
        str,
        Meta(
            description="JSON that 'motet schedule --json' wrote, relative to the specification's"
            " directory: its stages are taken as they are, enabled or not, and nothing is searched."
        ),
    ] = ""
