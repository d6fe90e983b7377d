r"""The ``.motet`` file: one bundle, every byte of it checked when it is opened.

Layout, little-endian::

    0   8 s   magic  b"\x89MOTET\r\n"
    8   u32   format version
    12  u32   zero
    16  u64   bytes of the manifest
    24  u64   bytes of the file
    32  32 s  SHA-256 of the 32 bytes before and the manifest (format 4: of the manifest)
    64        manifest (JSON), zeros up to a multiple of 64, then each section at a
              multiple of 64, zeros between them

The manifest lists the sections with offset, size and SHA-256. Sections: ``kernels``
(a shared object), ``weights`` (tensors at multiples of 64, mapped and not copied, or
packed in few bits and unpacked when the file is opened: ``weight_packing``),
``programs/MODEL`` (``program.encode``), and for an array ``array`` (its description)
and ``arrays/NAME`` (its programs). Equal content gives equal bytes: no time, no host
name, no order that depends on hashing goes in.
"""

from __future__ import annotations

import hashlib
import mmap
import os
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec
import numpy as np

from motet.runtime import program as programs
from motet.runtime.atomic import write_atomically
from motet.runtime.device import Array
from motet.runtime.errors import BundleError
from motet.runtime.manifest import Manifest, ModelEntry, Section, Source, Weight
from motet.runtime.memory import ALIGNMENT, align, bytes_of
from motet.runtime.pod_programs import verify_pod_programs
from motet.runtime.verify import verify_program, verify_wires
from motet.runtime.verify_timetable import verify_timetable
from motet.runtime.weight_packing import pack, packing_of, unpack

MAGIC = b"\x89MOTET\r\n"
FORMAT_VERSION = 5
_OLDEST_VERSION = 4
"""Which has no packed weights."""
_HEADER = struct.Struct("<8sIIQQ32s")
_DIGEST = 32
"""Where the digest stands."""


@dataclass(frozen=True)
class Bundle:
    """A compiled bundle, in memory or mapped from a file.

    ``path`` is the file it was read from. ``weights`` are read-only by contract.
    ``manifest.weights`` and ``.sections`` describe the file form and are empty until
    a bundle was written and read back.
    """

    manifest: Manifest
    programs: Mapping[str, programs.Program]
    weights: Sequence[Array]
    kernels: bytes
    array_description: bytes | None = None
    array_programs: Mapping[str, bytes] = field(default_factory=dict)
    path: Path | None = None

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the bundle; the file appears whole or not at all."""
        target = Path(path)
        try:
            write_atomically(target, _file_form(self.relative_to(target.parent)))
        except OSError as error:
            raise BundleError(f"cannot write the bundle {target}: {error.strerror}") from error
        return target

    def source_path(self, model: str) -> Path:
        """Where the ONNX file of ``model`` should be; it may have moved since."""
        entry = next(entry for entry in self.manifest.models if entry.name == model)
        folder = self.path.parent if self.path is not None else Path()
        return Path(os.path.normpath(folder / entry.source.path))

    def relative_to(self, folder: Path) -> Bundle:
        """The same bundle with source paths as seen from ``folder``."""

        def moved(entry: ModelEntry) -> ModelEntry:
            path = os.path.relpath(self.source_path(entry.name), folder)
            source = Source(Path(path).as_posix(), entry.source.sha256)
            return msgspec.structs.replace(entry, source=source)

        models = tuple(moved(entry) for entry in self.manifest.models)
        return replace(self, manifest=msgspec.structs.replace(self.manifest, models=models))


Chunks = Sequence[bytes | memoryview]
"""A part of the file in pieces: weights are written from where they are, without a copy."""


def _size(chunks: Chunks) -> int:
    return sum(map(len, chunks))


def _padded(chunks: Chunks) -> Chunks:
    size = _size(chunks)
    return [*chunks, bytes(align(size) - size)]


def _pack_weights(weights: Sequence[Array]) -> tuple[tuple[Weight, ...], Chunks]:
    index, chunks, offset = list[Weight](), list[bytes | memoryview](), 0
    for weight in weights:
        array = np.ascontiguousarray(weight, weight.dtype.newbyteorder("<"))
        packing = packing_of(array)
        index.append(Weight(offset, weight.dtype.name, tuple(weight.shape), packing))
        array = array if packing is None else pack(array, packing)
        chunks += _padded([bytes_of(array)])
        offset += align(array.nbytes)
    return tuple(index), chunks


def _parts(bundle: Bundle, weights: Chunks) -> dict[str, Chunks]:
    parts: dict[str, Chunks] = {
        f"programs/{name}": [programs.encode(program)]
        for name, program in sorted(bundle.programs.items())
    }
    if bundle.array_description is not None:
        parts["array"] = [bundle.array_description]
    parts |= {f"arrays/{name}": [data] for name, data in sorted(bundle.array_programs.items())}
    return parts | {"kernels": [bundle.kernels], "weights": weights}


def _place_sections(parts: Mapping[str, Chunks]) -> tuple[Section, ...]:
    sections, offset = list[Section](), 0
    for name, chunks in parts.items():
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
        sections.append(Section(name, offset, _size(chunks), digest.hexdigest()))
        offset = align(offset + _size(chunks))
    return tuple(sections)


def _file_form(bundle: Bundle) -> Iterator[bytes | memoryview]:
    """The bytes of the file, in order. Section offsets are relative to the manifest's end."""
    index, weights = _pack_weights(bundle.weights)
    parts = _parts(bundle, weights)
    manifest = msgspec.structs.replace(
        bundle.manifest, weights=index, sections=_place_sections(parts)
    )
    text = msgspec.json.encode(manifest, order="deterministic")
    start = align(_HEADER.size + len(text))
    total = start + sum(align(_size(chunks)) for chunks in parts.values())
    head = _HEADER.pack(MAGIC, FORMAT_VERSION, 0, len(text), total, b"")[:_DIGEST]
    yield (head + hashlib.sha256(head + text).digest() + text).ljust(start, b"\0")
    for chunks in parts.values():
        yield from _padded(chunks)


