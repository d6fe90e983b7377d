"""Every way a specification can be wrong, with the message it gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from motet.compiler.spec import BundleSpec, HostOptions, ModelSpec
from motet.compiler.spec_checks import validate
from motet.compiler.spec_file import load_spec, override, spec_from_models
from motet.compiler.spec_table import to_table
from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture_file import shipped_architectures

MODEL = '[models.faces]\npath = "faces.onnx"\n'
RATE = 'expected a number from 1e-6 to 1e9 or a fraction above 0 as "30000/1001"'
OTHER = '[models.other]\npath = "faces.onnx"\n'


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "faces.onnx").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def message_of(text: str, *assignments: str) -> str:
    Path("bundle.toml").write_text(text, encoding="utf-8")
    with pytest.raises(SpecError) as caught:
        load_spec("bundle.toml", assignments)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "models: at least one model is required: a table [models.NAME] with a path"),
        (
            MODEL + "[host]\ncpu = 'znver4'",
            'host.cpu: expected one of "aarch64", "native", "x86-64-v2", "x86-64-v3", '
            '"x86-64-v3-vnni", "x86-64-v4", "x86-64-v4-bf16", "x86-64-v4-vnni", got "znver4"',
        ),
        (MODEL + "[array]\nformat = 8", 'array.format: expected one of "bf16", "fp32", got 8'),
        ("[[models]]\npath = 'x'", "models: expected one table per model, [models.NAME]"),
        ("[models]\nfaces = 'x.onnx'", 'models.faces: expected a table, got "x.onnx"'),
        ("[models.faces]\npriority = 1", "models.faces.path: this key is required"),
        (
            MODEL + "rate = 30",
            'models.faces.rate: unknown key (did you mean "rate_hz"?); allowed keys: path, shapes,'
            " values, rate_hz, deadline_ms, phase_ms, priority, after, inputs, probability, quota",
        ),
        (
            MODEL + "name = 'x'",
            "models.faces.name: unknown key; allowed keys: path, shapes, values, rate_hz,"
            " deadline_ms, phase_ms, priority, after, inputs, probability, quota",
        ),
        (
            MODEL + "probability = 0.5",
            "models.faces.probability: 0.5 is the chance that a run follows another model's: give"
            " after or inputs, or leave it out",
        ),
        (
            "[model.faces]\npath = 'faces.onnx'",
            'model: unknown key (did you mean "models"?); allowed keys: name, models, target, host,'
            " array, passes, operators",
        ),
        (
            MODEL + "[passes.fused]\nenabled = true",
            'passes.fused: unknown key (did you mean "fuse"?); allowed keys: fold_batch_norm, fuse,'
            " join_vectors, layout, merge_depth, place, regions, replace_depthwise, schedule",
        ),
        (MODEL + "rate_hz = 'fast'", f'models.faces.rate_hz: {RATE}, got "fast"'),
        (MODEL + "rate_hz = 0", f"models.faces.rate_hz: {RATE}, got 0"),
        (MODEL + "rate_hz = -inf", f"models.faces.rate_hz: {RATE}, got -inf"),
        (MODEL + "rate_hz = nan", f"models.faces.rate_hz: {RATE}, got nan"),
        (
            MODEL + "deadline_ms = inf",
            "models.faces.deadline_ms: expected a number from 1e-6 to 1e9, got inf",
        ),
        (
            MODEL + "priority = 1.5",
            "models.faces.priority: expected an integer from -1000 to 1000, got 1.5",
        ),
        (
            MODEL + "priority = true",
            "models.faces.priority: expected an integer from -1000 to 1000, got true",
        ),
        (
            MODEL + "shapes = { 'in:0' = [1, 0] }",
            'models.faces.shapes."in:0"[1]: expected an integer from 1 to 2147483647 or a string'
            " matching [A-Za-z_][A-Za-z0-9_]*, got 0",
        ),
        (
            MODEL + "shapes = { x = [2.0] }",
            "models.faces.shapes.x[0]: expected an integer from 1 to 2147483647 or a string"
            " matching [A-Za-z_][A-Za-z0-9_]*, got 2.0",
        ),
        (
            MODEL + "shapes = { x = [[1], [0]] }",
            'models.faces.shapes."x.1"[0]: expected an integer from 1 to 2147483647 or a string'
            " matching [A-Za-z_][A-Za-z0-9_]*, got 0",
        ),
        (
            MODEL + "shapes = { x = ['N+1'] }",
            "models.faces.shapes.x[0]: expected an integer from 1 to 2147483647 or a string"
            ' matching [A-Za-z_][A-Za-z0-9_]*, got "N+1"',
        ),
        (
            MODEL + "shapes = { '' = [1] }",
            'models.faces.shapes."": expected a non-empty string, got ""',
        ),
        (MODEL + "shapes = [1, 3]", "models.faces.shapes: expected a table, got an array of 2"),
        (
            MODEL + "after = 'other'",
            "models.faces.after: expected an array of any number, each a string matching"
            ' [a-z][a-z0-9_]*, got "other"',
        ),
        (
            MODEL + "inputs = { x = 'other' }",
            'models.faces.inputs.x: expected a string matching [a-z][a-z0-9_]*\\..+, got "other"',
        ),
        (
            '[models."My Net"]\npath = "faces.onnx"',
            'models."My Net": expected a string matching [a-z][a-z0-9_]*, got "My Net"',
        ),
        (
            '[models."a\\n"]\npath = "faces.onnx"',
            'models."a\\n": expected a string without control characters, got "a\\n"',
        ),
        ("[models.a]\npath = ''", 'models.a.path: expected a non-empty string, got ""'),
        ("host.threads = 0\n" + MODEL, "host.threads: expected an integer from 1 to 1024, got 0"),
        ("host = 3\n" + MODEL, "host: expected a table, got 3"),
        (
            "[passes.fuse]\nmax_ops = 0\n" + MODEL,
            "passes.fuse.max_ops: expected an integer from 1 to 1024, got 0",
        ),
        (
            "passes.fuse.enabled = 'no'\n" + MODEL,
            'passes.fuse.enabled: expected true or false, got "no"',
        ),
        (
            "passes.place.host_ops = ['a', 2]\n" + MODEL,
            "passes.place.host_ops[1]: expected a non-empty string, got 2",
        ),
        (
            MODEL + "after = ['othr']\n" + OTHER,
            'models.faces.after[0]: no model "othr" in this bundle (did you mean "other"?);'
            " its models: faces, other",
        ),
        (
            MODEL + "inputs = { 'x:0' = 'crop.out' }\n",
            'models.faces.inputs."x:0": no model "crop" in this bundle; its models: faces',
        ),
        (
            MODEL + "after = ['faces']",
            "models.faces: the order between models is a cycle: faces waits for faces (after)",
        ),
    ],
)
def test_a_wrong_key(text: str, message: str) -> None:
    assert message_of(text) == f"bundle.toml: {message}"


@pytest.mark.parametrize("target", ["edge.json", "Host", "arrays/edge"])
def test_an_unknown_target_lists_the_known_ones(target: str) -> None:
    message = message_of(f"target = '{target}'\n" + MODEL)
    assert message.startswith(f'bundle.toml: target: no target "{target}"')
    assert f"expected one of {', '.join(['host', *shipped_architectures()])}, or" in message
    assert ('did you mean "host"?' in message) == (target == "Host")


def test_a_cycle_is_shown_with_the_keys_that_make_it() -> None:
    text = MODEL + "after = ['other']\n" + OTHER + "inputs = { 'x:0' = 'third.y' }\n"
    message = message_of(text + "[models.third]\npath = 'faces.onnx'\nafter = ['faces']")
    place, steps = message.split(": the order between models is a cycle: ")
    assert place in {f"bundle.toml: models.{name}" for name in ("faces", "other", "third")}
    assert sorted(steps.split(", ")) == [
        "faces waits for other (after)",
        'other waits for third (inputs."x:0")',
        "third waits for faces (after)",
    ]


def test_missing_files_say_where_they_were_looked_for(folder: Path) -> None:
    (folder / "sub").mkdir()
    spec = folder / "sub" / "b.toml"
    spec.write_text('[models.a]\npath = "../gone.onnx"')
    with pytest.raises(SpecError) as caught:
        load_spec("sub/b.toml")
    assert str(caught.value) == (
        "sub/b.toml: models.a.path: sub/../gone.onnx does not exist; relative paths of a"
        f" specification start at its own directory, {folder / 'sub'}"
    )
    spec.write_text('target = "edge.toml"\n[models.a]\npath = "../faces.onnx"')
    with pytest.raises(SpecError, match=r"b\.toml: target: sub/edge\.toml does not exist"):
        load_spec("sub/b.toml")
    spec.write_text('[models.a]\npath = "."')
    with pytest.raises(SpecError, match=r"models\.a\.path: sub is not a file"):
        load_spec("sub/b.toml")
    with pytest.raises(SpecError) as caught:
        spec_from_models(["gone.onnx"])
    assert str(caught.value) == (
        "bundle specification: models.gone.path: gone.onnx does not exist; relative paths start at"
        f" the current directory, {folder}"
    )


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"[models.a]\npath = \n", r"not valid TOML: .*line 2, column 8"),
        (b"a = 1\na = 2\n", r"not valid TOML: .*line 2"),
        (b"# \xff", "not valid TOML: not UTF-8 at byte 2"),
        (b"a = " + b"[" * 100_000, "not valid TOML: "),
        (b"a = " + b"9" * 10_000, "not valid TOML: "),
    ],
)
def test_what_is_no_toml(data: bytes, message: str) -> None:
    Path("bad.toml").write_bytes(data)
    with pytest.raises(SpecError, match=r"^bad\.toml: " + message):
        load_spec("bad.toml")


def test_a_specification_that_cannot_be_read(folder: Path) -> None:
    with pytest.raises(SpecError, match=r"^gone\.toml: cannot be read: No such file"):
        load_spec("gone.toml")
    with pytest.raises(SpecError, match="cannot be read: Is a directory"):
        load_spec(folder)


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("rate_hz", "--set rate_hz: expected KEY.PATH=VALUE"),
        ("models.faces.rate_hz=", "--set models.faces.rate_hz=: expected KEY.PATH=VALUE"),
        ("=3", "--set =3: expected KEY.PATH=VALUE"),
        ("a b=3", "--set a b=3: expected KEY.PATH=VALUE"),
        (
            "models.face.rate_hz=3",
            '--set models.face.rate_hz=3: models.face: no such model (did you mean "faces"?);'
            " models: faces",
        ),
        (
            "models.faces.shapes=[1, 2",
            "--set models.faces.shapes=[1, 2: the value is not valid TOML: ",
        ),
        (
            "models.faces.path.x=1",
            "--set models.faces.path.x=1: models.faces.path: this key holds a value, not a table",
        ),
        (
            "models.faces.rate_hz=fast",
            "bundle.toml --set models.faces.rate_hz=fast: models.faces.rate_hz:"
            f' {RATE}, got "fast"',
        ),
        (
            "passes.fuse.enable=false",
            "bundle.toml --set passes.fuse.enable=false: passes.fuse.enable: unknown key"
            ' (did you mean "enabled"?); allowed keys: enabled, max_ops',
        ),
        ("host=3\nname=4", "bundle.toml --set host=3\\nname=4: host: expected a table, got "),
    ],
)
def test_a_wrong_override(assignment: str, message: str) -> None:
    assert message_of(MODEL, assignment).startswith(message)


def test_a_wrong_override_of_a_python_specification() -> None:
    spec = BundleSpec(models=(ModelSpec(path="faces.onnx"),))
    with pytest.raises(SpecError, match=r"host\.threads: expected an integer from 1 to 1024"):
        override(spec, ["host.threads=many"])


def faces(**keys: Any) -> ModelSpec:
    return ModelSpec(**{"path": "faces.onnx", **keys})


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"models": ()}, "models: at least one model is required"),
        ({"models": "faces.onnx"}, "models: expected a sequence of ModelSpec, got str"),
        ({"models": ["faces.onnx"]}, r"models\[0\]: expected a ModelSpec, got str"),
        ({"models": [faces(path=3)]}, r"models\[0\]\.path: expected a string"),
        ({"models": [faces(name=[])]}, r"models\[0\]\.name: expected a string"),
        (
            {"models": [faces(), faces(path="other/faces.onnx")]},
            r"models\.faces: two models have this name; give the one of other/faces\.onnx another",
        ),
        ({"models": [faces(name="Faces")]}, r"models\.Faces\.name: expected a string matching"),
        (
            {"models": [faces(rate_hz=float("inf"))]},
            r"models\.faces\.rate_hz: .* to 1e9 .*, got inf",
        ),
        ({"models": [faces(after="faces")]}, r"models\.faces\.after: expected an array"),
        ({"models": [faces(shapes={3: (1,)})]}, r"models\.faces\.shapes\.3: expected a non-empty"),
        ({"models": [faces(shapes=[1])]}, r"models\.faces\.shapes: expected a table"),
        ({"models": [faces()], "target": 3}, r"target: expected a non-empty string, got 3"),
        ({"models": [faces()], "host": {}}, r"host: expected HostOptions, got a table"),
        ({"models": [faces()], "host": HostOptions(threads=0)}, r"host\.threads: .* got 0"),
        ({"models": [faces(path="gone.onnx", name="a")]}, r"models\.a\.path: gone\.onnx does not"),
    ],
)
def test_a_wrong_python_specification(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=rf"^bundle specification: {message}"):
        validate(BundleSpec(**keys))


def test_only_a_bundle_specification_is_validated() -> None:
    spec: Any = {"models": {}}
    with pytest.raises(SpecError, match="expected a BundleSpec, got dict"):
        validate(spec)


def test_models_of_one_name_have_no_toml_form() -> None:
    with pytest.raises(SpecError, match="two models have this name"):
        to_table(BundleSpec(models=(faces(), faces())))


@pytest.mark.parametrize("key", ["x", "face.x", "faces."])
def test_shapes_of_several_models_name_the_model(key: str) -> None:
    with pytest.raises(SpecError, match=r"MODEL\.INPUT, MODEL one of faces, faces_2"):
        spec_from_models(["faces.onnx", "faces.onnx"], shapes={key: [1]})


def test_shapes_and_paths_of_the_wrong_type() -> None:
    number: Any = 5
    with pytest.raises(SpecError, match=r"models\.faces\.shapes\.x: expected an array .* got 5"):
        spec_from_models(["faces.onnx"], shapes={"x": number})
    with pytest.raises(SpecError, match=r'shapes\.x: expected an array .* got "1x3"'):
        spec_from_models(["faces.onnx"], shapes={"x": "1x3"})
    with pytest.raises(SpecError, match=r'paths: expected a list .* "faces\.onnx"'):
        spec_from_models("faces.onnx")
