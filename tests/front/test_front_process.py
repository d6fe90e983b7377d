"""The command as a process: pipes, signals, terminals, and what C++ writes to stderr."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from front_outcome import Motet

from motet import cli
from motet.console import messages, output, print_json, quantity, seconds, without_tvm_warnings
from motet.runtime.session import ModelSession

EXAMPLES = Path(__file__).parents[2] / "examples"
MOTET = (sys.executable, "-m", "motet")
TVM_LINE = "[02:23:43] /project/src/relax/ir/block_builder.cc:67: Warning: BlockBuilder destroyed"


def start(folder: Path, *arguments: object, **options: Any) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*MOTET, *map(str, arguments)], cwd=folder, text=True, stderr=subprocess.PIPE, **options
    )


def test_a_reader_that_leaves_early(inception: Path, tmp_path: Path) -> None:
    for arguments in (("inspect", inception), ("simulate", inception, "--json")):
        with start(tmp_path, *arguments, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            process.stdout.close()
            _, err = process.communicate(timeout=60)
            assert (process.returncode, err) == (0, "")


def test_a_failed_check_fails_though_nobody_reads(mobile: Path, tmp_path: Path) -> None:
    with start(tmp_path, "check", mobile, "--atol", "0", stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        _, err = process.communicate(timeout=60)
        assert (process.returncode, err) == (1, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_streams_that_are_closed(small: Path, tmp_path: Path, closed: str) -> None:
    for arguments, code in ((f"inspect {small}", 0), ("inspect nowhere.motet", 2)):
        command = f"{sys.executable} -m motet {arguments} {closed}"
        done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == code
        assert "Traceback" not in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
def test_a_full_disk(small: Path, tmp_path: Path) -> None:
    with Path("/dev/full").open("w") as full:
        process = start(tmp_path, "inspect", small, "--json", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert err.startswith("motet: error: ")
    assert "No space left on device" in err
    assert "Traceback" not in err


def test_interrupted_while_compiling(tmp_path: Path) -> None:
    ready = "import sys; from motet import cli; import motet.compiler.compile; "
    model = EXAMPLES / "models" / "digits_inception.onnx"
    code = f"{ready}print('ready', flush=True); sys.argv = ['motet', 'compile', {str(model)!r}]; "
    process = subprocess.Popen(
        [sys.executable, "-c", f"{code}cli.main()"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "MOTET_CACHE": "0"},
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(timeout=0.7)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.split() == ["motet:", "interrupted"]
    assert not list(tmp_path.iterdir())


def test_interrupted_while_running(
    run_motet: Motet, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ModelSession, "run_named", interrupted)
    outcome = run_motet("run", small)
    assert (outcome.code, outcome.out) == (130, "")
    assert "motet: interrupted" in outcome.err


def test_an_interrupt_that_came_back_as_another_error(
    run_motet: Motet, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def translated(*_: object) -> None:
        try:
            cli._interrupt(signal.SIGINT, None)
        except KeyboardInterrupt:
            raise RuntimeError("KeyboardInterrupt inside a pass") from None

    monkeypatch.setattr(ModelSession, "run_named", translated)
    monkeypatch.setattr(cli, "_interrupts", [])
    outcome = run_motet("run", small)
    assert outcome.code == 130
    assert "motet: interrupted" in outcome.err


def test_a_defect_is_one_line_unless_a_traceback_is_asked_for(
    run_motet: Motet, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("on purpose\nand more")

    monkeypatch.setattr(ModelSession, "run_named", broken)
    outcome = run_motet("run", small)
    assert outcome.code == 70
    assert outcome.err.splitlines() == [
        "motet: internal error: ZeroDivisionError: on purpose",
        "This is a defect of Motet; MOTET_TRACEBACK=1 shows where.",
    ]
    monkeypatch.setenv("MOTET_TRACEBACK", "1")
    monkeypatch.setattr(sys, "argv", ["motet", "run", str(small)])
    assert cli._run() == 70


def test_results_to_a_pipe_while_stderr_is_a_terminal(models: Path, tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*MOTET, "compile", str(models / "affine.onnx"), "--print-ir-after", "fuse"],
        cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=theirs,
        env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    out, _ = process.communicate(timeout=60)
    os.close(theirs)
    shown = b""
    while chunk := _read(ours):
        shown += chunk
    os.close(ours)
    assert process.returncode == 0
    assert out.startswith("# after fuse\n")
    assert "\x1b" not in out
    assert b"\x1b[" in shown, "no progress on a terminal"
    assert b"compile" in shown
    assert b"@R.function" not in shown


def _read(descriptor: int) -> bytes:
    try:
        return os.read(descriptor, 65536)
    except OSError:  # Linux's way of saying that the other end is closed
        return b""


def test_tvm_warnings_are_kept_from_the_user(capfd: pytest.CaptureFixture[str]) -> None:
    with without_tvm_warnings():
        os.write(2, f"{TVM_LINE}\nsomething else\n".encode())
        messages().print("said by Python")
    assert sorted(capfd.readouterr().err.splitlines()) == ["said by Python", "something else"]


def test_tvm_warnings_of_what_an_error_left_half_made(capfd: pytest.CaptureFixture[str]) -> None:
    class Builder:
        def __del__(self) -> None:
            os.write(2, f"{TVM_LINE}\n".encode())

    def fail() -> None:
        builder = Builder()
        raise ValueError(f"{type(builder).__name__} left behind")

    with pytest.raises(ValueError, match="Builder left behind"), without_tvm_warnings():
        fail()
    assert capfd.readouterr().err == ""


def test_tvm_warnings_show_where_tracebacks_do(
    capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MOTET_TRACEBACK", "1")
    with without_tvm_warnings():
        os.write(2, f"{TVM_LINE}\n".encode())
    assert capfd.readouterr().err == f"{TVM_LINE}\n"


def test_names_are_never_markup(capsys: pytest.CaptureFixture[str]) -> None:
    output().print("[bold]block[/bold] :smile: [1]")
    assert capsys.readouterr().out == "[bold]block[/bold] :smile: [1]\n"


def test_json_is_strict(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": [float("nan"), 1.5], "b": (float("inf"), True)})
    text = capsys.readouterr().out
    assert json.loads(text, parse_constant=pytest.fail) == {"a": [None, 1.5], "b": [None, True]}


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (quantity(999.6), "1 k"),
        (quantity(12345, "B"), "12.3 kB"),
        (quantity(5.65e6), "5.65 M"),
        (quantity(3e15, "B"), "3000 TB"),
        (quantity(0, "B"), "0 B"),
        (quantity(0.5), "0.5"),
        (quantity(0.0009996, "J"), "1 mJ"),
        (quantity(304.2e-6, "J"), "304 uJ"),
        (quantity(12.34e-9, "J"), "12.3 nJ"),
        (quantity(2e-15, "J"), "0.002 pJ"),
        (quantity(0.114, "W"), "114 mW"),
        (seconds(0.0009996), "1 ms"),
        (seconds(187.4e-6), "187 us"),
        (seconds(1234.0), "1234 s"),
        (seconds(0.0), "0 ns"),
    ],
)
def test_quantities_read_well(shown: str, expected: str) -> None:
    assert shown == expected
