"""Motet as an ``onnx.backend.base.Backend``: what ONNX's own test runner drives.

>>> import motet.backend
>>> motet.backend.run_model(model, [x])

A model is compiled as it is first. Some uses of operators need the value of an input when
they are compiled (the axes of a reduction, the shape of a Reshape, k of a TopK); a bundle
takes such values from its specification (``values``). Here they are only known when the
model runs, so it is compiled for those of the call, and once more for others: that is
specialisation at run time, as JIT compilers do it. Only what looks like a parameter is
ever fixed (``_may_be_fixed``), never a float tensor of data: that would be computing the
answer while compiling. A model whose symbolic dimensions do not compile is specialised to
the call's shapes in the same way. ``MotetRep.fixed`` says what the last run had fixed.
Sequences are lists and have the call's lengths and shapes; an empty optional is None.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.base import Backend, BackendRep, Device, DeviceType

from motet import api
from motet.runtime.device import Array
from motet.runtime.errors import (
    InputError,
    ModelError,
    MotetError,
    UnsupportedOperatorError,
    ValueNeededError,
)
from motet.runtime.session import ModelSession

MAX_FIXED_INTEGERS = 1024
MAX_FIXED_FLOATS = 64
MAX_SESSIONS = 16
"""Compiled variants that one prepared model keeps; the oldest goes first."""

_NAME = "model"
Feeds = dict[str, Any]
Key = tuple[tuple[str, str, tuple[Any, ...], bytes], ...]


class MotetRep(BackendRep):
    """A prepared model; ``run`` may compile it anew for the values of a call.

    fixed: inputs that the last run had fixed, in the order in which they were needed.
    inputs: names of the inputs that a caller gives, in graph order.
    """

    def __init__(self, model: onnx.ModelProto, target: str | None, threads: int) -> None:
        self._model = model
        self._target = target
        self._threads = threads
        self._infos = _given_inputs(model.graph)
        self._sized = False
        self._sessions: dict[Key, ModelSession] = {}
        self.inputs = tuple(info.name for info in self._infos)
        self.fixed: tuple[str, ...] = ()

    def run(self, inputs: Any, **_kwargs: Any) -> tuple[Any, ...]:
        """Outputs in graph order for ``inputs``: a sequence in graph order, or by name."""
        feeds = self.feeds(inputs)
        session = self.session(feeds)
        given = {n: x for n, x in feeds.items() if n not in self.fixed and x is not None}
        return tuple(session.run(None, given))

    def feeds(self, inputs: Any) -> Feeds:
        """One call's inputs by name; raises ``InputError`` for more or fewer than there are."""
        if isinstance(inputs, Mapping):
            return dict(inputs)
        if isinstance(inputs, np.ndarray) or not isinstance(inputs, Sequence):
            inputs = [inputs]
        if len(inputs) > len(self.inputs):
            raise InputError(
                f"{len(inputs)} inputs given, the model has {len(self.inputs)}: "
                f"{', '.join(self.inputs) or '(none)'}"
            )
        missing = [
            info.name
            for info in self._infos[len(inputs) :]
            if not info.type.HasField("optional_type")
        ]
        if missing:
            raise InputError(
                f"{len(inputs)} inputs given, the model has {len(self.inputs)}: "
                f"{', '.join(missing)} is missing"
            )
        return dict(zip(self.inputs, inputs, strict=False))

    def session(self, feeds: Feeds) -> ModelSession:
        """The model compiled for ``feeds``, with as little of them fixed as it takes."""
        while True:
            try:
                return self._compiled(feeds)
            except ValueNeededError as error:
                needed = self._fixable(error.inputs, feeds)
                if not needed and not self._may_be_sized():
                    raise
                self.fixed += needed
                self._sized |= not needed
            except MotetError:
                if not self._may_be_sized():
                    raise
                self._sized = True

    def compile(self) -> None:
        """Compile without values; what needs those of a call is left to ``run``."""
        if any(not info.type.HasField("tensor_type") for info in self._infos):
            return  # sequences and optionals: what is there, only a call says
        try:
            self._compiled({})
        except ValueNeededError:
            return
        except MotetError:
            if not self._may_be_sized() or not is_compatible(self._model):
                raise

    def _may_be_sized(self) -> bool:
        """Whether the call's shapes can be fixed, and are not yet."""
        return not self._sized and any(not _is_static(info) for info in self._infos)

    def _fixable(self, names: Sequence[str], feeds: Feeds) -> tuple[str, ...]:
        """Those of ``names`` that may be fixed, and are not yet."""
        new = [n for n in names if n not in self.fixed and _may_be_fixed(feeds.get(n))]
        if not {*self.inputs} - {*self.fixed, *new}:  # a vector alone is data
            new = [n for n in new if not (_is_float(feeds[n]) and np.ndim(feeds[n]))]
        return tuple(new)

    def _compiled(self, feeds: Feeds) -> ModelSession:
        values: dict[str, Any] = {name: np.asarray(feeds[name]) for name in self.fixed}
        values |= {name: None for name, x in feeds.items() if x is None}
        shapes = _open_shapes(self._infos, feeds) if self._sized else {}
        shapes |= _item_shapes(self._infos, feeds)
        key = _key(values, shapes)
        if key not in self._sessions:
            while len(self._sessions) >= MAX_SESSIONS:
                del self._sessions[next(iter(self._sessions))]
            self._sessions[key] = self._new_session(values, shapes)
        return self._sessions[key]

    def _new_session(
        self, values: Mapping[str, Array | None], shapes: Mapping[str, tuple[Any, ...]]
    ) -> ModelSession:
        with tempfile.TemporaryDirectory(prefix="motet-") as folder:
            path = Path(folder, f"{_NAME}.onnx")
            path.write_bytes(self._model.SerializeToString())
            sizes = {name: shape for name, shape in shapes.items() if name not in values}
            bundle = api.compile(path, target=self._target, shapes=sizes, values=values)
        return api.load(bundle, threads=self._threads)[_NAME]


