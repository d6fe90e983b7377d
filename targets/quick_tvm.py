"""TVM's import in less than half of its time.

TVM 0.27 imports in 4.1 billion instructions, of which most can be spared:

1. Each of its 52 ``_ffi_api`` modules lists the 2,000 names of all global functions anew. While
   their number stays, the last list is kept.
2. Python looks for garbage again and again among what modules define, which is none.
3. A third is for CUDA and other devices, and for the first error in C++, which is one of an
   import that may fail: its backtrace reads the symbols of 260 MB of libraries. A process that
   runs nothing but Motet says ``without_devices``.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType

_DEVICES = "TVM_DEVICE_BACKEND_AUTOLOAD"
"""TVM's own variable: 0 leaves out devices other than CPUs, and the library of ``_DISTRIBUTED``."""
_DISTRIBUTED = "tvm.runtime.disco"


def without_devices() -> None:
    """TVM will be imported for CPUs only in this process, unless the environment says else."""
    os.environ.setdefault(_DEVICES, "0")


@contextmanager
def quick_imports() -> Iterator[None]:
    """What is imported inside, TVM with it, is imported faster."""
    with ExitStack() as restoring:
        if gc.isenabled():
            gc.disable()
            restoring.callback(gc.enable)
        if "tvm" not in sys.modules:
            if os.environ.get(_DEVICES) == "0":
                _leave_out(_DISTRIBUTED, restoring)
            _keep_names(restoring)
        yield


def _leave_out(module: str, restoring: ExitStack) -> None:
    """Importing ``module`` fails at once: TVM does without it where it cannot be imported."""
    if module not in sys.modules:
        blocked: dict[str, ModuleType | None] = {module: None}
        sys.modules.update(blocked)  # type: ignore[arg-type]
        restoring.callback(sys.modules.pop, module, None)


def _keep_names(restoring: ExitStack) -> None:
    """TVM lists its global functions anew only where there are others."""
    from tvm_ffi import get_global_func, registry

    names = list[str]()

    def names_of_functions() -> list[str]:
        name_of = get_global_func("ffi.FunctionListGlobalNamesFunctor")()
        count = int(name_of(-1))
        if len(names) != count:
            names[:] = [name_of(number) for number in range(count)]
        return names

    restoring.callback(setattr, registry, "list_global_func_names", registry.list_global_func_names)
    registry.list_global_func_names = names_of_functions
