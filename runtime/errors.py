"""Every error a user can cause, in one small hierarchy.

A message names the thing that is wrong (model, node, key, file) and what to do
about it. The command line prints the message alone, without a traceback, and
leaves with the class's ``exit_code``; anything that is not a ``MotetError`` is a
defect of Motet.
"""

from __future__ import annotations

import re

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
"""What would break a line or command a terminal: names in a model's file may hold it."""


class MotetError(Exception):
    """Base of all errors caused by input or environment; never raised itself."""

    exit_code = 2

    def __str__(self) -> str:
        """The message as one line; control characters are escaped."""
        return _CONTROL.sub(lambda found: repr(found[0])[1:-1], super().__str__())


class SpecError(MotetError):
    """A bundle specification, option or array description is wrong; names the key."""


class ModelError(MotetError):
    """An ONNX model cannot be used; names the model and, where there is one, the node."""


class UnsupportedOperatorError(ModelError):
    """Operators that cannot be lowered: lists every one with a node's name."""


class ValueNeededError(UnsupportedOperatorError):
    """A value must be known when compiling: fix an input's value (or its shape).

    inputs: names of the graph inputs that the value is computed from.
    sized: names of those whose symbolic dimensions it is computed from.
    """

    def __init__(
        self, message: str, inputs: tuple[str, ...] = (), sized: tuple[str, ...] = ()
    ) -> None:
        super().__init__(message)
        self.inputs = inputs
        self.sized = sized


class CompileError(MotetError):
    """A correct model could not be compiled as asked; names the operator and a way out."""


class BundleError(MotetError):
    """A ``.motet`` file is truncated, altered, of a newer version, or not a bundle."""


class InputError(MotetError):
    """Wrong model name, input name, shape or dtype at run time."""


class SubmitError(MotetError):
    """A run that was submitted, or should have been, was not done; names the model."""


class QueueFullError(SubmitError):
    """As many runs of the model wait as its queue holds."""


class LateError(SubmitError):
    """The run was dropped: its deadline passed while it waited."""


class TimedOutError(SubmitError, TimeoutError):
    """The run did not end within its ``timeout``."""


class ProgramError(MotetError):
    """An array program breaks a rule of the machine; names the instruction."""


class EnvironmentLackError(MotetError):
    """The machine lacks something (a linker, a package extra, a CPU feature)."""

    exit_code = 3