class MotetBackend(Backend):
    """Compiles and runs ONNX models in this process."""

    @classmethod
    def is_compatible(cls, model: onnx.ModelProto, device: str = "CPU", **_kwargs: Any) -> bool:
        """Whether Motet knows the model's operators (a use of one may still be refused)."""
        from motet.compiler.frontend.checks import operator_sets
        from motet.compiler.frontend.supported import check_supported

        try:
            check_supported(model.graph, operator_sets(model, _NAME), _NAME)
        except UnsupportedOperatorError:
            return False
        except MotetError:
            return cls.supports_device(device)
        return cls.supports_device(device)

    @classmethod
    def prepare(
        cls,
        model: onnx.ModelProto | str | Path | bytes,
        device: str = "CPU",
        *,
        target: str | None = None,
        threads: int = 1,
        **_kwargs: Any,
    ) -> MotetRep:
        """Compile ``model`` (or the file of that path, or its bytes).

        Raises a ``motet.errors`` exception where it cannot be used.


        target: as in ``motet.compile``; threads: what one kernel call may use.
        """
        if not cls.supports_device(device):
            raise InputError(f"device {device!r}: Motet's backend runs on the CPU")
        rep = MotetRep(_loaded(model), target, threads)
        rep.compile()
        return rep

    @classmethod
    def run_node(
        cls,
        node: onnx.NodeProto,
        inputs: Any,
        device: str = "CPU",
        outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None = None,
        **kwargs: Any,
    ) -> tuple[Any, ...]:
        """Run one node; ``outputs_info`` is a dtype and a shape for each output.

        opset_version: of the node's operator set; the newest that onnx has where absent.
        """
        version = int(kwargs.pop("opset_version", 0)) or onnx.defs.onnx_opset_version()
        if isinstance(inputs, Mapping):
            inputs = [inputs[name] for name in node.input if name in inputs]
        elif isinstance(inputs, np.ndarray) or not isinstance(inputs, Sequence):
            inputs = [inputs]
        if node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type):
            raise UnsupportedOperatorError(f"ONNX knows no operator {node.op_type!r}")
        model = _model_of(node, [np.asarray(x) for x in inputs], outputs_info, version)
        return cls.prepare(model, device, **kwargs).run(list(inputs))

    @classmethod
    def supports_device(cls, device: str) -> bool:
        """The CPU; Motet's array is simulated, and a target (``prepare(target=...)``)."""
        try:
            return bool(Device(device).type == DeviceType.CPU)
        except AttributeError:
            return False


def _loaded(model: onnx.ModelProto | str | Path | bytes) -> onnx.ModelProto:
    if isinstance(model, onnx.ModelProto):
        return model
    try:
        if isinstance(model, bytes):
            return onnx.load_from_string(model)
        return onnx.load(str(model))
    except Exception as error:  # protobuf's DecodeError, OSError, onnx's own
        what = "these bytes" if isinstance(model, bytes) else str(model)
        raise ModelError(f"{what}: no ONNX model that can be read: {error}") from error


