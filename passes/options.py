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


class FuseOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Fuse operators with their elementwise neighbours into one kernel."""

    enabled: Annotated[bool, Meta(description="Whether the pass runs.")] = True
    max_ops: Annotated[
        int, Meta(ge=1, le=1024, description="Most operators that one kernel may hold.")
    ] = 32


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
    r: Annotated[int, Meta(ge=1, description="Most operators in a group of a stage, for ios.")] = 3
    s: Annotated[int, Meta(ge=1, description="Most groups in a stage, for ios.")] = 8
