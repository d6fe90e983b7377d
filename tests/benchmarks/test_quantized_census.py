"""The census of integer products: what quantisers write runs in integers, and floats are seen."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest

from motet.benchmarks.quantized_census import Network, census, networks, quantised


def network(name: str, folder: Path) -> Network:
    (found,) = networks([name], folder)
    return found


@pytest.mark.parametrize(
    ("name", "quantiser"),
    [
        ("digits_mobile", "motet 4/8"),
        ("digits_mobile", "ort QOperator"),
        ("digits_inception", "ort QDQ u8u4"),
        ("digits_inception", "ort dynamic"),
        ("digits_transformer", "motet 8/8"),
        ("digits_transformer", "ort QDQ s8s8"),
    ],
)
def test_all_products_are_integers(name: str, quantiser: str, tmp_path: Path):
    source = network(name, tmp_path)
    path = quantised(source, quantiser, tmp_path / "quantised.onnx")
    found = census(source, quantiser, path)
    assert found.floats == ()
    assert found.integer_macs == found.macs > 1e5


def test_a_product_in_floats_is_named_with_what_it_reads(tmp_path: Path):
    source = network("digits_transformer", tmp_path)
    found = census(source, "none", source.path)
    assert found.integer_macs == 0
    assert sum(product.macs for product in found.floats) == found.macs
    names = {node.name for node in onnx.load(source.path).graph.node}
    assert all(set(product.nodes) & names for product in found.floats)
    assert any("a constant" in product.operands for product in found.floats)
