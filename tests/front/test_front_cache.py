"""``motet cache``, ``motet compile --jobs --no-cache``, and compiling in several processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from front_outcome import Motet, assert_plain

import motet
from motet.compiler.compile import CompileOptions
from motet.targets.host.tuned_model import model_path
from motet.targets.host.tuning_store import FILE, Scope

MODEL = Path(__file__).parents[2] / "examples" / "models" / "digits_inception.onnx"

# No `if __name__ == "__main__"`: whoever imports this script again compiles again.
SCRIPT = """
import sys
import motet
from motet.compiler.compile import CompileOptions
from motet.targets.host import kernel_objects, worker_pool

started = []
start = worker_pool._started
worker_pool._started = lambda *arguments: started.append(start(*arguments)) or started[-1]
print("compiling", flush=True)
bundle = motet.compile(sys.argv[1], options=CompileOptions(jobs=2, cache=False))
print(len(started), [process.returncode for process in started], len(bundle.kernels) > 0)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache."""
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path / "kept"))
    return tmp_path / "kept"


def test_shown_and_cleared(run_motet: Motet, models: Path, folder: Path) -> None:
    empty = json.loads(run_motet("cache", "--json").out)
    assert empty == {
        "folder": str(folder), "enabled": True, "entries": 0, "size_bytes": 0,
        "limit_bytes": 2**30, "last_compile": None,
        "tuned": {"database": None, "database_bytes": 0, "models": 0, "models_bytes": 0},
    }  # fmt: skip
    for hits in (0, 1):
        assert run_motet("compile", models / "affine.onnx").code == 0
        facts = json.loads(run_motet("cache", "--json").out)
        assert facts["entries"] == 1
        assert facts["size_bytes"] == sum(p.stat().st_size for p in (folder / "kernels").iterdir())
        assert (facts["last_compile"]["kernels"], facts["last_compile"]["hits"]) == (1, hits)
    shown = run_motet("cache").out
    assert_plain(shown)
    assert str(folder) in shown
    assert "1 of 1 kernels were kept" in shown
    (folder / FILE).write_bytes(b"12345")
    scope = Scope("machine", "version", 1)
    model_path(folder, scope).write_bytes(b"123")
    shown = run_motet("cache").out
    assert "5 B of measurements in tuned.sqlite" in shown
    assert "cost models   1 trained here, 3 B" in shown
    cleared = json.loads(run_motet("cache", "--clear", "--json").out)
    assert json.loads(run_motet("cache", "--json").out)["tuned"] == {
        "database": str(folder / FILE), "database_bytes": 5, "models": 1, "models_bytes": 3,
    }  # fmt: skip
    for kept in (folder / FILE, model_path(folder, scope)):
        kept.unlink()
    assert cleared["removed_entries"] == 1
    assert cleared["removed_bytes"] == facts["size_bytes"]
    assert json.loads(run_motet("cache", "--json").out) == empty
    assert "removed 0 kernels" in run_motet("cache", "--clear").out


@pytest.mark.parametrize("off", ["--no-cache", "MOTET_CACHE"])
def test_nothing_is_kept_where_that_is_not_wanted(
    off: str, run_motet: Motet, models: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if off == "MOTET_CACHE":
        monkeypatch.setenv("MOTET_CACHE", "0")
    option = [] if off == "MOTET_CACHE" else [off]
    assert run_motet("compile", models / "affine.onnx", *option).code == 0
    assert not folder.exists()
    assert ("(off: MOTET_CACHE)" in run_motet("cache").out) == (off == "MOTET_CACHE")


def test_a_folder_that_cannot_be_written(run_motet: Motet, models: Path, folder: Path) -> None:
    folder.write_text("a file")
    outcome = run_motet("compile", models / "affine.onnx")
    assert outcome.code == 0
    [line] = outcome.err.splitlines()
    assert line.startswith("motet: warning: compiled kernels are not kept in ")
    assert "MOTET_CACHE_DIR" in line


@pytest.mark.parametrize(
    ("arguments", "environment", "expected"),
    [(["cache"], "1G", "MOTET_CACHE_BYTES is '1G'"),
     (["compile", "affine.onnx"], "1G", "MOTET_CACHE_BYTES is '1G'"),
     (["compile", "affine.onnx", "--jobs", "0"], "", "--jobs")],
)  # fmt: skip
def test_wrong_settings(
    arguments: list[str], environment: str, expected: str, run_motet: Motet, models: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("MOTET_CACHE_BYTES", environment)
    paths = [models / a if a.endswith(".onnx") else a for a in arguments]
    outcome = run_motet(*paths)
    assert (outcome.code, outcome.out) == (2, "")
    assert expected in outcome.err


def test_folders_that_cannot_be(
    run_motet: Motet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("x")
    for wrong in (tmp_path / "file", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        monkeypatch.setenv("MOTET_CACHE_DIR", str(wrong))
        for arguments in ([], ["--clear"]):
            outcome = run_motet("cache", *arguments)
            assert outcome.code == 2
            assert outcome.err.count("\n") == 1
            assert "MOTET_CACHE_DIR" in outcome.err
    monkeypatch.setenv("MOTET_CACHE_DIR", str(tmp_path / "not" / "yet"))
    assert run_motet("cache").code == 0
    assert not (tmp_path / "not").exists()


def test_same_bundle_with_any_jobs_and_any_cache(folder: Path, tmp_path: Path) -> None:
    ways = [CompileOptions(jobs=jobs, cache=kept) for jobs, kept in ((1, False), (2, True))]
    ways.append(CompileOptions(jobs=1, cache=True))
    files = []
    for number, options in enumerate(ways):
        bundle = motet.compile(MODEL, options=options)
        files.append(bundle.save(tmp_path / f"{number}.motet").read_bytes())
    assert files[0] == files[1] == files[2]
    assert list((folder / "kernels").iterdir())


def test_a_script_without_a_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), str(MODEL)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == ["compiling", f"1 [{-signal.SIGKILL}] True"]


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_compiler(sent: signal.Signals, tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "motet", "compile", str(MODEL), "--jobs", "2", "--no-cache"],
        cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        env={**os.environ, "TMPDIR": str(temporary)},
    )  # fmt: skip
    worker = _wait_for(lambda: next(iter(_children(process.pid)), None))
    process.send_signal(sent)
    process.wait(timeout=60)
    _wait_for(lambda: not Path(f"/proc/{worker}").exists() or None)
    assert list(tmp_path.iterdir()) == [temporary]
    assert not list(temporary.glob("motet-kernels-*"))


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == parent and b"serve" in _command(stat.parent):
            found.append(int(stat.parent.name))
    return found


def _command(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def _wait_for(condition):
    """What ``condition`` gives, once that is not None."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        result = condition()
        if result is not None:
            return result
        time.sleep(0.01)
    raise AssertionError(f"nothing happened (load {os.getloadavg()})")
