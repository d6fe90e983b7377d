"""Errors of users that a pass raises keep their class on the way through TVM.

A pass is called back from C++, which hands Python exceptions on by the name of their kind; a
kind that TVM does not know comes out as ``RuntimeError``, which would look like a defect. To
import this module makes the kinds known.
"""

from __future__ import annotations

import tvm_ffi

from motet.runtime.errors import CompileError, InputError, ModelError, SpecError

for _kind in (CompileError, InputError, ModelError, SpecError):
    tvm_ffi.register_error(_kind.__name__, _kind)
