"""Errors that a user can cause: ``motet.errors.SpecError`` and its siblings."""

from __future__ import annotations

from motet.runtime.errors import (
    BundleError,
    CompileError,
    EnvironmentLackError,
    InputError,
    LateError,
    ModelError,
    MotetError,
    ProgramError,
    QueueFullError,
    SpecError,
    SubmitError,
    TimedOutError,
    UnsupportedOperatorError,
    ValueNeededError,
)

__all__ = [
    "BundleError",
    "CompileError",
    "EnvironmentLackError",
    "InputError",
    "LateError",
    "ModelError",
    "MotetError",
    "ProgramError",
    "QueueFullError",
    "SpecError",
    "SubmitError",
    "TimedOutError",
    "UnsupportedOperatorError",
    "ValueNeededError",
]
