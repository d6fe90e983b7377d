"""What a command is given: a ``.motet`` file as it is, anything else compiled first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from motet import api
from motet.console import messages, progress
from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.errors import SpecError
from motet.tensors import parse_shapes


@dataclass(frozen=True)
class CompileRequest:
    """The compile options of a command line."""

    target: str | None = None
    shapes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    print_ir_after: tuple[str, ...] = ()
    time_passes: bool = False


def compile_files(files: Sequence[str], request: CompileRequest) -> Bundle:
    """Compile ``.onnx`` files or one ``.toml`` specification, with progress on stderr."""
    from motet.compiler.compile import CompileOptions
    from motet.compiler.pipeline import Hooks

    is_spec = len(files) == 1 and Path(files[0]).suffix == ".toml"
    stray = next((f for f in files if Path(f).suffix != ".onnx"), None)
    if stray is not None and not is_spec:
        raise SpecError(f"{stray}: give one .toml specification or .onnx files")
    hooks = Hooks(print_after=frozenset(request.print_ir_after), write=print)
    with progress("compile") as show:
        bundle = api.compile(
            files[0] if is_spec else list(files),
            target=request.target,
            shapes=parse_shapes(request.shapes),
            settings=request.settings,
            options=CompileOptions(hooks, show),
        )
    if request.time_passes:
        for name, time in hooks.seconds.items():
            messages().print(f"{name:20} {time:8.3f} s")
    return bundle


def open_or_compile(file: str, request: CompileRequest) -> Bundle:
    """A ``.motet`` file, or the bundle that a ``.onnx`` or ``.toml`` file compiles to."""
    if Path(file).suffix in (".onnx", ".toml"):
        return compile_files([file], request)
    if request.target or request.shapes or request.settings:
        raise SpecError(f"{file} is compiled already: --target, --shape and --set do not apply")
    return open_bundle(file)
