"""Bundles for an array of which nothing landed on it: every door says so, why, and the remedy."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from front_outcome import Motet

import motet
from motet.placement_words import nothing_line, refusals, refused_line

RECORD = (
    "9 calls -> 9; 0 operators on the array, 9 refused (its shape [n, 4] is symbolic: a, b, c, d "
    "and 2 more; no tiles fit: its scratchpad is too small (5 words free); give the pods more, or "
    "leave the layer to the host: e; its shape [n] is symbolic: f; relax.mean over all axes: g)"
)


def test_reasons_are_counted_most_frequent_first() -> None:
    tiles = (
        "no tiles fit: its scratchpad is too small (5 words free); give the pods more, or leave "
        "the layer to the host"
    )
    assert refusals(RECORD) == [("open sizes", 7), (tiles, 1), ("mean over all axes", 1)]
    assert refused_line(RECORD).startswith("9 operators that arrays compute stay on the host: 7 ")
    assert refusals("4 calls -> 4; 4 operators on the array, 0 refused") == []
    assert refused_line("4 calls -> 4; 4 operators on the array, 0 refused") == ""
    assert "7 of 9 operators are refused for open sizes; fix them" in nothing_line("m", "a", RECORD)


def test_the_command_line_says_it(run_motet: Motet, models: Path) -> None:
    made = run_motet("compile", models / "open.onnx", "--target", "tiny-4x4", "-o", "idle.motet")
    assert made.code == 0
    assert "warning: nothing of model 'open' runs on the array: its input 'x'" in made.err
    assert "--shape x:1x4" in made.err
    says = "nothing of model 'open' runs on array 'tiny-4x4': 1 of 1 operators are refused for open"
    shown = run_motet("inspect", "idle.motet", "--asm")
    assert (shown.code, shown.out) == (2, "")
    assert f"--asm: there are no array programs: {says}" in shown.err
    text = run_motet("simulate", "idle.motet").out
    assert says in text
    assert "MACs on the array" not in text
    assert "calls ->" not in text


def test_python_warns(models: Path) -> None:
    with pytest.warns(UserWarning, match="nothing of model 'open' runs on array 'tiny-4x4'"):
        motet.compile(models / "open.onnx", target="tiny-4x4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        motet.compile(models / "open.onnx", target="tiny-4x4", shapes={"x": (1, 4)})
        motet.compile(models / "open.onnx")
