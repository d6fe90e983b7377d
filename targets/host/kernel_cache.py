"""Object files of kernels, kept from one compilation to the next; nothing here imports tvm.

A folder with one file per object, named by a digest of all that the object depends on. So
entries never change and never go stale, and any number of processes share the folder
without locks: a file is written under another name and renamed, two writers of one entry
write the same bytes, and a file that vanishes is a miss. An entry begins with the SHA-256 of
its content; one that does not match it is removed and made again. Beyond the limit those go
that were read least recently (a hit sets the file's time).

``MOTET_CACHE_DIR`` names the folder (default: the user's cache folder), ``MOTET_CACHE_BYTES``
its limit (default 1 GiB), and ``MOTET_CACHE=0`` keeps and reads nothing.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec
import platformdirs

from motet.runtime.errors import SpecError

DEFAULT_LIMIT_BYTES = 2**30
_DIGEST_BYTES = hashlib.sha256().digest_size
_KEPT_OF_LIMIT = 0.9
"""What eviction leaves of the limit, so that it does not run at every compilation."""
_ABANDONED_SECONDS = 3600.0
"""Age of a half-written file whose writer must have been killed."""
_ENTRY = ".o"
_HALF_WRITTEN = ".half-"
_File = tuple[str, os.stat_result]
_OFF = ("0", "off", "no", "false")


class LastCompile(msgspec.Struct, frozen=True):
    """What the last compilation found: ``kernels`` in all, of which ``hits`` were kept."""

    kernels: int
    hits: int
    unix_seconds: float


@dataclass(frozen=True)
class Usage:
    """What the folder holds."""

    entries: int
    size_bytes: int


def is_enabled() -> bool:
    """Whether the environment leaves the cache on."""
    return os.environ.get("MOTET_CACHE", "").strip().lower() not in _OFF


def cache_of_environment() -> KernelCache:
    """The cache that the environment describes, on or off.

    Raises ``SpecError`` where ``MOTET_CACHE_BYTES`` is no size, or there is no home folder.
    """
    named = os.environ.get("MOTET_CACHE_DIR")
    try:
        folder = Path(named).expanduser() if named else platformdirs.user_cache_path("motet")
    except RuntimeError as error:
        raise SpecError(
            "there is no home folder to keep kernels in: name a folder with MOTET_CACHE_DIR"
        ) from error
    return KernelCache(folder.absolute(), _limit())


def _limit() -> int:
    text = os.environ.get("MOTET_CACHE_BYTES", "").strip()
    if not text:
        return DEFAULT_LIMIT_BYTES
    if not text.isdecimal():
        raise SpecError(f"MOTET_CACHE_BYTES is '{text}', not a number of bytes: write 1073741824")
    return int(text)


@dataclass(frozen=True)
class KernelCache:
    """The objects in ``folder``, at most ``limit_bytes`` of them."""

    folder: Path
    limit_bytes: int = DEFAULT_LIMIT_BYTES

    def check(self) -> None:
        """Raise ``SpecError`` where the folder is none, and none can be made there."""
        there = next(p for p in (self.folder, *self.folder.parents) if os.path.exists(p))  # noqa: PTH110
        if not there.is_dir():
            raise SpecError(
                f"{self.folder} can be no folder for kernels, as {there} is a file: "
                "name another with MOTET_CACHE_DIR"
            )
        if there != self.folder:
            _check_folders_in(there, self.folder)

    def get(self, key: str) -> bytes | None:
        """The object kept under ``key``; None where there is none, or a damaged one."""
        path = self._path(key)
        try:
            content = path.read_bytes()
        except OSError:
            return None
        digest, data = content[:_DIGEST_BYTES], content[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:
            _remove(path)
            return None
        _touch(path)
        return data

    def put(self, key: str, data: bytes) -> None:
        """Keep ``data`` under ``key``. Raises ``OSError`` where it cannot be written."""
        self._write(self._path(key), hashlib.sha256(data).digest() + data)

    def usage(self) -> Usage:
        """Entries and their bytes."""
        sizes = [found.st_size for _, found in self._entries()]
        return Usage(len(sizes), sum(sizes))

    def evict_after(self, keys: Iterable[str]) -> int:
        """``evict``, for about one in 16 of the ``keys`` that were put.

        Looking at every entry takes a while in a full folder (0.3 s for 40,000), and keys are
        digests: so the limit is passed by few entries at most, whoever writes them.
        """
        return self.evict() if any(key.startswith("0") for key in keys) else 0

    def evict(self) -> int:
        """Where the limit is passed, remove what was used least recently; how many went."""
        entries = sorted(self._entries(), key=lambda entry: entry[1].st_mtime_ns)
        size = sum(found.st_size for _, found in entries)
        self._remove_abandoned()
        if size <= self.limit_bytes:
            return 0
        removed = 0
        for path, found in entries:
            if size <= _KEPT_OF_LIMIT * self.limit_bytes:
                break
            _remove(Path(path))
            size -= found.st_size
            removed += 1
        return removed

    def clear(self) -> Usage:
        """Remove every entry; what there was."""
        entries = list(self._entries())
        for path, _ in entries:
            Path(path).unlink(missing_ok=True)
        self._last.unlink(missing_ok=True)
        return Usage(len(entries), sum(found.st_size for _, found in entries))

    def note(self, kernels: int, hits: int) -> None:
        """Remember what this compilation found. Raises ``OSError`` as ``put`` does."""
        self._write(self._last, msgspec.json.encode(LastCompile(kernels, hits, time.time())))

    def last_compile(self) -> LastCompile | None:
        """What the last compilation found; None where that is not known."""
        try:
            return msgspec.json.decode(self._last.read_bytes(), type=LastCompile)
        except (OSError, msgspec.DecodeError):
            return None

    @property
    def _objects(self) -> Path:
        return self.folder / "kernels"

    @property
    def _last(self) -> Path:
        return self.folder / "last_compile.json"

    def _path(self, key: str) -> Path:
        return self._objects / f"{key}{_ENTRY}"

    def _entries(self) -> Iterator[_File]:
        """Files of entries; those that another process removes meanwhile are left out."""
        yield from _files(self._objects, lambda name: name.endswith(_ENTRY))

    def _remove_abandoned(self) -> None:
        for path, found in _files(self._objects, lambda name: name.startswith(_HALF_WRITTEN)):
            if time.time() - found.st_mtime > _ABANDONED_SECONDS:
                _remove(Path(path))

    def _write(self, path: Path, content: bytes) -> None:
        """The whole file or none, whoever reads or writes it at the same time."""
        self._objects.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle, half = tempfile.mkstemp(prefix=_HALF_WRITTEN, dir=self._objects)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
            Path(half).replace(path)
        except BaseException:
            _remove(Path(half))
            raise


def _check_folders_in(there: Path, wanted: Path) -> None:
    """Raise ``SpecError`` where no folder can be made in ``there``, for ``wanted``."""
    try:
        Path(tempfile.mkdtemp(prefix=_HALF_WRITTEN, dir=there)).rmdir()
        with suppress(FileNotFoundError):
            wanted.stat()
    except OSError as error:
        raise SpecError(
            f"{wanted} cannot be made, to keep kernels in ({error.strerror}): "
            "name another folder with MOTET_CACHE_DIR"
        ) from error


def _files(folder: Path, is_wanted: Callable[[str], bool]) -> Iterator[_File]:
    """Files whose name is wanted; none where there is no such folder."""
    try:
        found = list(os.scandir(folder))
    except OSError:
        return
    for entry in found:
        if is_wanted(entry.name):
            try:
                yield entry.path, entry.stat()
            except OSError:
                continue


def _remove(path: Path) -> None:
    """Remove ``path`` if that is possible; another process may have done it."""
    try:
        path.unlink(missing_ok=True)
    except OSError:
        return


def _touch(path: Path) -> None:
    """Say that ``path`` was used; a folder that may only be read keeps its order."""
    try:
        os.utime(path)
    except OSError:
        return
