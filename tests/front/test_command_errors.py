"""Every mistake a user can make on the command line, with the one line it gets."""

from __future__ import annotations

import builtins
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from front_outcome import Motet

from motet import opening
from motet.targets.pictures import PICTURES, save_picture

FORMAT_VERSION_OFFSET = 8


@pytest.fixture
def folder(run_motet: Motet, models: Path, small: Path, tmp_path: Path) -> Path:
    """The current folder, with good and bad files of every kind."""
    for model in models.glob("*.onnx"):
        shutil.copy(model, tmp_path)
    good = bytearray(small.read_bytes())
    shutil.copy(small, tmp_path / "small.motet")
    middle = len(good) // 2
    (tmp_path / "cut.motet").write_bytes(good[:middle])
    good[middle] ^= 1
    (tmp_path / "flipped.motet").write_bytes(good)
    good[middle] ^= 1
    good[FORMAT_VERSION_OFFSET] = 99
    (tmp_path / "newer.motet").write_bytes(good)
    for name in ("onnx", "motet", "npy", "npz", "png", "txt"):
        (tmp_path / f"garbage.{name}").write_bytes(b"This is nothing. " * 50)
    for name in ("onnx", "motet"):
        (tmp_path / f"empty.{name}").touch()
    (tmp_path / "bad.toml").write_text("[models\n")
    (tmp_path / "key.toml").write_text("[models.a]\npath = 'affine.onnx'\nrate = 3\n")
    (tmp_path / "good.toml").write_text("[models.a]\npath = 'affine.onnx'\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder.onnx").mkdir()
    np.save(tmp_path / "doubles.npy", np.zeros((1, 4)))
    np.save(tmp_path / "wide.npy", np.zeros((2, 5), "float32"))
    np.save(tmp_path / "objects.npy", np.array([{}]), allow_pickle=True)
    np.savez(tmp_path / "two.npz", x=np.zeros((1, 4), "float32"), q=np.zeros(3))
    shutil.copy(tmp_path / "wide.npy", tmp_path / "single.npz")
    return tmp_path


COMPILE = [
    ("compile nowhere.onnx", "nowhere.onnx: there is no such file"),
    ("compile nowhere.toml", "nowhere.toml: there is no such file"),
    ("compile garbage.txt", "garbage.txt: give one .toml specification or .onnx files"),
    ("compile small.motet", "small.motet: give one .toml specification or .onnx files"),
    ("compile affine.onnx key.toml", "key.toml: give one .toml specification or .onnx files"),
    ("compile folder", "folder: give one .toml specification or .onnx files"),
    ("compile folder.onnx", "folder.onnx: is not a file"),
    ("compile garbage.onnx", "garbage.onnx: is not an ONNX model, or is truncated"),
    ("compile empty.onnx", "empty.onnx: holds no graph"),
    ("compile unsupported.onnx", "org.example"),
    ("compile bad.toml", "bad.toml: not valid TOML"),
    ("compile key.toml", 'models.a.rate: unknown key (did you mean "rate_hz"?)'),
    ("compile affine.onnx --set nonsense", "--set nonsense: expected KEY.PATH=VALUE"),
    ("compile affine.onnx --set models.affine.rate=5", 'did you mean "rate_hz"?'),
    ("compile affine.onnx --set models.afine.rate_hz=5", 'did you mean "affine"?'),
    (
        "compile affine.onnx --set models.affine.rate_hz=-5",
        'a number from 1e-6 to 1e9 or a fraction above 0 as "30000/1001", got -5',
    ),
    ("compile open.onnx --shape nonsense", "--shape nonsense: write INPUT:1x3x224x224"),
    ("compile open.onnx --shape x:", "--shape x:: write INPUT:1x3x224x224"),
    ("compile open.onnx --shape x:1xx4", "--shape x:1xx4: write INPUT:1x3x224x224"),
    ("compile open.onnx --shape x:0x4", "models.open.shapes.x[0]: expected an integer from 1"),
    ("compile open.onnx --shape x:-1x4", 'got "-1"'),
    ("compile open.onnx --shape q:1x4", "the model has no input of that name; its inputs are x"),
    ("compile open.onnx --shape x:1x5", "dimension 1 is fixed to 4 in the model"),
    ("compile open.onnx --shape x:1x4x1", "rank 3 given, but the model declares Nx4"),
    ("compile open.onnx --shape x:1x4 --shape x:2x4", "the shape of 'x' is given twice"),
    ("compile open.onnx affine.onnx --shape x:1x4", "MODEL one of open, affine"),
    ("compile open.onnx affine.onnx --shape z.x:1x4", "MODEL one of open, affine"),
    ("compile affine.onnx --target gemini-16x16", 'did you mean "gemmini-16x16"?'),
    ("compile affine.onnx --target nowhere.toml", "nowhere.toml does not exist"),
    ("compile affine.onnx --target bad.toml", "bad.toml: not TOML"),
    ("compile affine.onnx --target key.toml", "key.toml: models: there is no such key"),
    ("compile affine.onnx --print-ir-after nonsense", "the passes are join_vectors, canonicalize"),
    ("compile affine.onnx -o nowhere/x.motet", "--output nowhere/x.motet: there is no folder"),
    ("compile affine.onnx -o folder", "--output folder: is not a regular file"),
    ("compile affine.onnx -o affine.onnx", "this would overwrite a model"),
    ("compile affine.onnx -o /dev/null", "--output /dev/null: is not a regular file"),
    ("compile affine.onnx -o /proc/x.motet", "/proc/x.motet: the folder /proc is not writable"),
    ("schedule affine.onnx --plot /proc/x.svg", "/proc/x.svg: the folder /proc is not writable"),
]

