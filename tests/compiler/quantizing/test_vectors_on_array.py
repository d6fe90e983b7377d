"""Files of vectors that ``motet quantize`` writes, on an array with vector units."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from test_vector_import import quantized_file

import motet
from motet.targets.systolic.instructions.encoding import decode


def integers_only(folder: Path) -> Path:
    """``vsquant-64x64`` without floats: what is no product of vectors is the host's."""
    files = resources.files("motet.targets.systolic.architectures")
    text = (files / "vsquant-64x64.toml").read_text()
    path = folder / "integers.toml"
    path.write_text(
        text.replace('formats = ["fp32", "int8", "int4"]', 'formats = ["int8", "int4"]')
    )
    return path


@pytest.mark.parametrize("setting", ["4/8/6/10", "4/4/4/4", "8/8/6/10"])
@pytest.mark.parametrize("name", ["convolutions", "perceptron", "attention"])
def test_the_array_computes_what_the_host_does(name: str, setting: str, tmp_path: Path) -> None:
    model, inputs, products = quantized_file(name, setting, tmp_path)
    host = motet.compile(model)
    array = motet.compile(model, target=str(integers_only(tmp_path)))
    formats = [decode(data).format for data in array.array_programs.values()]
    operators = array.programs["integers"].operators
    assert sum(operator.target == "array" for operator in operators) == products
    assert all(each.startswith("v16-") for each in formats)
    ran = motet.load(array)["integers"]
    (expected,) = motet.load(host)["integers"].run(None, inputs)
    (result,) = ran.run(None, inputs)
    np.testing.assert_allclose(result, expected, rtol=2e-6, atol=2e-6)
    report = ran.simulate(inputs)
    assert report.array_share == 1
    assert report.gated_share is not None
    assert 0 <= report.gated_share < 1
    assert all(program.gated_products is not None for program in report.programs)


def test_other_lengths_stay_on_the_host_and_say_why(tmp_path: Path) -> None:
    model, _, _ = quantized_file("perceptron", "4/8/6/10", tmp_path)
    with pytest.warns(UserWarning, match="no vector units"):
        bundle = motet.compile(model, target="edge-64x64")
    assert "no vector units (per_vector)" in str(bundle.manifest)
