"""``motet.compile``, ``motet.load`` and what they give: the Python API."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import motet


def run_python(code: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).random((2, 1, 32, 32), "float32")


def test_every_public_name_is_there() -> None:
    for name in motet.__all__:
        assert getattr(motet, name) is not None
        assert name in dir(motet)
    assert motet.__version__.count(".") == 2
    with pytest.raises(AttributeError, match="no attribute 'compiel'"):
        _ = motet.compiel


WITHOUT_COMPILER = """
import sys
sys.modules["tvm"] = sys.modules["onnx"] = None
import pydoc
import motet
for name in dir(motet):
    getattr(motet, name)
from motet import *
print(sorted({"BundleSpec", "ModelSpec", "CompileOptions"} & {*dir(motet), *motet.__all__}))
print(Session.__name__)
print(pydoc.render_doc(motet, renderer=pydoc.plaintext))
"""


def test_help_without_the_compiler(tmp_path: Path) -> None:
    out = run_python(WITHOUT_COMPILER, tmp_path)
    assert out.startswith("[]\nSession\n")
    assert "load(bundle: " in out


def test_a_session_shows_its_models_and_target(small: Path, inception: Path) -> None:
    host, array = motet.load(small), motet.load(inception)
    assert repr(host) == "<Session for host: affine, half, counts, picture, logarithm>"
    assert repr(array) == "<Session for gemmini-16x16: digits_inception>"


def test_compile_save_load_run(models: Path, tmp_path: Path) -> None:
    bundle = motet.compile(models / "affine.onnx")
    assert isinstance(bundle, motet.Bundle)
    path = bundle.save(tmp_path / "affine.motet")
    x = np.ones((1, 4), "float32")
    with_file = motet.load(str(path)).run("affine", {"x": x})
    in_memory = motet.load(bundle).run(None, {"x": x})
    assert list(with_file) == ["y"]
    np.testing.assert_array_equal(with_file["y"], in_memory["y"])


def test_a_model_is_an_onnxruntime_session(mobile: Path, image: np.ndarray) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    ours = motet.load(mobile)["digits_mobile"]
    onnx = Path(__file__).parents[2] / "examples" / "models" / "digits_mobile.onnx"
    theirs = onnxruntime.InferenceSession(str(onnx), providers=["CPUExecutionProvider"])
    for mine, reference in (
        (ours.get_inputs(), theirs.get_inputs()),
        (ours.get_outputs(), theirs.get_outputs()),
    ):
        assert [(x.name, x.shape, x.type) for x in mine] == [
            (x.name, x.shape, x.type) for x in reference
        ]
    for names in (None, ["logits"]):
        [have] = ours.run(names, {"image": image})
        [want] = theirs.run(names, {"image": image})
        np.testing.assert_allclose(have, want, rtol=1e-4, atol=1e-5)


def test_a_session_is_a_mapping_of_models(small: Path) -> None:
    session = motet.load(small)
    assert list(session) == ["affine", "half", "counts", "picture", "logarithm"]
    assert "half" in session
    assert isinstance(session["half"], motet.ModelSession)
    with pytest.raises(motet.errors.InputError, match="name one of the bundle's models: affine"):
        session.run(None, {})


def test_simulate_gives_a_report(inception: Path) -> None:
    report = motet.load(inception).simulate()
    assert isinstance(report, motet.RunReport)
    assert report.cycles == sum(layer.array.cycles for layer in report.layers if layer.array)
    assert 0 < report.speed_of_light_cycles <= report.cycles
    assert report.array_seconds == pytest.approx(report.cycles / 1e9)
    assert sum(report.stall_cycles.values()) == report.cycles  # one pod
    names = {name for layer in report.layers for name in layer.onnx_nodes}
    assert {name for step in report.steps for name in step.name.split("+")} <= names
    assert json.loads(json.dumps(report.to_dict()))["cycles"] == report.cycles


def test_ways_to_name_models_and_shapes(models: Path, tmp_path: Path) -> None:
    path = str(models / "open.onnx")
    spec = motet.BundleSpec(models=(motet.ModelSpec(path=path),))
    (tmp_path / "one.toml").write_text(f"[models.open]\npath = '{path}'\n")
    for given in (path, [path], spec, tmp_path / "one.toml"):
        assert shape_of(motet.compile(given)) == ("N", 4)
        assert shape_of(motet.compile(given, shapes={"x": (5, 4)})) == (5, 4)


def shape_of(bundle: motet.Bundle) -> tuple[object, ...]:
    return bundle.programs["open"].inputs[0].shape


def test_shapes_of_a_specification_with_several_models(models: Path) -> None:
    both = tuple(motet.ModelSpec(path=str(models / f"{name}.onnx")) for name in ("open", "affine"))
    spec = motet.BundleSpec(models=both)
    assert shape_of(motet.compile(spec, shapes={"open.x": ("rows", 4)})) == ("rows", 4)
    for wrong in ("x", "closed.x", "open."):
        with pytest.raises(motet.errors.SpecError, match=r"MODEL\.INPUT, MODEL one of open, affi"):
            motet.compile(spec, shapes={wrong: (1, 4)})


def test_target_and_settings(models: Path, tmp_path: Path) -> None:
    bundle = motet.compile(
        models / "affine.onnx",
        target="tiny-4x4",
        settings=["name=mine", "models.affine.priority=3"],
    )
    assert (bundle.manifest.name, bundle.manifest.target) == ("mine", "tiny-4x4")
    assert bundle.manifest.models[0].priority == 3
    from motet.targets.systolic import architectures

    own = Path(architectures.__file__).with_name("tiny-4x4.toml").read_text()
    (tmp_path / "own.toml").write_text(own.replace("tiny-4x4", "mine"))
    assert motet.compile(models / "affine.onnx", target=tmp_path / "own.toml").manifest.target == (
        "mine"
    )


def test_errors_are_one_family(models: Path, tmp_path: Path) -> None:
    for make, kind in (
        (lambda: motet.compile(tmp_path / "no.onnx"), motet.errors.SpecError),
        (lambda: motet.compile([]), motet.errors.SpecError),
        (lambda: motet.compile(models / "unsupported.onnx"), motet.errors.ModelError),
        (lambda: motet.load(tmp_path / "no.motet"), motet.errors.BundleError),
    ):
        with pytest.raises(motet.errors.MotetError) as caught:
            make()
        assert isinstance(caught.value, kind)


def test_saving_into_nowhere_leaves_nothing(models: Path, tmp_path: Path) -> None:
    bundle = motet.compile(models / "affine.onnx")
    with pytest.raises(motet.errors.BundleError, match="cannot write the bundle"):
        bundle.save(tmp_path / "no" / "x.motet")
    assert not list(tmp_path.iterdir())


def test_running_a_bundle_needs_no_compiler(inception: Path, small: Path, tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("tvm", "onnx", "onnxruntime", "motet.compiler", "motet.passes"):
    sys.modules[name] = None
import motet
for path in ({str(inception)!r}, {str(small)!r}):
    session = motet.load(path)
    for model in session.values():
        model.run_named(model.random_inputs())
        print(model.name, model.simulate().macs)
"""
    printed = run_python(code, tmp_path).splitlines()
    assert len(printed) == 6
    assert printed[0].startswith("digits_inception ")


def test_the_package_is_typed() -> None:
    assert Path(motet.__file__).with_name("py.typed").is_file()
