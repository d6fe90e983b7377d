"""Run the tests of the CPU kernels as an instruction set computes that this machine lacks.

    python -m motet.benchmarks.emulated_kernels [--cpu x86-64-v4-vnni] [PYTEST ARGUMENTS]

Compiles the kernels of the tests in tests/targets/host (or those that the arguments name) for
``--cpu``, runs each in Bochs, an interpreter of x86, on the test's own inputs, and lets the test
compare the results with numpy and onnx as it always does. A kernel takes about a second. Tests
that compile whole bundles and run them can be named too (tests/integration).

Needs this repository, pytest, and the Debian packages bochs and gcc. Bochs 2.7 (Debian 12) knows
AVX-512 up to VNNI; AVX512-BF16 and AVX-VNNI need 3.0 (Debian 13). BOCHS=PATH names another one.
Where there is none, it says so and ends with 0 unless ``--require`` is given.

Tests that load libraries by themselves are left out (``OWN_LIBRARIES``).
"""

from __future__ import annotations

import ctypes
import pickle
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import numpy as np

from motet.benchmarks.command_help import help_of
from motet.benchmarks.emulation.emulator import Emulator, find_emulator
from motet.benchmarks.emulation.image import Array, Call
from motet.console import output
from motet.errors import EnvironmentLackError

TESTS = "tests/targets/host"
OWN_LIBRARIES = (
    "test_host_library.py", "test_host_properties.py", "test_kernel_cache.py",
    "test_kernel_objects.py", "test_meta_schedule.py", "test_tuning.py", "test_tuning_store.py",
    "test_cost_model.py", "test_machine.py",
)  # fmt: skip
"""Files whose subject is not what a kernel computes."""
_CPUS = ("x86-64-v3", "x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-vnni", "x86-64-v4-bf16")
_NEW = ("x86-64-v3-vnni", "x86-64-v4-bf16")
"""What Bochs emulates from 3.0 on."""
_NEWEST = {"sapphire_rapids": "x86-64-v4-bf16", "corei7_icelake_u": "x86-64-v4-vnni"}
"""What the emulated CPUs have."""
_SETTINGS = "_hypothesis_internal_use_settings"
"""Where hypothesis keeps a test's settings, which may ask for more examples than time allows."""


class EmulatedRuns:
    """A pytest plugin: ``native`` is ``cpu``, and kernels run in the emulator."""

    def __init__(self, emulator: Emulator, cpu: str, examples: int) -> None:
        machine: Any = import_module("motet.targets.host.machine")
        self.emulator, self.examples, self.runs = emulator, examples, Counter[str]()
        self.machine = chosen = machine.machine_for(cpu)
        machine.native_machine = lambda: chosen
        newest = machine.machine_for(_NEWEST[emulator.model]).required_features
        machine.cpu_flags = lambda: frozenset((*newest, *chosen.required_features))

    def pytest_collection_modifyitems(self, items: Sequence[Any]) -> None:
        """Test modules, and with them the runner, are there."""
        import hypothesis

        sys.path.append(str(Path(TESTS).resolve()))
        runner: Any = import_module("kernel_runner")
        runner.run_kernel = self.run
        self.take_bundles()
        for test in (getattr(item, "obj", None) for item in items):
            if hasattr(test, _SETTINGS):
                kept = getattr(test, _SETTINGS)
                few = hypothesis.settings(
                    kept, max_examples=min(kept.max_examples, self.examples), database=None
                )
                setattr(test, _SETTINGS, few)

    def take_bundles(self) -> None:
        """Bundles are made of object files, and their kernels run in the emulator."""
        compiling: Any = import_module("motet.compiler.compile")
        session: Any = import_module("motet.runtime.session")
        library: Any = import_module("motet.runtime.kernels").KernelLibrary
        compiling.link = pickle.dumps
        session.require_features = lambda _required: None
        library.__init__ = _load
        library.function = lambda loaded, symbol: partial(self.call, loaded.objects, symbol)
        library.set_threads = lambda _loaded, _count: None
        library.threads = 1

    def call(self, objects: Mapping[str, bytes], symbol: str, *tensors: Any) -> None:
        """A kernel of a bundle on tensors in memory."""
        arrays = [np.from_dlpack(tensor) for tensor in tensors]
        (results,) = self.emulator.run({symbol: objects[symbol]}, [Call(0, arrays)])
        for array, result in zip(arrays, results, strict=True):
            ctypes.memmove(array.ctypes.data, result.ctypes.data, array.nbytes)
        self.runs["bundles"] += 1

    def run(self, _folder: Path, kernel: Any, machine: Any, arrays: Sequence[Array]) -> list[Array]:
        """``run_kernel`` of the tests' runner."""
        from motet.targets.host.object_code import compile_kernel

        code = compile_kernel("kernel", kernel, machine)
        (result,) = self.emulator.run({"kernel": code}, [Call(0, arrays)])
        self.runs["+".join([machine.mcpu, *machine.extensions])] += 1
        return result


def _load(library: Any, data: bytes, threads: int | None = None) -> None:
    """In place of ``KernelLibrary.__init__``."""
    library.objects = pickle.loads(data)


@click.command(
    help=help_of(__doc__),
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.option("--cpu", default="x86-64-v4-vnni", show_default=True, type=click.Choice(_CPUS))
@click.option("--examples", default=3, show_default=True, help="Of a test over random problems.")
@click.option("--require", is_flag=True, help="Fail where there is no emulator.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def main(cpu: str, examples: int, require: bool, arguments: Sequence[str]) -> None:
    """Run the tests and say how many kernels were run."""
    try:
        emulator = find_emulator()
        if cpu in _NEW and emulator.model != "sapphire_rapids":
            raise EnvironmentLackError(f"'{emulator.command}' emulates no {cpu}; Bochs 3.0 does")
    except EnvironmentLackError as error:
        output().print(f"skipped: {error}", markup=False)
        sys.exit(1 if require else 0)
    sys.exit(tested(EmulatedRuns(emulator, cpu, examples), arguments))


def tested(plugin: EmulatedRuns, arguments: Sequence[str]) -> int:
    """The exit code of pytest."""
    import pytest

    if not Path(TESTS).is_dir():
        raise click.ClickException(f"there is no {TESTS} here: start it in the repository")
    left_out = [f"--ignore-glob=*/{name}" for name in OWN_LIBRARIES]
    own = any(Path(a.partition("::")[0]).exists() for a in arguments)
    paths = [] if own else [TESTS]
    code = pytest.main(["-p", "no:cacheprovider", *left_out, *paths, *arguments], plugins=[plugin])
    counts = ", ".join(f"{count} for {mcpu}" for mcpu, count in plugin.runs.items()) or "none"
    model = plugin.emulator.model
    output().print(f"kernels run on an emulated {model}: {counts}", markup=False)
    return int(code)


if __name__ == "__main__":
    main()
