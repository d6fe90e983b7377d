"""The bundle specification: what to compile, for which machine, with which passes.

These frozen structs are the one definition of the specification: Python callers
build them, ``spec_table`` reads them from TOML, ``spec_schema`` publishes them as
JSON Schema. The constraints and descriptions in the annotations serve all three.
A constructor does not check (types and values are ``spec_checks.validate``'s); it
only turns lists into tuples and derives a missing model name from the path.
"""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, field
from msgspec.structs import force_setattr

from motet.passes.options import (
    FoldBatchNormOptions,
    FuseOptions,
    JoinVectorsOptions,
    LayoutOptions,
    MergeDepthOptions,
    PlaceOptions,
    RegionsOptions,
    ReplaceDepthwiseOptions,
    ScheduleOptions,
)
from motet.runtime.exact_numbers import Rational
from motet.runtime.policies import LEAST_PRIORITY, MOST_PRIORITY

LEAST_RATE_HZ, MOST_RATE_HZ = 1e-6, 1e9
"""A run in eleven days and a half, and one in a nanosecond: what clocks tell apart."""
NAME_PATTERN = "^[a-z][a-z0-9_]*$"

ModelName = Annotated[str, Meta(pattern=NAME_PATTERN)]
TensorName = Annotated[str, Meta(min_length=1)]
Wire = Annotated[str, Meta(pattern=r"^[a-z][a-z0-9_]*\..+$")]
FixedDim = Annotated[int, Meta(ge=1, le=2**31 - 1)]
SymbolicDim = Annotated[str, Meta(pattern="^[A-Za-z_][A-Za-z0-9_]*$")]
Shape = tuple[FixedDim | SymbolicDim, ...]
Positive = Annotated[float, Meta(gt=0)]
Rate = Annotated[float, Meta(ge=LEAST_RATE_HZ, le=MOST_RATE_HZ)]
Milliseconds = Annotated[float, Meta(ge=1e3 / MOST_RATE_HZ, le=1e3 / LEAST_RATE_HZ)]
"""From the shortest period to the longest."""
FixedValue = bool | int | float | str | tuple[Any, ...]
"""A number, (nested) arrays of numbers, ``"@FILE.npy"``, or ``"none"`` for an empty optional."""


class HostOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The host CPU that runs the bundle, or stands beside the array."""

    cpu: Annotated[
        Literal[
            "native",
            "x86-64-v2",
            "x86-64-v3",
            "x86-64-v3-vnni",
            "x86-64-v4",
            "x86-64-v4-vnni",
            "x86-64-v4-bf16",
            "aarch64",
        ],
        Meta(
            description="CPU to make code for: native is the highest of these levels that this"
            " machine has; vnni adds the dot products of bytes (AVX-VNNI, AVX512-VNNI), bf16 those"
            " and the ones of bfloat16. A bundle runs where the CPU has what its level asks for."
        ),
    ] = "native"
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="Threads of the kernels; all CPUs of the process where absent."),
    ] = None
    reassociate: Annotated[
        bool,
        Meta(
            description="Whether kernels may compute by another formula with a stated error bound:"
            " Winograd's convolution, 1e-5 of the largest output; float16 networks in float32."
        ),
    ] = True
    compute: Annotated[
        Literal["fp32", "bf16"],
        Meta(
            description="Number format of what convolutions and matrix products multiply. bf16 is"
            " approximate: inputs and weights keep 8 significant bits; sums are fp32."
        ),
    ] = "fp32"


class ArrayOptions(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the array computes, where the target is one."""

    format: Annotated[
        Literal["fp32", "bf16"],
        Meta(
            description="Number format of values on the array. bf16 is approximate: it keeps 8"
            " significant bits of inputs, weights and values between layers; sums are fp32."
        ),
    ] = "fp32"


class PassesSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Options of the graph passes, one table per pass."""

    fold_batch_norm: FoldBatchNormOptions = field(default_factory=FoldBatchNormOptions)
    fuse: FuseOptions = field(default_factory=FuseOptions)
    join_vectors: JoinVectorsOptions = field(default_factory=JoinVectorsOptions)
    layout: LayoutOptions = field(default_factory=LayoutOptions)
    merge_depth: MergeDepthOptions = field(default_factory=MergeDepthOptions)
    place: PlaceOptions = field(default_factory=PlaceOptions)
    regions: RegionsOptions = field(default_factory=RegionsOptions)
    replace_depthwise: ReplaceDepthwiseOptions = field(default_factory=ReplaceDepthwiseOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)


class QuotaSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The most that a model may have of the machine, so that others keep the rest."""

    arena_mib: Annotated[
        Positive | None,
        Meta(
            description="Memory of a run in flight, in MiB: a model that needs more is refused,"
            " when compiling, or with open sizes when they are bound."
        ),
    ] = None
    threads: Annotated[
        Annotated[int, Meta(ge=1, le=1024)] | None,
        Meta(description="Threads of one of its kernels, on the host."),
    ] = None
    pods: Annotated[
        Annotated[int, Meta(ge=1)] | None,
        Meta(description="Pods of the array that its programs use: the first ones."),
    ] = None
    time_share: Annotated[
        Annotated[float, Meta(gt=0, le=1)] | None,
        Meta(
            description="Share of the time of session.submit's workers, or of the simulated array"
            " and host, beyond which the model's runs give way to all others."
        ),
    ] = None


class ModelSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One model of the bundle: its file, and how often and in which order it runs."""

    path: Annotated[
        str, Meta(min_length=1, description="ONNX file, relative to the specification's directory.")
    ]
    name: Annotated[
        ModelName,
        Meta(description="Name in the bundle, unique; derived from the file's name where absent."),
    ] = ""
    shapes: Annotated[
        dict[TensorName, Shape],
        Meta(
            description="Shape per input: sizes, or names of symbolic dimensions, for inputs whose"
            " shape the model leaves open. A sequence has a list of shapes, [[2, 3], [4]], or"
            " a shape for each of its tensors, under input.0, input.1, ..."
        ),
    ] = field(default_factory=dict)
    values: Annotated[
        dict[TensorName, FixedValue],
        Meta(
            description="Value per input that is fixed when compiling (axes, sizes, k): a number,"
            ' an array, or "@FILE.npy", relative to the specification\'s directory; "none" leaves'
            " an optional input empty. The bundle has no such input."
        ),
    ] = field(default_factory=dict)
    rate_hz: Annotated[
        Rate | Rational | None,
        Meta(
            description="Runs per second, in Hz, in simulate --duration and timetable, exactly as"
            " written: 29.97 is 2997/100, and a fraction stands in quotes. Where absent those of"
            " the models that it follows, or back to back."
        ),
    ] = None
    deadline_ms: Annotated[
        Milliseconds | None,
        Meta(
            description="Latest end after a run's release, in milliseconds; its period where"
            " absent."
        ),
    ] = None
    phase_ms: Annotated[
        Annotated[float, Meta(ge=0, le=1e9)] | None,
        Meta(
            description="When the first run is asked for, in milliseconds from the start, in"
            " simulate --duration and timetable; 0 where absent. A model that follows others has"
            " theirs.",
        ),
    ] = None
    priority: Annotated[
        int,
        Meta(
            ge=LEAST_PRIORITY,
            le=MOST_PRIORITY,
            description="Larger goes first where models share a machine, by the policy priority.",
        ),
    ] = 0
    after: Annotated[
        tuple[ModelName, ...], Meta(description="Models that run before this one.")
    ] = ()
    inputs: Annotated[
        dict[TensorName, Wire],
        Meta(
            description="Input of this model to the output of another that feeds it, written"
            " model.output; implies the order."
        ),
    ] = field(default_factory=dict)
    probability: Annotated[
        float,
        Meta(
            gt=0,
            le=1,
            description="How likely a run of the models before this one asks for one of it, in"
            " simulate --duration; below 1 it needs after or inputs.",
        ),
    ] = 1.0

    quota: QuotaSpec = field(default_factory=QuotaSpec)

    def __post_init__(self) -> None:
        if isinstance(self.path, os.PathLike):
            force_setattr(self, "path", os.fspath(self.path))
        if self.name == "" and isinstance(self.path, str):
            force_setattr(self, "name", name_from_path(self.path))
        force_setattr(self, "after", _tuple(self.after))
        if isinstance(self.shapes, dict):
            shapes = {key: _tuple(dims) for key, dims in itemised(self.shapes).items()}
            force_setattr(self, "shapes", shapes)
        if isinstance(self.values, dict):
            values = {k: "none" if v is None else _plain(v) for k, v in self.values.items()}
            force_setattr(self, "values", values)


class BundleSpec(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bundle: its models, the machine it is for, and the options of the passes."""

    name: Annotated[
        Annotated[str, Meta(pattern="^[A-Za-z0-9][A-Za-z0-9._-]*$")],
        Meta(description="Name of the bundle, shown in reports."),
    ] = "bundle"
    models: Annotated[
        tuple[ModelSpec, ...], Meta(description="The models, one table each, keyed by name.")
    ]
    target: Annotated[
        str,
        Meta(
            min_length=1,
            description="host, the name of an array description that Motet ships, or the path of"
            " one (.toml) relative to the specification's directory.",
        ),
    ] = "host"
    host: HostOptions = field(default_factory=HostOptions)
    array: ArrayOptions = field(default_factory=ArrayOptions)
    passes: PassesSpec = field(default_factory=PassesSpec)
    operators: Annotated[
        tuple[Annotated[str, Meta(min_length=1)], ...],
        Meta(
            description="Python files that register converters of your own operators"
            " (motet.operators), relative to the specification's directory; they are run."
        ),
    ] = ()

    def __post_init__(self) -> None:
        force_setattr(self, "models", _tuple(self.models))
        force_setattr(self, "operators", _tuple(self.operators))


