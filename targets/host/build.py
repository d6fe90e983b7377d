"""From PrimFuncs to one shared object that needs no TVM at run time.

TVM compiles the kernels to one object file; the system's C compiler links it with the
thread pool of ``threads.c`` and the scratch memory of ``workspace.c``. The same kernels give
the same bytes: names inside the object do not depend on time or place, and the linker is told
to add no build id.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import tvm
from tvm.tirx import transform as tir

from motet.runtime.errors import EnvironmentLackError
from motet.targets.host.machine import Machine
from motet.targets.host.target import tvm_target

_SOURCES = ("threads.c", "workspace.c")
_COMPILE_FLAGS = ("-std=c11", "-O2", "-g0", "-fPIC", "-pthread", "-fvisibility=hidden", "-c")
_LINK_FLAGS = ("-shared", "-pthread", "-Wl,--build-id=none", "-Wl,-s")


def c_compiler() -> str:
    """The C compiler driver: ``$CC``, or cc, gcc or clang, whichever is found first.

    Raises
    ------
    EnvironmentLackError
        Where there is none; says what to install.
    """
    wanted = os.environ.get("CC")
    for name in (wanted,) if wanted else ("cc", "gcc", "clang"):
        if name and shutil.which(name):
            return name
    missing = f"the C compiler '{wanted}' that $CC names" if wanted else "a C compiler"
    raise EnvironmentLackError(
        f"{missing} was not found; it links the kernels of a bundle. Install one "
        "(Debian, Ubuntu: apt install gcc; Fedora: dnf install gcc) or point $CC at it"
    )


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
        tir.AnnotateEntryFunc(),
        tir.SplitHostDevice(),
        tir.MakePackedAPI(),
        tir.BF16StorageLegalize(),
        tir.LowerTVMBuiltin(),
        tir.LowerIntrin(),
    ]
    with target:
        return tvm.transform.Sequential(passes)(module)


def compile_object(kernels: Mapping[str, Any], machine: Machine) -> bytes:
    """The relocatable object file of ``kernels``, in the order of their names."""
    target = tvm_target(machine)
    functions = {n: kernels[n].with_attr("global_symbol", n) for n in sorted(kernels)}
    module = _lower(tvm.IRModule(functions), target)
    built = tvm.get_global_func("target.build.llvm")(module, target)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernels.o")
        built.write_to_file(str(path))
        return path.read_bytes()


@cache
def _support(compiler: str) -> dict[str, bytes]:
    """Object files of the C sources: name -> content. They are the same for every library."""
    with tempfile.TemporaryDirectory() as folder:
        for source in _SOURCES:
            shutil.copyfile(Path(__file__).with_name(source), Path(folder, source))
        _run([compiler, *_COMPILE_FLAGS, *_SOURCES], folder, "compile the thread pool")
        objects = [Path(source).with_suffix(".o").name for source in _SOURCES]
        return {name: Path(folder, name).read_bytes() for name in objects}


def link(kernels: bytes) -> bytes:
    """A shared object of an object file and the thread pool."""
    compiler = c_compiler()
    objects = {**_support(compiler), "kernels.o": kernels}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in objects.items():
            Path(folder, name).write_bytes(content)
        command = [compiler, *_LINK_FLAGS, *objects, "-lm", "-o", "kernels.so"]
        _run(command, folder, "link the kernels")
        return Path(folder, "kernels.so").read_bytes()


def _run(command: list[str], folder: str, what: str) -> None:
    """Run the C compiler in ``folder``, to do ``what``."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentLackError(
            f"'{command[0]}' could not {what}: {done.stderr.strip()[-800:]}; it must "
            "be a complete C tool chain with the C library's headers for this machine"
        )


def build_library(kernels: Mapping[str, Any], machine: Machine) -> bytes:
    """One ELF shared object with a function per kernel.

    Parameters
    ----------
    kernels : Mapping[str, tirx.PrimFunc]
        Symbol to scheduled kernel, as ``lower_unit`` makes them.
    machine : Machine
        What the code may use.

    Returns
    -------
    bytes
        The file's content; the same for the same arguments. ``tvm_ffi.load_module`` loads
        it without TVM.

    Raises
    ------
    EnvironmentLackError
        Where no C compiler can be run.
    """
    c_compiler()
    return link(compile_object(kernels, machine))
