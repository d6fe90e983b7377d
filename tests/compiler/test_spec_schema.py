"""The published JSON Schema says what the code says, and is the one that is committed."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest

import motet.compiler
from motet.compiler.spec_schema import json_schema, schema_text
from motet.compiler.spec_table import from_table
from motet.runtime.errors import SpecError

GOOD: dict[str, Any] = {
    "name": "camera",
    "target": "edge",
    "host": {"cpu": "x86-64-v3", "threads": 2},
    "passes": {"fuse": {"enabled": False, "max_ops": 8}, "place": {"host_ops": ["Softmax_1"]}},
    "models": {
        "detector": {
            "path": "d.onnx",
            "shapes": {"x:0": [1, "n"]},
            "rate_hz": "30000/1001",
            "priority": -1,
        },
        "faces": {"path": "f.onnx", "inputs": {"x": "detector.y"}, "deadline_ms": 3.5},
        "log": {"path": "l.onnx", "after": ["faces"]},
    },
}
BAD: list[tuple[str, Any]] = [
    ("models", []),
    ("models.Faces", {"path": "x"}),
    ("models.faces.path", ""),
    ("models.faces.path", 3),
    ("models.faces.name", "x"),
    ("models.faces.rate_hz", 0),
    ("models.faces.rate_hz", 1e10),
    ("models.faces.rate_hz", "30"),
    ("models.faces.rate_hz", "30/0"),
    ("models.faces.rate_hz", None),
    ("models.faces.shapes", {"x": [[1], 0]}),
    ("models.faces.shapes", {"": [1]}),
    ("models.faces.shapes", {"x": [0]}),
    ("models.faces.shapes", {"x": ["N+1"]}),
    ("models.faces.inputs", {"x": "detector"}),
    ("models.faces.after", ["No"]),
    ("models.faces.priority", 2000),
    ("host.threads", 0),
    ("host.cpu", ""),
    ("host.cpu", "znver4"),
    ("passes.fuse.max_ops", 0),
    ("passes.place.host_ops", [""]),
    ("passes.fused", {}),
    ("target", ""),
    ("name", ".x"),
]


def test_the_committed_schema_is_fresh() -> None:
    file = Path(motet.compiler.__path__[0]) / "spec.schema.json"
    assert file.read_text(encoding="utf-8") == schema_text(), (
        "run python -m motet.compiler.spec_schema > compiler/spec.schema.json"
    )


def with_key(path: str, value: Any) -> dict[str, Any]:
    table = copy.deepcopy(GOOD)
    *parents, last = path.split(".")
    node = table
    for key in parents:
        node = node.setdefault(key, {})
    node[last] = value
    return table


def validator() -> Any:
    jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")
    jsonschema.Draft202012Validator.check_schema(json_schema())
    return jsonschema.Draft202012Validator(json_schema())


def test_schema_and_code_accept_the_same_good_table() -> None:
    assert from_table(GOOD).models[0].name == "detector"
    assert list(validator().iter_errors(GOOD)) == []


@pytest.mark.parametrize(("path", "value"), BAD)
def test_the_code_refuses(path: str, value: Any) -> None:
    if value is not None:  # TOML has no null, so only the schema can meet one
        with pytest.raises(SpecError, match=r"^bundle specification: "):
            from_table(with_key(path, value))


@pytest.mark.parametrize(("path", "value"), BAD)
def test_the_schema_refuses(path: str, value: Any) -> None:
    assert list(validator().iter_errors(with_key(path, value)))


def test_a_bundle_without_models_is_refused_by_the_schema() -> None:
    assert list(validator().iter_errors({}))
    assert list(validator().iter_errors({"models": {}}))


def test_every_key_is_described() -> None:
    schema = json_schema()
    assert schema["title"] == "Motet bundle specification"
    assert "$id" not in schema
    for part in [schema, *schema["$defs"].values()]:
        assert part["description"]
        assert part["additionalProperties"] is False
        for key in part["properties"].values():
            assert "$ref" in key or key["description"]
    assert "null" not in json.dumps(schema)