def name_from_path(path: str) -> str:
    """A legal model name from the file's stem: ``ResNet-50.onnx`` gives ``resnet_50``."""
    name = re.sub(r"[^a-z0-9]+", "_", PurePath(path).stem.lower()).strip("_")
    return name if re.match("[a-z]", name) else f"model_{name}".rstrip("_")


def split_wire(wire: str) -> tuple[str, str]:
    """Model and output of ``model.output``; an output's name may itself hold dots."""
    model, _, output = wire.partition(".")
    return model, output


def itemised(shapes: dict[str, Any]) -> dict[str, Any]:
    """``{"seq": [[2, 3], [4]]}`` as ``{"seq.0": [2, 3], "seq.1": [4]}``: a shape per key.

    A sequence without items keeps its empty list; anything else stays for the checks.
    """
    result: dict[str, Any] = {}
    for key, shape in shapes.items():
        listed = isinstance(shape, (list, tuple)) and len(shape) > 0
        if listed and all(isinstance(item, (list, tuple)) for item in shape):
            result |= {f"{key}.{index}": item for index, item in enumerate(shape)}
        else:
            result[key] = shape
    return result


def _plain(value: Any) -> Any:
    """Arrays and lists as nested tuples of Python's numbers."""
    if hasattr(value, "tolist"):
        # Element types that numpy only borrows (bfloat16, int4) have no numbers of Python's.
        value = (value if value.dtype.kind in "biuf" else value.astype("float64")).tolist()
        value = value if isinstance(value, list) else [value]
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value


def _tuple(value: Any) -> Any:
    """A list as a tuple; anything else stays for ``validate`` to judge."""
    return tuple(value) if isinstance(value, list) else value
