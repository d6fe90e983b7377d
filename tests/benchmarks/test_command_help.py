"""``--help`` of the benchmarks keeps commands on lines of their own."""

from __future__ import annotations

from importlib import import_module

import pytest
from click.testing import CliRunner

from motet.benchmarks.command_help import help_of

COMMANDS = (
    "array_resnet50", "cost_model", "depthwise_replacement", "fast_math_ulp", "fuseconv",
    "fuseconv_onnx", "fuzz.__main__", "host_profile",
    "host_suite.__main__", "ios_array", "ios_array_batches", "onnx_backend_tests.__main__",
    "sosa_tables", "zoo.__main__",
)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_keep_their_lines(name: str) -> None:
    module = import_module(f"motet.benchmarks.{name}")
    text = CliRunner().invoke(module.main, ["--help"]).output
    commands = [line for line in module.__doc__.splitlines() if line.startswith("    python -m ")]
    assert commands
    assert {line.strip() for line in commands} <= {line.strip() for line in text.splitlines()}


def test_only_indented_paragraphs_do() -> None:
    assert help_of("One ``thing``.\n\n    a\n    b\n\nend") == (
        "One 'thing'.\n\n\b\n    a\n    b\n\nend"
    )