OPEN = [
    ("run nowhere.motet", "cannot open the bundle nowhere.motet: No such file"),
    ("inspect nowhere", "nowhere: give a .motet bundle, an .onnx model or a .toml"),
    ("run garbage.txt", "garbage.txt: this is not a Motet bundle"),
    ("bench folder", "folder: give a .motet bundle"),
    ("run garbage.motet", "garbage.motet: this is not a Motet bundle"),
    ("run empty.motet", "empty.motet: this is not a Motet bundle"),
    ("check cut.motet", "cut.motet: the file is truncated or altered"),
    ("simulate flipped.motet", "was altered (its SHA-256 differs)"),
    ("run newer.motet", "newer.motet: the bundle has format 99"),
    (
        "run small.motet --target host",
        "is compiled already: --target, --shape, --value, --operator-file and --set do",
    ),
    ("run small.motet --model afine", "no model 'afine'; its models are affine, half"),
    ("bench small.motet --model afine", "no model 'afine'; its models are affine, half"),
    ("inspect small.motet --model afine", "no model 'afine'; its models are affine, half"),
    ("simulate small.motet", "small.motet is for the host: compile it for an array"),
    ("simulate affine.onnx --target host", "affine.onnx is for the host"),
    ("simulate good.toml", "good.toml is for the host: compile it for an array"),
    ("simulate nowhere.onnx", "nowhere.onnx: there is no such file"),
    ("bench affine.onnx --target tiny-4x4", "affine.onnx is for tiny-4x4, which is simulated"),
    ("bench affine.onnx --set target=tiny-4x4", "motet simulate gives cycles"),
    ("check small.motet --onnx q=affine.onnx", "write MODEL=PATH with one of affine, half"),
    ("check small.motet --onnx affine.onnx", "write MODEL=PATH with one of affine, half"),
    ("check small.motet --onnx affine=half.onnx", "is not the file that was compiled"),
    ("check small.motet --onnx affine=no.onnx", "folder); say where it is with --onnx affine="),
    ("demo --examples nowhere", "nowhere/data/digits_heldout.npz is not there"),
]

