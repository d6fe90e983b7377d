"""From one scheduled kernel to one object file.

Every kernel becomes an object file of its own, so that kernels can be compiled in several
processes and kept for the next compilation. An object depends on nothing but its symbol,
its loops (``encoded`` writes both down, constants included, without loss), the machine and
the code of this file and of TVM (``code_version``): names inside it do not depend on time,
place or process.
"""

from __future__ import annotations

import hashlib
import tempfile
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import tvm
from tvm.target import codegen
from tvm.tirx import transform as tir

from motet.targets.host import target as target_module
from motet.targets.host.machine import Machine
from motet.targets.host.target import tvm_target

_OPTIMISATION_LEVEL = 2
"""TVM's default; said here so that a ``PassContext`` around the compiler changes no kernel."""


def encoded(symbol: str, kernel: Any) -> str:
    """``kernel`` (a ``tirx.PrimFunc``) under ``symbol`` as text, for ``compile_encoded``."""
    return str(tvm.ir.save_json(kernel.with_attr("global_symbol", symbol)))


def compile_encoded(text: str, machine: Machine) -> bytes:
    """The object file of a kernel that ``encoded`` wrote, for ``machine``."""
    return _object_of(tvm.ir.load_json(text), machine)


def compile_kernel(symbol: str, kernel: Any, machine: Machine) -> bytes:
    """The object file of ``kernel`` under ``symbol``; equal to that of its encoded form."""
    return _object_of(kernel.with_attr("global_symbol", symbol), machine)


def object_key(text: str, machine: Machine) -> str:
    """The name under which the object of the kernel ``text`` is kept; 64 hex digits.

    It changes with all that can change the object.
    """
    digest = hashlib.sha256(code_version().encode())
    for part in (repr(machine), str(tvm_target(machine)), text):
        digest.update(b"\0" + part.encode())
    return digest.hexdigest()


@cache
def code_version() -> str:
    """Versions of the packages that make object code, and a digest of this project's part."""
    packages = [f"{name} {version(name)}" for name in ("apache-tvm", "apache-tvm-ffi")]
    sources = b"".join(Path(str(file)).read_bytes() for file in (__file__, target_module.__file__))
    digest = hashlib.sha256(sources).hexdigest()
    return ", ".join([*packages, f"LLVM {codegen.llvm_version_major()}", digest])


def _object_of(kernel: Any, machine: Machine) -> bytes:
    target = tvm_target(machine)
    with tvm.transform.PassContext(opt_level=_OPTIMISATION_LEVEL):
        module = _lower(tvm.IRModule({str(kernel.attrs["global_symbol"]): kernel}), target)
        built = tvm.get_global_func("target.build.llvm")(module, target)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "kernel.o")
            built.write_to_file(str(path))
            return path.read_bytes()


def _lower(module: tvm.IRModule, target: tvm.target.Target) -> tvm.IRModule:
    passes = [
        tir.BindTarget(target),
        tir.StmtSimplify(),
        tir.FlattenBuffer(),
        tir.BF16ComputeLegalize(),
        tir.NarrowDataType(32),
        tir.VectorizeLoop(True),
        tir.UnrollLoop(),
        tir.StmtSimplify(),
        tir.RemoveNoOp(),
        tir.SplitHostDevice(),
        tir.MakePackedAPI(),
        tir.BF16StorageLegalize(),
        tir.LowerTVMBuiltin(),
        tir.LowerIntrin(),
    ]
    with target:
        return tvm.transform.Sequential(passes)(module)
