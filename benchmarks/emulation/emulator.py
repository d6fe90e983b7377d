"""Bochs as a machine that runs kernels: built program and firmware, disk, and what came out.

Needs the Debian packages ``bochs`` and ``gcc``. Bochs 2.7 (Debian 12) knows AVX-512 up to VNNI
(model ``corei7_icelake_u``); 3.0 (Debian 13) also AVX512-BF16 and AVX-VNNI
(``sapphire_rapids``). ``$BOCHS`` names another executable.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from motet.benchmarks.emulation.image import PROGRAM, Array, Call, Image
from motet.runtime.errors import EnvironmentLackError

MEMORY_MB = 512
_FOLDER = Path(__file__).parent
_FREESTANDING = (
    "-std=c11", "-O1", "-ffreestanding", "-fno-stack-protector", "-fno-pic",
    "-fcf-protection=none", "-mgeneral-regs-only", "-mno-red-zone", "-c",
)  # fmt: skip
_SETTINGS = """
cpu: model={model}, count=1, ips=1000000, reset_on_triple_fault=0
memory: guest={memory}, host={memory}
romimage: file={folder}/boot.rom
vgaromimage: file={vga}
ata0: enabled=1, ioaddr1=0x1f0, ioaddr2=0x3f0, irq=14
ata0-master: type=disk, mode=flat, path={folder}/disk.img, cylinders=0, heads=16, spt=63
display_library: {display}
log: {folder}/bochs.log
port_e9_hack: enabled=1
speaker: enabled=0
panic: action=fatal
error: action=report
info: action=ignore
"""
_VGA = ("/usr/share/bochs/VGABIOS-lgpl-latest", "/usr/share/vgabios/vgabios.bin")
_MODELS = ("sapphire_rapids", "corei7_icelake_u")
"""The CPUs to emulate, the first that Bochs knows."""
_SECONDS = 1200
_NOT_STARTED = ("_DYNAMIC", "__ehdr_start", "_init", "_fini", "_start", "main")
"""What the C library's start, which is linked but never run, asks for."""


@dataclass(frozen=True)
class Emulator:
    """A Bochs executable. debugger: whether it waits for commands before it runs."""

    command: str
    models: tuple[str, ...]
    debugger: bool
    displays: tuple[str, ...]

    @property
    def model(self) -> str:
        """The CPU that is emulated."""
        return next(name for name in _MODELS if name in self.models)

    def run(self, objects: Mapping[str, bytes], calls: Sequence[Call]) -> list[list[Array]]:
        """What the arrays of each call hold after it.

        Parameters
        ----------
        objects : Mapping[str, bytes]
            Symbol of a kernel to its object file; a call's number counts them in this order.
        calls : Sequence[Call]
            What to run, in this order.

        Raises
        ------
        RuntimeError
            Where a kernel failed, or ran into an instruction that the CPU lacks.
        """
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            program, entry = _program(folder, objects)
            image, disk = Image(program, entry, calls), folder / "disk.img"
            _write_disk(disk, image.to_bytes())
            self._start(folder)
            return image.results(disk.read_bytes())

    def _start(self, folder: Path) -> None:
        vga = next((path for path in _VGA if Path(path).is_file()), _VGA[0])
        said = ""
        for display in self.displays:
            text = _SETTINGS.format(
                model=self.model, memory=MEMORY_MB, folder=folder, vga=vga, display=display
            )
            (folder / "bochsrc").write_text(text, encoding="utf-8")
            said = self._output(folder)
            if "\nmotet: done" in said:
                return
            if "not available" not in said:
                break
        log = folder / "bochs.log"
        tail = log.read_text(encoding="utf-8", errors="replace")[-1500:] if log.is_file() else ""
        lines = [line for line in said.splitlines() if line.startswith("motet: ")]
        raise RuntimeError("\n".join(["the emulated machine failed", *lines, said[-1500:], tail]))

    def _output(self, folder: Path) -> str:
        (folder / "continue").write_text("c\n", encoding="utf-8")
        arguments = ["-rc", "continue"] if self.debugger else []
        done = subprocess.run(
            [self.command, "-q", "-f", "bochsrc", *arguments], cwd=folder, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=_SECONDS,
        )  # fmt: skip
        return done.stdout.decode("utf-8", "replace")