AFFINE = "run small.motet --model affine "
INPUTS = [
    (AFFINE + "--input q=@wide.npy", "no input 'q'; the inputs are x"),
    (AFFINE + "--input x", "--input x: write NAME=@FILE.npy"),
    (AFFINE + "--input x=", "--input x=: write NAME=@FILE.npy"),
    (AFFINE + "--input x=@nowhere.npy", "cannot read nowhere.npy: No such file"),
    (AFFINE + "--input x=@folder.npy", "cannot read folder.npy: No such file"),
    (AFFINE + "--input x=@garbage.npy", "garbage.npy is no .npy file of plain arrays"),
    (AFFINE + "--input x=@objects.npy", "objects.npy is no .npy file of plain arrays"),
    (AFFINE + "--input x=@garbage.txt", "garbage.txt: give a .npy file or an image"),
    (AFFINE + "--input x=@doubles.npy", "has dtype float64, the model takes float32"),
    (AFFINE + "--input x=@wide.npy", "has shape 2 x 5; the model takes 1 x 4"),
    (AFFINE + "--input x=1,2", "has shape 2; the model takes 1 x 4"),
    (AFFINE + "--input x=1,two", "--input x=1,two: not a list of float32"),
    (AFFINE + "--input x=@two.npz", "two.npz holds several arrays: give it as --input @two.npz"),
    (AFFINE + "--input @two.npz", "model 'affine' has no input 'q'; its inputs are x"),
    (AFFINE + "--input @garbage.npz", "garbage.npz is no .npz file of plain arrays"),
    (AFFINE + "--input @single.npz", "single.npz holds one array"),
    (AFFINE + "--input x=@garbage.png", "an image does not fit input 'x' (float32 1 x 4)"),
    ("run small.motet --input x=1", "with several models write MODEL.NAME=..., or say --model"),
    ("run small.motet --model picture --input image=@garbage.png", "it is not an image"),
    ("run small.motet --model picture --input image=@no.png", "no.png: No such file"),
    ("run small.motet --model counts --input a=1.5,2,3", "a=1.5,2,3: not a list of int64"),
    ("run small.motet --model counts --input a=9e9,2,3", "not a list of int64"),
    (f"run small.motet --model counts --input a={2**70},2,3", "not a list of int64"),
    ("run small.motet --model counts --input @wide.npy", "name the input (NAME=@wide.npy)"),
]

OUTPUTS = [
    (AFFINE + "--output q=y.npy", "--output q=y.npy: write @FILE.npz, or NAME=@FILE.npy"),
    (AFFINE + "--output @y.txt", "--output @y.txt: write @FILE.npz, or NAME=@FILE.npy"),
    (AFFINE + "--output q=@y.npy", "the outputs are y"),
    (AFFINE + "--output @nowhere/y.npy", "--output nowhere/y.npy: there is no folder nowhere"),
    (AFFINE + "--output @/proc/y.npz", "/proc/y.npz: the folder /proc is not writable"),
    ("run small.motet --output @y.npy", "the outputs are affine.y, half.y"),
]


