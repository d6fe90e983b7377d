"""From kernels to one shared object that needs no TVM at run time.

TVM compiles each kernel to an object file (``object_code``, ``kernel_objects``); the system's
C compiler links them with the thread pool of ``threads.c``, the stages of ``forks.c`` and the
scratch memory of ``workspace.c``. The same kernels give the same bytes: names inside the
objects do not depend on time or place, and the linker is told to add no build id.
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

from motet.runtime.errors import EnvironmentLackError
from motet.targets.host.kernel_objects import KernelObjects
from motet.targets.host.machine import Machine

_SOURCES = ("forks.c", "threads.c", "workspace.c")
_COMPILE_FLAGS = ("-std=c11", "-O2", "-g0", "-fPIC", "-pthread", "-fvisibility=hidden", "-c")
_LINK_FLAGS = ("-shared", "-pthread", "-Wl,--build-id=none", "-Wl,-s")
_ARGUMENTS = "objects.rsp"


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


@cache
def _support(compiler: str) -> dict[str, bytes]:
    """Object files of the C sources: name -> content. They are the same for every library."""
    with tempfile.TemporaryDirectory() as folder:
        for source in _SOURCES:
            shutil.copyfile(Path(__file__).with_name(source), Path(folder, source))
        _run([compiler, *_COMPILE_FLAGS, *_SOURCES], folder, "compile the thread pool")
        objects = [Path(source).with_suffix(".o").name for source in _SOURCES]
        return {name: Path(folder, name).read_bytes() for name in objects}


def link(kernels: Mapping[str, bytes]) -> bytes:
    """A shared object of the object files of kernels (symbol -> content) and the thread pool.

    Raises ``EnvironmentLackError`` where no C compiler can be run.
    """
    compiler = c_compiler()
    own = {f"{number}.o": kernels[symbol] for number, symbol in enumerate(sorted(kernels))}
    objects = {**_support(compiler), **own}
    with tempfile.TemporaryDirectory() as folder:
        for name, content in objects.items():
            Path(folder, name).write_bytes(content)
        # A file of arguments: a command line may be too short for thousands of kernels.
        Path(folder, _ARGUMENTS).write_text("\n".join(objects), encoding="utf-8")
        command = [compiler, *_LINK_FLAGS, f"@{_ARGUMENTS}", "-lm", "-o", "kernels.so"]
        try:
            _run(command, folder, "link the kernels")
        except EnvironmentLackError as error:
            _raise_of_other_target(compiler, objects, error)
            raise
        return Path(folder, "kernels.so").read_bytes()


_ELF_MACHINES = {62: "x86_64", 183: "aarch64"}
"""``e_machine`` of ELF's header (System V ABI): the instruction set of an object file."""


def _instruction_set(content: bytes) -> str:
    """That of an ELF object file, little-endian, as ``platform.machine()`` spells it."""
    number = int.from_bytes(content[18:20], "little")
    return _ELF_MACHINES.get(number, f"ELF machine {number}")


def _raise_of_other_target(
    compiler: str, objects: Mapping[str, bytes], error: EnvironmentLackError
) -> None:
    """Where ``compiler`` makes code for another CPU than the kernels': say which is needed."""
    own = _instruction_set(objects[Path(_SOURCES[0]).with_suffix(".o").name])
    others = {_instruction_set(content) for content in objects.values()} - {own}
    if not others:
        return
    (target,) = others
    package = f"gcc-{target.replace('_', '-')}-linux-gnu"
    raise EnvironmentLackError(
        f"the kernels are for {target}, and '{compiler}' links for {own}: point $CC at a C "
        f"compiler for {target}, as in CC={target}-linux-gnu-gcc (Debian, Ubuntu: apt install "
        f"{package}), or leave out host.cpu to compile for this machine"
    ) from error


def _run(command: list[str], folder: str, what: str) -> None:
    """Run the C compiler in ``folder``, to do ``what``."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise EnvironmentLackError(
            f"'{command[0]}' could not {what}: {done.stderr.strip()[-800:]}; it must "
            "be a complete C tool chain with the C library's headers for this machine"
        )


def build_library(kernels: Mapping[str, Any], machine: Machine) -> bytes:
    """One ELF shared object with a function per kernel, made in this process and not kept.

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
    with KernelObjects(machine, jobs=1) as objects:
        for symbol, kernel in kernels.items():
            objects.add(symbol, kernel)
        return link(objects.finish())
