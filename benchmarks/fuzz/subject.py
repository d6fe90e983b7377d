"""Motet on one case: what it answers, or the line with which it refuses.

Runs in a worker process, which a crash or the time limit may end.
"""

from __future__ import annotations

import math
import os
import re
import resource
import tempfile
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from motet.runtime.errors import MotetError
from motet.runtime.program import TensorInfo
from motet.runtime.shapes import evaluate_shape, symbols_of

from .cases import Case

STEM = "fuzzed"
"""What the file is called, and so the model."""
MAX_OUTPUT_BYTES = 64 << 20
"""Larger answers are not compared."""
MAX_INPUT_ELEMENTS = 1 << 25
MAX_MESSAGE = 20_000
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")

Arrays = dict[str, NDArray[Any]]


@dataclass(frozen=True)
class Outcome:
    """What Motet did.

    kind: "answer" (with inputs and outputs), "refused", or a finding's kind.
    detail: the message of a refusal; for a finding what happened; then the traceback.
    """

    kind: str
    detail: str = ""
    inputs: Arrays | None = None
    outputs: dict[str, Any] | None = None
    trace: str = ""


def prepare(memory_bytes: int, quiet: bool = True) -> None:
    """Make a worker ready: the compiler imported, memory limited, nothing printed."""
    import motet.compiler.compile

    assert motet.compiler.compile
    if quiet:
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 1)
        os.dup2(sink, 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory_bytes,) * 2)


def examine(case: Case) -> Outcome:
    """Compile and run the case."""
    try:
        return _answer(case)
    except MotetError as error:
        return _judge_message(error, case)
    except Exception as error:
        return _unexpected(error)


def _answer(case: Case) -> Outcome:
    import motet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{STEM}.onnx"
        path.write_bytes(case.content)
        (model,) = motet.load(motet.compile(path), threads=1).values()
        inputs = fitting_inputs(model.program.inputs, case.inputs)
        if inputs is None:
            return Outcome("unjudged", "the inputs are too large to make")
        outputs = model.run_named(inputs)
    if sum(array.nbytes for array in tensors_of(list(outputs.values()))) > MAX_OUTPUT_BYTES:
        return Outcome("unjudged", "the answer is too large to compare")
    return Outcome("answer", "", inputs, outputs)


def tensors_of(value: Any) -> list[NDArray[Any]]:
    """The tensor itself, or all of those in a sequence, in order."""
    if isinstance(value, list):
        return [tensor for item in value for tensor in tensors_of(item)]
    return [np.asarray(value)]


def fitting_inputs(infos: Sequence[TensorInfo], known: Arrays) -> Arrays | None:
    """Inputs as a program takes them, with the values of the ``known`` ones.

    A symbolic dimension is as large as the known input's, or 2; values are repeated or cut.
    None where the inputs are more than this machine should be asked to hold.
    """
    likes = _likes([info.name for info in infos], known)
    sizes = dict.fromkeys((s for info in infos for d in info.shape for s in symbols_of(d)), 2)
    for info, like in zip(infos, likes, strict=True):
        if like is not None and like.ndim == len(info.shape):
            pairs = zip(info.shape, like.shape, strict=True)
            sizes.update({dim: length for dim, length in pairs if isinstance(dim, str)})
    shapes = [evaluate_shape(info.shape, sizes) for info in infos]
    if min((d for shape in shapes for d in shape), default=0) < 0:
        return None
    if sum(math.prod(shape) for shape in shapes) > MAX_INPUT_ELEMENTS:
        return None
    rows = zip(infos, likes, shapes, strict=True)
    return {info.name: _values(like, info.dtype, shape) for info, like, shape in rows}


def _likes(names: Sequence[str], known: Arrays) -> list[NDArray[Any] | None]:
    """The known inputs by name; by place where as many are known, for names are mutated too."""
    by_place = list(known.values()) if len(known) == len(names) else [None] * len(names)
    return [known.get(name, other) for name, other in zip(names, by_place, strict=True)]


def _values(known: NDArray[Any] | None, dtype: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """The known numbers, or small ones (0 and 1 for integers), repeated over ``shape``."""
    if known is None or not known.size:
        # A zero point of float8 has to be 0.
        plain = ("float16", "float32", "float64", "bfloat16")
        low, high = (-2, 3) if dtype in plain else (0, 1 if "float" in dtype else 2)
        known = np.random.default_rng(0).integers(low, high, 97)
    if dtype.startswith("uint"):
        known = np.abs(known)
    with np.errstate(all="ignore"):
        return np.resize(known, shape).astype(dtype)


def _judge_message(error: MotetError, case: Case) -> Outcome:
    """A refusal, if the message is one line that says who it is about."""
    text = str(error)
    shown = text[:MAX_MESSAGE]
    if type(error) is MotetError:
        return Outcome("bare error", shown, trace=_trace(error))
    if _CONTROL.search(text):
        return Outcome("message of several lines", repr(shown), trace=_trace(error))
    if not text.strip() or len(text) > MAX_MESSAGE:
        return Outcome("message too long or empty", shown, trace=_trace(error))
    if STEM not in text:
        return Outcome("message without a name", shown, trace=_trace(error))
    return Outcome("refused", f"{type(error).__name__}: {shown}")


def _unexpected(error: Exception) -> Outcome:
    if isinstance(error, MemoryError):
        return Outcome("out of memory", str(error)[:MAX_MESSAGE], trace=_trace(error))
    return Outcome(f"{type(error).__name__}", str(error)[:MAX_MESSAGE], trace=_trace(error))


def _trace(error: Exception) -> str:
    return "".join(traceback.format_exception(error))[-8000:]
