"""The folder of kept kernels: damage, limits, several processes, and what the user sets."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from motet.runtime.errors import SpecError
from motet.targets.host.kernel_cache import KernelCache, cache_of_environment, is_enabled

DATA = bytes(range(256)) * 4

# Each process writes, reads, evicts and clears; what is read is right or not there.
CROWD = """
import random, sys
from pathlib import Path
from motet.targets.host.kernel_cache import KernelCache

kept, chance, hits = KernelCache(Path(sys.argv[1]), 40_000), random.Random(sys.argv[2]), 0
for step in range(400):
    number = chance.randrange(8)
    data = bytes([number]) * 9_000
    found = kept.get(f"key{number}")
    assert found in (None, data), "another entry's bytes"
    hits += found is not None
    if found is None:
        kept.put(f"key{number}", data)
    if step % 10 == 0:
        kept.evict()
    if step % 150 == 149:
        kept.clear()
    kept.note(step, hits)
print("fine", hits > 0)
"""


def entries(cache: KernelCache) -> list[str]:
    return sorted(path.name for path in (cache.folder / "kernels").iterdir())


def test_what_was_put_is_found_again(tmp_path: Path):
    cache = KernelCache(tmp_path / "new" / "folder")
    assert cache.get("a") is None
    assert (cache.usage().entries, cache.clear().entries, cache.last_compile()) == (0, 0, None)
    cache.put("a", DATA)
    cache.put("b", b"")
    cache.put("a", DATA)
    assert (cache.get("a"), cache.get("b"), cache.get("c")) == (DATA, b"", None)
    assert KernelCache(cache.folder).get("a") == DATA
    assert cache.usage().entries == 2
    assert len(DATA) < cache.usage().size_bytes < len(DATA) + 200
    cache.note(3, 2)
    last = cache.last_compile()
    assert last is not None
    assert (last.kernels, last.hits) == (3, 2)
    assert abs(last.unix_seconds - time.time()) < 60
    assert cache.clear().entries == 2
    assert (cache.get("a"), cache.usage().entries, cache.last_compile()) == (None, 0, None)


@pytest.mark.parametrize(
    "damaged",
    [lambda old: b"", lambda old: old[:-1], lambda old: old[:20], lambda old: old + b"x",
     lambda old: old[:-5] + b"?" + old[-4:], lambda old: b"?" + old[1:]],
    ids=["empty", "short", "shorter than a digest", "long", "content", "digest"],
)  # fmt: skip
def test_a_damaged_entry_is_a_miss_and_goes(damaged, tmp_path: Path):
    cache = KernelCache(tmp_path)
    cache.put("a", DATA)
    path = tmp_path / "kernels" / "a.o"
    path.write_bytes(damaged(path.read_bytes()))
    assert cache.get("a") is None
    assert not path.exists()
    cache.put("a", DATA)
    assert cache.get("a") == DATA


def test_what_was_used_least_recently_goes_first(tmp_path: Path):
    cache = KernelCache(tmp_path, limit_bytes=5 * (len(DATA) + 32))
    for age, key in enumerate("fedcba"):
        cache.put(key, DATA)
        os.utime(tmp_path / "kernels" / f"{key}.o", (1000 - age, 1000 - age))
    assert cache.get("a") == DATA  # the oldest, but used just now
    assert cache.evict() == 2  # one for the limit, one so that there is room
    assert entries(cache) == ["a.o", "d.o", "e.o", "f.o"]
    assert cache.evict() == 0


def test_full_folders_are_looked_at_now_and_then(tmp_path: Path):
    cache = KernelCache(tmp_path, limit_bytes=0)
    cache.put("1a", DATA)
    assert cache.evict_after(["1a", "f0"]) == 0
    cache.put("0a", DATA)
    assert cache.evict_after(["1a", "0a"]) == 2
    assert entries(cache) == []


def test_half_written_files_of_killed_processes_go(tmp_path: Path):
    cache = KernelCache(tmp_path)
    cache.put("a", DATA)
    for name, age in (("old", 7200), ("new", 10)):
        path = tmp_path / "kernels" / f".half-{name}"
        path.write_bytes(b"")
        os.utime(path, (time.time() - age,) * 2)
    assert cache.evict() == 0
    assert entries(cache) == [".half-new", "a.o"]
    assert cache.usage().entries == 1


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    cache = KernelCache(tmp_path)
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space"):
        cache.put("a", DATA)
    assert entries(cache) == []


def test_a_folder_that_cannot_be(tmp_path: Path):
    (tmp_path / "file").write_text("")
    cache = KernelCache(tmp_path / "file")
    assert (cache.get("a"), cache.usage().entries, cache.last_compile()) == (None, 0, None)
    with pytest.raises(OSError, match="file"):
        cache.put("a", DATA)


def test_several_processes_at_once(tmp_path: Path):
    crowd = [
        subprocess.Popen(
            [sys.executable, "-c", CROWD, str(tmp_path), str(seed)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for seed in range(4)
    ]  # fmt: skip
    for process in crowd:
        out, err = process.communicate(timeout=60)
        assert (out.split(), err) == (["fine", "True"], "")
    assert not list((tmp_path / "kernels").glob(".half-*"))


def test_what_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path / "x"))
    assert cache_of_environment() == KernelCache(tmp_path / "x", 2**30)
    monkeypatch.setenv("MOTET_CACHE_BYTES", "4096")
    assert cache_of_environment().limit_bytes == 4096
    for wrong in ("1G", "-1", "1.5"):
        monkeypatch.setenv("MOTET_CACHE_BYTES", wrong)
        with pytest.raises(SpecError, match=r"MOTET_CACHE_BYTES is '.*', not a number of bytes"):
            cache_of_environment()
    monkeypatch.delenv("MOTET_CACHE_BYTES")
    monkeypatch.delenv("MOTET_CACHE_DIR")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_of_environment().folder == tmp_path / "motet"


def test_no_home(monkeypatch: pytest.MonkeyPatch):
    def unknown(_name: str) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.delenv("MOTET_CACHE_DIR", raising=False)
    monkeypatch.setattr("platformdirs.user_cache_path", unknown)
    with pytest.raises(SpecError, match="name a folder with MOTET_CACHE_DIR"):
        cache_of_environment()


@pytest.mark.parametrize(
    ("value", "expected"), [("0", False), ("off", False), ("No", False), ("1", True), ("", True)]
)
def test_switched_off(value: str, expected: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MOTET_CACHE", value)
    assert is_enabled() is expected