@pytest.mark.parametrize(("command", "message"), COMPILE + OPEN + INPUTS + OUTPUTS)
def test_one_line_that_says_what_is_wrong(
    command: str, message: str, run_motet: Motet, folder: Path
) -> None:
    before = sorted(folder.iterdir())
    outcome = run_motet(*command.split())
    assert outcome.code == 2
    assert outcome.out == ""
    assert re.fullmatch(r"motet: error: .+\n", outcome.err), outcome.err
    assert message in outcome.err
    assert sorted(folder.iterdir()) == before, "something half-written stays behind"


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("frobnicate", "No such command 'frobnicate'"),
        ("compile", "Missing argument 'SPEC.toml | A.onnx B.onnx ...'"),
        ("compile affine.onnx --frobnicate", "No such option '--frobnicate'"),
        ("run small.motet --threads 0", "0 is not in the range 1<=x<=1024"),
        ("check small.motet --atol -1", "-1.0 is not in the range x>=0"),
        ("bench small.motet --iterations 0", "0 is not in the range x>=1"),
        ("bench small.motet --top 3", "--top goes with --profile"),
        ("bench small.motet --duration 0", "0.0 is not in the range x>0"),
        ("bench small.motet --json --csv", "--json and --csv exclude each other"),
        ("check small.motet --json --csv", "--json and --csv exclude each other"),
        ("simulate small.motet --json --csv", "--json and --csv exclude each other"),
        ("targets --json --csv", "--json and --csv exclude each other"),
    ],
)
def test_wrong_usage(command: str, message: str, run_motet: Motet) -> None:
    outcome = run_motet(*command.split())
    assert (outcome.code, outcome.out) == (2, "")
    assert message in outcome.err


def test_a_folder_that_cannot_be_written(
    run_motet: Motet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Root may write anywhere, so the permission is taken away where it is asked for.
    def refuse(**_asked: object) -> None:
        raise PermissionError

    monkeypatch.setattr(opening, "TemporaryFile", refuse)
    for command in ("compile affine.onnx -o folder/x.motet", AFFINE + "--output @folder/y.npz"):
        outcome = run_motet(*command.split())
        assert outcome.code == 2
        assert "the folder folder is not writable" in outcome.err


@pytest.mark.parametrize(
    "command",
    [
        "schedule affine.onnx",
        "timetable affine.onnx --target tiny-4x4",
        "explore affine.onnx --target tiny-4x4 --sweep pods=1,2",
        "quantize affine.onnx --calibrate x.npz --compare",
    ],
)
def test_a_picture_of_no_format(run_motet: Motet, folder: Path, command: str) -> None:
    outcome = run_motet(*command.split(), "--plot", "x.txt")
    assert (outcome.code, outcome.out) == (2, "")
    assert "--plot x.txt: no picture ends in .txt: name it .svg, .png, .pdf" in outcome.err


def test_every_picture_can_be_written(tmp_path: Path) -> None:
    figure = pytest.importorskip("matplotlib.figure").Figure()
    for kind in PICTURES:
        save_picture(figure, tmp_path / f"x.{kind}")


def test_without_a_c_compiler(
    run_motet: Motet, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(folder / "folder"))
    monkeypatch.delenv("CC", raising=False)
    outcome = run_motet("compile", "affine.onnx", "-o", "new.motet")
    assert outcome.code == 3
    assert re.fullmatch(r"motet: error: a C compiler was not found.*\n", outcome.err)
    assert not Path("new.motet").exists()


@pytest.mark.parametrize(
    ("package", "command", "remedy"),
    [
        ("tvm", "compile affine.onnx", "pip install 'motet[compile]'"),
        ("tvm", "demo --examples EXAMPLES", "pip install 'motet[compile]'"),
        ("onnxruntime", "check small.motet", "pip install 'motet[check]'"),
        ("PIL", "run small.motet --model picture --input image=@x.png", "motet[images]"),
    ],
)
def test_a_package_that_is_missing(
    package: str,
    command: str,
    remedy: str,
    run_motet: Motet,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> Any:
        if name.partition(".")[0] == package:
            raise ModuleNotFoundError(f"No module named {package!r}", name=package)
        return real(name, *rest, **more)

    for name in [*sys.modules]:
        ours = name.startswith(("motet.compiler.compile", "motet.compiler.pipeline"))
        if ours or name.partition(".")[0] == package:  # not tvm_ffi with tvm: it is loaded once
            monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    examples = Path(__file__).parents[2] / "examples"
    outcome = run_motet(*command.replace("EXAMPLES", str(examples)).split())
    monkeypatch.undo()
    assert outcome.code == 3
    assert remedy in outcome.err
    assert outcome.err.count("\n") == 1
