"""What a command is given: a ``.motet`` file as it is, anything else compiled first."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryFile

from motet import api
from motet.console import progress, warn, without_tvm_warnings
from motet.placement_words import idle_models
from motet.runtime.bundle import Bundle, open_bundle
from motet.runtime.errors import BundleError, SpecError
from motet.runtime.late import late_symbols
from motet.runtime.manifest import ModelEntry
from motet.runtime.program import Program
from motet.runtime.shapes import is_static, render_shape, symbols_of
from motet.targets.pictures import PICTURES, kind_of
from motet.tensors import parse_shapes, parse_values

Accept = Callable[[str], None]
"""Told the target before time is spent on compiling; raises where it will not do."""


@dataclass(frozen=True)
class CompileRequest:
    """The compile options of a command line.

    jobs, cache, tuned: as in ``CompileOptions``.
    """

    target: str | None = None
    shapes: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    operators: tuple[str, ...] = ()
    print_ir_after: tuple[str, ...] = ()
    verify_passes: bool = False
    jobs: int | None = None
    cache: bool = True
    tuned: bool = True


_CODE = ("kernel ", "array program ", "library of ")
"""How the steps begin that make code of units."""


@dataclass
class Insight:
    """What compiling shows on the way: TVMScript after passes, seconds per pass, and those of
    making host kernels (lowering, compiling and linking) and array programs after them.
    """

    ir: list[str] = field(default_factory=list)
    pass_seconds: dict[str, float] = field(default_factory=dict)
    code_seconds: float = 0.0
    _code_started: float | None = None

    def step(self, line: str) -> None:
        """Take a line that progress shows."""
        if self._code_started is None and line.startswith(_CODE):
            self._code_started = time.perf_counter()

    def done(self) -> None:
        """The bundle is made."""
        if self._code_started is not None:
            self.code_seconds = time.perf_counter() - self._code_started


def compile_files(
    files: Sequence[str],
    request: CompileRequest,
    insight: Insight | None = None,
    timetable: Path | None = None,
) -> Bundle:
    """Compile ``.onnx`` files or one ``.toml`` specification.

    Progress and warnings go to stderr; ``insight`` is filled even where a pass fails.
    """
    insight = insight if insight is not None else Insight()
    is_spec = len(files) == 1 and Path(files[0]).suffix == ".toml"
    stray = next((f for f in files if Path(f).suffix != ".onnx"), None)
    if stray is not None and not is_spec:
        raise SpecError(f"{stray}: give one .toml specification or .onnx files")
    check_files(files)
    shapes, values = parse_shapes(request.shapes), parse_values(request.values)
    api.compiler()
    from motet.compiler.compile import CompileOptions
    from motet.compiler.pipeline import Hooks

    with without_tvm_warnings(), progress("compile") as shown:

        def show(line: str) -> None:
            insight.step(line)
            shown(line)

        hooks = Hooks(
            print_after=frozenset(request.print_ir_after),
            verify=request.verify_passes,
            write=insight.ir.append,
            on_step=lambda name: show(f"pass {name}"),
            seconds=insight.pass_seconds,
        )
        bundle = api.compile(
            files[0] if is_spec else list(files),
            target=request.target,
            shapes=shapes,
            values=values,
            settings=request.settings,
            operators=request.operators,
            timetable=timetable,
            options=CompileOptions(hooks, show, request.jobs, request.cache, warn, request.tuned),
        )
        insight.done()
    _warn_of_open_sizes(bundle, is_spec)
    return bundle


def check_files(files: Sequence[str]) -> None:
    """Raise ``SpecError`` for a path where no file is."""
    absent = next((f for f in files if not Path(f).is_file()), None)
    if absent is not None:
        why = "is not a file" if Path(absent).exists() else "there is no such file"
        raise SpecError(f"{absent}: {why}")


def open_or_compile(file: str, request: CompileRequest, accept: Accept | None = None) -> Bundle:
    """A ``.motet`` file, or the bundle that a ``.onnx`` or ``.toml`` file compiles to."""
    if is_source(file):
        if accept is not None:
            accept(target_of(file, request))
        return compile_files([file], request)
    if Path(file).suffix != ".motet" and not Path(file).is_file():
        raise BundleError(f"{file}: give a .motet bundle, an .onnx model or a .toml specification")
    refuse_compile_options(file, request)
    bundle = open_bundle(file)
    if accept is not None:
        accept(bundle.manifest.target)
    return bundle


def refuse_compile_options(file: str, request: CompileRequest) -> None:
    """Raises ``SpecError`` where a bundle comes with options of its compilation; a file that
    is not there is another matter.
    """
    given = (request.target, request.shapes, request.values, request.operators, request.settings)
    if any(given) and Path(file).is_file():
        raise SpecError(
            f"{file} is compiled already: --target, --shape, --value, --operator-file and --set do "
            "not apply; give the .onnx or .toml file with them (an input of open shape takes that "
            "of its value: --input NAME=@x.npy)"
        )


def is_source(file: str) -> bool:
    """Whether ``file`` has to be compiled."""
    return Path(file).suffix in (".onnx", ".toml")


def target_of(file: str, request: CompileRequest) -> str:
    """The target that a model or specification will be compiled for."""
    check_files([file])
    return api.specification(file, request.target, {}, request.settings).target


def check_destination(path: Path, option: str, made_of: str = "") -> Path:
    """``path``, once it is sure that a file can be written there; ``option`` is who asks.

    made_of: how files of this command begin; one that does may be written over though its
    name is that of a specification.
    """
    if is_source(str(path)) and not (made_of and _begins(path, made_of)):
        raise SpecError(f"{option} {path}: this would overwrite a model or a specification")
    return _writable(path, option)


def check_picture(path: Path, option: str = "--plot") -> Path:
    """``path``, once it is sure that a picture can be written there."""
    kind = kind_of(path)
    if kind not in PICTURES and not is_source(str(path)):
        names = ", ".join(f".{one}" for one in PICTURES)
        raise SpecError(f"{option} {path}: no picture ends in .{kind}: name it {names}")
    return check_destination(path, option)


def check_model_destination(path: Path, source: Path, option: str) -> Path:
    """``path``, once it is sure that an ONNX file made of ``source`` can be written there."""
    if path.suffix != ".onnx":
        raise SpecError(f"{option} {path}: give a name that ends in .onnx")
    if path.exists() and source.exists() and path.samefile(source):
        raise SpecError(f"{option} {path}: this would overwrite the model that is read")
    return _writable(path, option)


def _writable(path: Path, option: str) -> Path:
    folder = path.parent
    if path.exists() and not path.is_file():
        raise SpecError(f"{option} {path}: is not a regular file")
    if not folder.is_dir():
        raise SpecError(f"{option} {path}: there is no folder {folder}")
    try:
        with TemporaryFile(dir=folder):  # also a folder that is writable may take no files: /proc
            return path
    except OSError as error:
        raise SpecError(f"{option} {path}: the folder {folder} is not writable") from error


def _begins(path: Path, text: str) -> bool:
    """Whether ``path`` is not there yet, or begins with ``text``."""
    if path.suffix == ".onnx":
        return False
    try:
        return not path.exists() or path.read_text(encoding="utf-8").startswith(text)
    except (OSError, UnicodeDecodeError):
        return False


def _warn_of_open_sizes(bundle: Bundle, is_spec: bool) -> None:
    """Array programs have static shapes: say so where open ones kept a model off the array."""
    if not any(record.name == "place" for record in bundle.manifest.passes):
        return
    several = len(bundle.manifest.models) > 1
    idle = idle_models(bundle)
    for entry in bundle.manifest.models:
        program = bundle.programs[entry.name]
        late = late_symbols(program)
        on_host = [symbols_of(o.macs) for o in program.operators if o.target == "host"]
        kept = sum(bool(symbols) and symbols.isdisjoint(late) for symbols in on_host)
        by_data = sum(not symbols.isdisjoint(late) for symbols in on_host)
        if kept:
            whose = f"model {entry.name!r}, input"
            if entry.name in idle:
                whose = f"nothing of model {entry.name!r} runs on the array: its input"
            warn(f"{whose} {_open_sizes(entry, program, kept, several, is_spec)}")
        elif entry.name in idle:
            warn(idle[entry.name])
        if by_data:
            warn(
                f"model {entry.name!r}: the sizes of {by_data} of its products depend on data, so "
                "they stay on the host"
            )


def _open_sizes(
    entry: ModelEntry, program: Program, kept: int, several: bool, is_spec: bool
) -> str:
    given = next(info for info in program.inputs if not is_static(info.shape))
    sizes = [size if isinstance(size, int) else 1 for size in given.shape]
    remedy = (
        f"--shape {entry.name + '.' if several else ''}{given.name}:{'x'.join(map(str, sizes))}"
    )
    if is_spec:
        remedy += f", or shapes = {{ {given.name!r} = {sizes} }} in [models.{entry.name}]"
    return (
        f"{given.name!r} ({render_shape(given.shape)}) has open sizes, "
        f"so {kept} of its products stay on the host: fix them, as in {remedy}"
    )
