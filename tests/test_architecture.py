"""What the house promises: light imports, no tvm on the ground floor, a complete package."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from importlib.metadata import distribution, version
from importlib.resources import files
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROOMS = ("front", "runtime", "targets", "passes", "compiler", "benchmarks")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
HEAVY = {"tvm", "onnx", "onnxruntime"}


def _loaded(statement: str, folder: Path) -> set[str]:
    """Names in ``sys.modules`` of a new interpreter after ``statement``."""
    code = f"{statement}; import json, sys; print(json.dumps(list(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=folder
    )
    return set(json.loads(done.stdout))


def _relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize(
    "statement",
    [
        "import motet",
        "import motet.cli",
        "import motet; motet.load, motet.compile, motet.errors",
        "import motet.runtime.session, motet.targets.systolic.simulation.device",
    ],
)
def test_import_leaves_compiler_and_tvm_out(statement: str, tmp_path: Path) -> None:
    loaded = _loaded(statement, tmp_path)
    assert "motet" in loaded
    assert not loaded & (HEAVY | {"motet.compiler", "motet.passes"})


def test_the_specification_needs_no_tvm(tmp_path: Path) -> None:
    loaded = _loaded("import motet.compiler.spec", tmp_path)
    assert "motet.compiler.spec" in loaded
    assert not loaded & {"tvm", "onnxruntime"}


def _docstrings(tree: ast.Module) -> set[int]:
    """The identities of the expressions that are docstrings."""
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = [node.body for node in ast.walk(tree) if isinstance(node, owners)]
    return {id(body[0].value) for body in bodies if body and isinstance(body[0], ast.Expr)}


def _names(tree: ast.Module) -> list[str]:
    """Every dotted name that code imports or writes, and every string but docstrings."""
    docstrings, found = _docstrings(tree), []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
        elif isinstance(node, ast.Name):
            found.append(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found += [] if id(node) in docstrings else [node.value]
    return found


def test_names_finds_imports_and_strings_but_no_docstrings() -> None:
    tree = ast.parse('"""tvm"""\nimport tvm.ir\nfrom tvm_ffi import a\nb = load("tvm")')
    assert sorted(_names(tree)) == ["b", "load", "tvm", "tvm.ir", "tvm_ffi"]


@pytest.mark.parametrize("path", sorted((ROOT / "runtime").rglob("*.py")), ids=_relative)
def test_runtime_uses_tvm_ffi_and_never_tvm(path: Path) -> None:
    names = _names(ast.parse(path.read_text(encoding="utf-8")))
    assert not [name for name in names if re.match(r"(tvm|onnx|onnxruntime)(\.|$)", name)]


@pytest.mark.parametrize("path", MODULES, ids=_relative)
def test_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def _declared_version() -> str:
    found = re.search(r'^version = "(.+)"$', (ROOT / "pyproject.toml").read_text("utf-8"), re.M)
    assert found
    return found[1]


def test_version_is_the_same_everywhere() -> None:
    declared = _declared_version()
    assert version("motet") == declared
    changes = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    newest = re.search(r"^## \[?(\d[^\s\]]*)", changes, re.M)
    assert newest
    assert newest[1] == declared


def test_every_dependency_is_pinned() -> None:
    pins = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    pinned = set(re.findall(r"^([a-z0-9-]+)==", pins, re.M))
    required = {re.split(r"[\[<>=!~; ]", line)[0] for line in distribution("motet").requires or ()}
    assert not required - pinned - {"motet"}


@pytest.mark.parametrize(
    ("package", "pattern"),
    [
        ("motet", "py.typed"),
        ("motet.compiler", "spec.schema.json"),
        ("motet.targets.host", "threads.c"),
        ("motet.targets.systolic.architectures", "*.toml"),
    ],
)
def test_data_files_are_installed(package: str, pattern: str) -> None:
    folder = ROOT.joinpath(*package.replace("motet", "front", 1).replace("front.", "").split("."))
    expected = {path.name for path in folder.glob(pattern)}
    assert expected
    assert expected <= {entry.name for entry in files(package).iterdir()}


def test_installs_nothing_beside_motet() -> None:
    installed = distribution("motet")
    if "editable" in (installed.read_text("direct_url.json") or ""):
        pytest.skip("an editable install: `make test` checks a plain one")
    paths = [path.as_posix() for path in installed.files or ()]
    allowed = re.compile(r"motet/|motet-[^/]+\.dist-info/|(\.\./)+bin/motet$")
    assert paths
    assert not [path for path in paths if not allowed.match(path)]
    assert any(path.endswith("licenses/LICENSE") for path in paths)