def _given_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    stored = {tensor.name for tensor in graph.initializer}
    return [info for info in graph.input if info.name not in stored]


def _held(info: onnx.ValueInfoProto) -> onnx.TypeProto:
    """The type of an input, of what it holds where it is an optional."""
    optional = info.type.HasField("optional_type")
    return info.type.optional_type.elem_type if optional else info.type


def _is_static(info: onnx.ValueInfoProto) -> bool:
    """Whether the model says the shape; a sequence has those of the call in any case."""
    kind = _held(info)
    if kind.HasField("sequence_type"):
        return True
    tensor = kind.tensor_type
    return tensor.HasField("shape") and all(d.HasField("dim_value") for d in tensor.shape.dim)


def _open_shapes(infos: Sequence[onnx.ValueInfoProto], feeds: Feeds) -> dict[str, tuple[Any, ...]]:
    """The call's shapes of inputs whose shape is open; empty tensors keep their symbols."""
    given = [i.name for i in infos if not _is_static(i) and feeds.get(i.name) is not None]
    shapes = {name: np.shape(feeds[name]) for name in given}
    return {name: shape for name, shape in shapes.items() if 0 not in shape}


def _item_shapes(infos: Sequence[onnx.ValueInfoProto], feeds: Feeds) -> dict[str, tuple[Any, ...]]:
    """The shape of every item of the call's sequences."""
    lists = [i.name for i in infos if _held(i).HasField("sequence_type")]
    return {
        name: tuple(np.shape(item) for item in feeds[name])
        for name in lists
        if isinstance(feeds.get(name), (list, tuple))
    }


def _is_float(value: Any) -> bool:
    return np.asarray(value).dtype.name.startswith(("float", "bfloat"))


def _may_be_fixed(value: Any) -> bool:
    """Whether an input looks like a parameter: integers, or a short float vector of factors."""
    if not isinstance(value, (np.ndarray, np.generic, int, float)):
        return False
    array = np.asarray(value)
    if array.dtype.kind in "biu":
        return array.size <= MAX_FIXED_INTEGERS
    return _is_float(array) and array.ndim <= 1 and array.size <= MAX_FIXED_FLOATS


def _key(values: Mapping[str, Array | None], shapes: Mapping[str, tuple[Any, ...]]) -> Key:
    """What a compiled variant is valid for."""
    fixed = [
        (name, "none", (), b"") if x is None else (name, x.dtype.name, x.shape, x.tobytes())
        for name, x in values.items()
    ]
    return (*fixed, *((name, "", shape, b"") for name, shape in shapes.items()))


def _model_of(
    node: onnx.NodeProto,
    inputs: Sequence[Array],
    outputs_info: Sequence[tuple[Any, tuple[int, ...]]] | None,
    version: int,
) -> onnx.ModelProto:
    """A model of one node; types of its outputs are inferred where they are not given."""
    helper = onnx.helper
    names = [name for name in node.input if name]
    if len(names) != len(inputs):
        raise InputError(f"{len(inputs)} inputs given, the node has {len(names)}: {names}")
    given = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape)
        for name, x in zip(names, inputs, strict=True)
    ]
    outputs = [onnx.ValueInfoProto(name=name) for name in node.output if name]
    if outputs_info is not None:
        outputs = [
            helper.make_tensor_value_info(
                info.name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
            )
            for info, (dtype, shape) in zip(outputs, outputs_info, strict=True)
        ]
    graph = helper.make_graph([node], "node", given, outputs)
    opsets = [helper.make_opsetid(node.domain, version)]
    if node.domain:
        opsets.append(helper.make_opsetid("", onnx.defs.onnx_opset_version()))
    model = helper.make_model_gen_version(graph, opset_imports=opsets)
    return onnx.shape_inference.infer_shapes(model)


is_compatible = MotetBackend.is_compatible
prepare = MotetBackend.prepare
run_model = MotetBackend.run_model
run_node = MotetBackend.run_node
supports_device = MotetBackend.supports_device

__all__ = [
    "MotetBackend",
    "MotetRep",
    "is_compatible",
    "prepare",
    "run_model",
    "run_node",
    "supports_device",
]