def to_bytes(bundle: Bundle) -> bytes:
    """The bundle's file form, as ``Bundle.save`` writes it."""
    return b"".join(_file_form(bundle))


def open_bundle(path: str | os.PathLike[str]) -> Bundle:
    """Map a ``.motet`` file and check every part of it.

    Raises ``BundleError`` for a file that is missing, no bundle, truncated, altered,
    or written by a newer Motet.
    """
    try:
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            memory = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY) if size else b""
    except OSError as error:
        raise BundleError(f"cannot open the bundle {path}: {error.strerror}") from error
    return _Reader(str(path), memory).bundle()


class _Reader:
    """Decodes and checks one mapped file."""

    def __init__(self, path: str, memory: mmap.mmap | bytes) -> None:
        self.path = path
        self.memory = memory
        self.data = memoryview(memory)

    def fail(self, why: str) -> BundleError:
        return BundleError(f"{self.path}: {why}")

    def bundle(self) -> Bundle:
        start, manifest = self.manifest()
        parts = {section.name: self.section(start, section) for section in manifest.sections}
        self.check_padding(start, manifest)
        wanted = {"kernels", "weights", *(f"programs/{m.name}" for m in manifest.models)}
        if missing := wanted - parts.keys():
            raise self.fail(f"parts are missing: {', '.join(sorted(missing))}")
        bundle = Bundle(
            manifest=manifest,
            programs={m.name: self.program(m.name, parts) for m in manifest.models},
            weights=[self.weight(weight, parts["weights"]) for weight in manifest.weights],
            kernels=bytes(parts["kernels"]),
            array_description=bytes(parts["array"]) if "array" in parts else None,
            array_programs={
                name.removeprefix("arrays/"): bytes(data)
                for name, data in parts.items()
                if name.startswith("arrays/")
            },
            path=Path(self.path),
        )
        for name, program in bundle.programs.items():
            verify_program(name, program, bundle.weights, bundle.array_programs)
        verify_pod_programs(manifest.pod_programs, bundle.programs, bundle.array_programs)
        verify_timetable(manifest.timetable, manifest.pod_programs, bundle.programs)
        verify_wires({model.name: model.wires for model in manifest.models}, bundle.programs)
        return bundle

    def manifest(self) -> tuple[int, Manifest]:
        if len(self.data) < _HEADER.size or bytes(self.data[:8]) != MAGIC:
            raise self.fail("this is not a Motet bundle")
        _, version, zero, size, total, digest = _HEADER.unpack_from(self.data)
        if version > FORMAT_VERSION:
            raise self.fail(
                f"the bundle has format {version}, this Motet reads up to {FORMAT_VERSION}: "
                "install a newer Motet or compile the bundle again"
            )
        if 0 < version < _OLDEST_VERSION:
            raise self.fail(
                f"the bundle has format {version}, this Motet reads {_OLDEST_VERSION} to "
                f"{FORMAT_VERSION}: compile the models again, or use the Motet that made it"
            )
        if version == 0 or zero or total != len(self.data):
            raise self.fail(
                f"the file is truncated or altered: {len(self.data)} bytes, its header says {total}"
            )
        text = self.data[_HEADER.size : _HEADER.size + size]
        head = b"" if version == _OLDEST_VERSION else bytes(self.data[:_DIGEST])
        if hashlib.sha256(head + bytes(text)).digest() != digest:
            raise self.fail("the manifest was altered (its SHA-256 differs)")
        try:
            manifest = msgspec.json.decode(text, type=Manifest)
        except msgspec.MsgspecError as error:
            raise self.fail(f"the manifest cannot be decoded: {error}") from error
        return align(_HEADER.size + size), manifest

    def section(self, start: int, section: Section) -> memoryview:
        begin = start + section.offset
        data = self.data[begin : begin + section.size]
        inside = section.offset >= 0 <= section.size == len(data)
        if section.offset % ALIGNMENT or not inside:
            raise self.fail(f"part {section.name!r} lies outside the file")
        if hashlib.sha256(data).hexdigest() != section.sha256:
            raise self.fail(f"part {section.name!r} was altered (its SHA-256 differs)")
        return data

    def check_padding(self, start: int, manifest: Manifest) -> None:
        end = _HEADER.size + _HEADER.unpack_from(self.data)[3]
        for section in sorted(manifest.sections, key=lambda s: s.offset):
            if any(self.data[end : start + section.offset]):
                raise self.fail(f"bytes before part {section.name!r} were altered")
            end = start + section.offset + section.size
        if any(self.data[end:]):
            raise self.fail("bytes after the last part were altered")

    def program(self, name: str, parts: Mapping[str, memoryview]) -> programs.Program:
        return programs.decode(bytes(parts[f"programs/{name}"]))

    def weight(self, weight: Weight, section: memoryview) -> Array:
        try:
            array: Array = (
                np.ndarray(weight.shape, weight.dtype, buffer=section, offset=weight.offset)
                if weight.packing is None
                else unpack(weight, weight.packing, section)
            )
        except (TypeError, ValueError, OverflowError, MemoryError) as error:
            raise self.fail(f"a weight's index entry is wrong: {error}") from error
        if weight.offset % ALIGNMENT or array.dtype.hasobject:
            raise self.fail(f"a weight's index entry is wrong: {weight}")
        return array
