"""TVM's import for a process of our own: what is left out, and what is not."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

pytest.importorskip("tvm")


def _python(*lines: str) -> str:
    program = "\n".join(["import gc, json, os, sys", *lines])
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


_QUICK = (
    "from motet.targets.quick_tvm import quick_imports, without_devices",
    "without_devices()",
    "with quick_imports():",
    "    collecting = gc.isenabled()",
    "    import tvm",
    "import tvm_ffi",
)
_FUNCTIONS = (
    "apis = [m for name, m in sorted(sys.modules.items())",
    "        if name.startswith('tvm.') and name.endswith('_ffi_api')",
    "        and 'disco' not in name and 'cuda' not in name]",
    "print(json.dumps([m.__name__ + '.' + f for m in apis for f in sorted(vars(m))]))",
)


def test_every_function_of_tvm_is_found_that_a_plain_import_finds() -> None:
    quick = json.loads(_python(*_QUICK, *_FUNCTIONS))
    plain = json.loads(_python("import tvm", *_FUNCTIONS))
    assert quick == plain
    assert len(quick) > 500


def test_other_devices_are_left_out() -> None:
    seen = json.loads(_python(*_QUICK, "print(json.dumps(sorted(sys.modules)))"))
    assert "tvm.relax" in seen
    assert "tvm.backend.cuda.ptx" not in seen


def test_the_environment_keeps_other_devices() -> None:
    asked = "os.environ['TVM_DEVICE_BACKEND_AUTOLOAD'] = '1'"
    assert "True" in _python(asked, *_QUICK, "print('tvm.backend.cuda.ptx' in sys.modules)")


def test_what_is_changed_while_importing_is_put_back() -> None:
    state = (
        "print(json.dumps([collecting, gc.isenabled(), 'tvm.runtime.disco' in sys.modules,",
        "    tvm_ffi.registry.list_global_func_names.__module__]))",
    )
    assert json.loads(_python(*_QUICK, *state)) == [False, True, False, "tvm_ffi.registry"]
