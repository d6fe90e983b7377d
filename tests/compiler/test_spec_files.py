"""Specifications from files, overrides and model lists: what a good one becomes."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from motet.compiler.spec import (
    BundleSpec,
    FoldBatchNormOptions,
    FuseOptions,
    HostOptions,
    ModelSpec,
    PassesSpec,
    PlaceOptions,
    name_from_path,
    split_wire,
)
from motet.compiler.spec_checks import run_order, validate
from motet.compiler.spec_file import load_spec, override, spec_from_models
from motet.compiler.spec_table import from_table, to_table, to_toml

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FULL = """
name = "camera"
target = "arrays/edge.toml"

[host]
cpu = "x86-64-v3"
threads = 2

[passes.fuse]
enabled = false

[passes.place]
host_ops = ["Softmax_12"]

[models.detector]
path = "nets/detector.onnx"
shapes = { image = [1, 3, 224, 224], "scale:0" = ["batch", 1] }
rate_hz = 30
deadline_ms = 33.3
priority = 2

[models.faces]
path = "nets/faces.onnx"
inputs = { image = "detector.crop.0" }

[models.log]
path = "/abs/log.onnx"
after = ["faces"]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A directory with the files that ``FULL`` names, but for /abs/log.onnx."""
    for name in ("nets/detector.onnx", "nets/faces.onnx", "arrays/edge.toml", "log.onnx"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    return tmp_path


def write(folder: Path, text: str) -> Path:
    file = folder / "bundle.toml"
    file.write_text(text.replace("/abs", str(folder)), encoding="utf-8")
    return file


def test_every_key_is_read_and_paths_start_at_the_file(folder: Path) -> None:
    spec = load_spec(write(folder, FULL))
    assert spec == BundleSpec(
        name="camera",
        target=str(folder / "arrays/edge.toml"),
        host=HostOptions(cpu="x86-64-v3", threads=2),
        passes=PassesSpec(
            fuse=FuseOptions(enabled=False), place=PlaceOptions(host_ops=("Softmax_12",))
        ),
        models=(
            ModelSpec(
                name="detector",
                path=str(folder / "nets/detector.onnx"),
                shapes={"image": (1, 3, 224, 224), "scale:0": ("batch", 1)},
                rate_hz=30.0,
                deadline_ms=33.3,
                priority=2,
            ),
            ModelSpec(
                name="faces",
                path=str(folder / "nets/faces.onnx"),
                inputs={"image": "detector.crop.0"},
            ),
            ModelSpec(name="log", path=str(folder / "log.onnx"), after=("faces",)),
        ),
    )
    assert run_order(spec) == ("detector", "faces", "log")


def test_defaults(folder: Path) -> None:
    spec = load_spec(write(folder, '[models.a]\npath = "log.onnx"'))
    assert (spec.name, spec.target, spec.host) == ("bundle", "host", HostOptions(cpu="native"))
    assert spec.passes.fold_batch_norm == FoldBatchNormOptions(enabled=True)
    assert spec.passes.fuse == FuseOptions(enabled=True, max_ops=32)
    assert spec.models[0] == ModelSpec(path=str(folder / "log.onnx"), name="a")
    assert spec.models[0].rate_hz is None


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder: Path) -> None:
    file = folder / "w.toml"
    file.write_bytes(b"\xef\xbb\xbf[models.a]\r\npath = 'log.onnx'\r\n")
    assert load_spec(file).models[0].name == "a"


def test_python_takes_lists_and_paths_and_derives_names(folder: Path) -> None:
    path: Any = folder / "log.onnx"
    spec = BundleSpec(models=[ModelSpec(path=path, shapes={"x": [1, "n"]}, after=[])])  # type: ignore[arg-type,dict-item]
    validate(spec)
    assert spec == BundleSpec(
        models=(ModelSpec(path=str(path), name="log", shapes={"x": (1, "n")}),)
    )


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("nets/ResNet-50.v1.onnx", "resnet_50_v1"),
        ("3d--net.onnx", "model_3d_net"),
        ("_x_.onnx", "x"),
        ("größe.onnx", "gr_e"),
        ("网.onnx", "model"),
    ],
)
def test_names_from_paths(path: str, name: str) -> None:
    assert name_from_path(path) == name
    assert ModelSpec(path=path).name == name


def test_models_alone_make_a_specification(folder: Path) -> None:
    paths = [folder / "nets/faces.onnx", folder / "log.onnx", folder / "nets/faces.onnx"]
    shapes: dict[str, list[int | str]] = {"faces_2.x.0": [1, 3], "log.y": ["n"]}
    spec = spec_from_models(paths, target="tiny-4x4", shapes=shapes)
    assert spec.target == "tiny-4x4"
    assert [model.name for model in spec.models] == ["faces", "log", "faces_2"]
    assert [model.shapes for model in spec.models] == [{}, {"y": ("n",)}, {"x.0": (1, 3)}]
    assert spec.models[0].path == spec.models[2].path


def test_one_model_takes_shapes_by_input_alone(folder: Path) -> None:
    spec = spec_from_models([folder / "log.onnx"], shapes={"a.b": (2, 3)})
    assert spec.models[0].shapes == {"a.b": (2, 3)}


def test_overrides_of_a_specification(folder: Path) -> None:
    spec = load_spec(write(folder, FULL))
    changed = override(
        spec,
        [
            "models.detector.rate_hz=60",
            "target=host",
            "passes.fuse.enabled = true",
            'models.detector.shapes."scale:0"=[2, 1]',
            'models.faces.inputs."a=b"=detector.crop',
            "models.log.after=['detector']",
            "host.cpu=x86-64-v3",
        ],
    )
    assert changed.models[0].rate_hz == 60.0
    assert changed.models[0].shapes == {"image": (1, 3, 224, 224), "scale:0": (2, 1)}
    assert changed.models[1].inputs == {"image": "detector.crop.0", "a=b": "detector.crop"}
    assert changed.models[2].after == ("detector",)
    assert (changed.target, changed.host.cpu) == ("host", "x86-64-v3")
    assert changed.passes.fuse == FuseOptions()
    assert spec == load_spec(folder / "bundle.toml"), "the original is not touched"


def test_overrides_of_tables_leave_the_original_alone() -> None:
    table = {"models": {"a": {"path": "a.onnx"}}}
    changed = override(
        table, ["models.a.priority=1", "models.b.path=b.onnx", "models.b.priority=2"]
    )
    assert changed["models"] == {
        "a": {"path": "a.onnx", "priority": 1},
        "b": {"path": "b.onnx", "priority": 2},
    }
    assert table == {"models": {"a": {"path": "a.onnx"}}}


def test_overrides_while_loading_take_paths_from_here(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(folder, '[models.a]\npath = "missing.onnx"')
    monkeypatch.chdir(folder / "nets")
    spec = load_spec(os.path.relpath(file), ["models.a.path=faces.onnx"])
    assert spec.models[0].path == "faces.onnx"
    assert load_spec("../bundle.toml", ["models.a.path=../log.onnx"]).models[0].name == "a"


def test_a_wire_names_a_model_and_an_output() -> None:
    assert split_wire("detector.crop.0") == ("detector", "crop.0")


model_names = st.from_regex("[a-z][a-z0-9_]{0,8}", fullmatch=True)
text = st.text(
    st.characters(blacklist_categories=["Cs"], min_codepoint=32).filter(lambda c: c != "\x7f"),
    min_size=1,
    max_size=8,
)
periods = st.none() | st.floats(1e-6, 1e9)
rates = periods | st.sampled_from(["30000/1001", "1/3"])
dims = st.integers(1, 2**31 - 1) | st.from_regex("[A-Za-z_][A-Za-z0-9_]{0,5}", fullmatch=True)


@st.composite
def specs(draw: st.DrawFn) -> BundleSpec:
    names = draw(st.lists(model_names, min_size=1, max_size=4, unique=True))
    models = [
        ModelSpec(
            path=draw(text),
            name=name,
            shapes=draw(
                st.dictionaries(text, st.lists(dims, min_size=1, max_size=4).map(tuple), max_size=3)
            ),
            rate_hz=draw(rates),
            deadline_ms=draw(periods),
            priority=draw(st.integers(-1000, 1000)),
            after=draw(st.lists(st.sampled_from(names), max_size=2).map(tuple)),
            inputs=draw(
                st.dictionaries(
                    text,
                    st.tuples(st.sampled_from(names), text).map(".".join),
                    max_size=2,
                )
            ),
        )
        for name in names
    ]
    return BundleSpec(
        name=draw(st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,5}", fullmatch=True)),
        models=tuple(models),
        target=draw(text),
        host=HostOptions(threads=draw(st.none() | st.integers(1, 1024))),
        passes=PassesSpec(
            fold_batch_norm=FoldBatchNormOptions(enabled=draw(st.booleans())),
            fuse=FuseOptions(enabled=draw(st.booleans()), max_ops=draw(st.integers(1, 1024))),
            place=PlaceOptions(host_ops=draw(st.lists(text, max_size=2).map(tuple))),
        ),
    )


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(specs())
def test_any_specification_survives_toml(spec: BundleSpec) -> None:
    written = to_toml(spec)
    assert from_table(tomllib.loads(written)) == spec, written
    assert from_table(to_table(spec)) == spec
    assert from_table(to_table(spec)) == override(spec, [])


def test_toml_leaves_out_what_is_default() -> None:
    spec = BundleSpec(models=[ModelSpec(path="a.onnx", shapes={"x:0": [1]})])  # type: ignore[arg-type,dict-item]
    assert to_toml(spec) == '[models.a]\npath = "a.onnx"\nshapes = { "x:0" = [1] }\n'