@cache
def find_emulator() -> Emulator:
    """The Bochs of this machine.

    Raises
    ------
    EnvironmentLackError
        Where there is none that knows AVX-512; says what to install.
    """
    command = os.environ.get("BOCHS", "bochs")
    if shutil.which(command) is None:
        raise EnvironmentLackError(
            f"'{command}' was not found; it runs kernels for instruction sets that this CPU "
            "lacks. Install it (Debian, Ubuntu: apt install bochs) or point $BOCHS at it"
        )
    models = tuple(_asked(command, "--help", "cpu").split())
    if not any(name in models for name in _MODELS):
        raise EnvironmentLackError(f"'{command}' emulates no CPU with AVX-512; 2.7 and later do")
    options = _asked(command, "--help")
    return Emulator(command, models, "-rc" in options, ("nogui", 'rfb, options="timeout=0"'))


def _asked(command: str, *arguments: str) -> str:
    done = subprocess.run(
        [command, *arguments], check=False, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, text=True, errors="replace",
    )  # fmt: skip
    return done.stdout


def _write_disk(path: Path, content: bytes) -> None:
    """A disk is made of whole cylinders of 16 heads and 63 sectors."""
    cylinder = 16 * 63 * 512
    path.write_bytes(content + bytes(-len(content) % cylinder))


def _program(folder: Path, objects: Mapping[str, bytes]) -> tuple[bytes, int]:
    """The kernels and what runs them as a flat binary; its entry. Leaves the firmware there."""
    for name, content in _support().items():
        (folder / name).write_bytes(content)
    names = []
    for number, content in enumerate(objects.values()):
        names.append(f"{number}.o")
        (folder / names[-1]).write_bytes(content)
    table = "".join(f".quad __tvm_ffi_{symbol}\n" for symbol in objects)
    source = f".section .rodata\n.balign 8\n.globl motet_kernels\nmotet_kernels:\n{table}"
    (folder / "table.s").write_text(source, encoding="utf-8")
    _tool(folder, "gcc", "-c", "table.s", "-o", "table.o")
    (folder / "objects.rsp").write_text("\n".join(names), encoding="utf-8")
    _tool(
        folder, "gcc", "-static", "-nostdlib", "-o", "program.elf", "-Wl,-e,motet_main",
        f"-Wl,-Ttext={PROGRAM:#x}", "-Wl,-N", "-Wl,-z,noexecstack", "-Wl,--build-id=none",
        *(f"-Wl,--defsym={name}=0" for name in _NOT_STARTED),
        "runner.o", "table.o", "@objects.rsp", "-Wl,--start-group", "-lm", "-lc", "-lgcc",
        "-lgcc_eh", "-Wl,--end-group",
    )  # fmt: skip
    _tool(
        folder, "objcopy", "-O", "binary", "--set-section-flags", ".bss=alloc,load,contents",
        "program.elf", "program.bin",
    )  # fmt: skip
    lines = _tool(folder, "readelf", "-hW", "program.elf").splitlines()
    entry = next(line.split()[-1] for line in lines if "Entry point" in line)
    return (folder / "program.bin").read_bytes(), int(entry, 16)


@cache
def _support() -> dict[str, bytes]:
    """Firmware and runner, built: file -> content."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _tool(folder, "gcc", *_FREESTANDING, str(_FOLDER / "runner.c"), "-o", "runner.o")
        _tool(folder, "gcc", "-c", str(_FOLDER / "boot.S"), "-o", "boot.o")
        _tool(folder, "ld", "-Ttext=0xf0000", "--oformat", "binary", "boot.o", "-o", "boot.rom")
        return {file: (folder / file).read_bytes() for file in ("runner.o", "boot.rom")}


def _tool(folder: Path, *command: str) -> str:
    if shutil.which(command[0]) is None:
        raise EnvironmentLackError(f"'{command[0]}' was not found; install it (apt install gcc)")
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]} failed: {done.stderr[-1500:]}")
    return done.stdout
