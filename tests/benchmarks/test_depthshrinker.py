from __future__ import annotations

import pytest
from tvm import IRModule

from motet.benchmarks import depthshrinker
from motet.benchmarks.depthshrinker import MODEL, VARIANTS, Variant, counts, merged_module
from motet.compiler.frontend.load import load_model
from motet.passes.canonicalize import canonicalize


@pytest.fixture(scope="module")
def network() -> IRModule:
    with depthshrinker.network() as path:
        return canonicalize(load_model(path, MODEL).module)


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_variants_have_the_published_figures(network: IRModule, variant: Variant) -> None:
    macs, mflops, _ = counts(merged_module(network, variant))
    assert macs == variant.macs
    assert mflops == variant.mflops


def test_published_macs_are_rounded_figures_of_the_paper() -> None:
    published = [582.196, 496.22, 481.87, 474.42, 407.93]
    for variant, millions in zip(VARIANTS, published, strict=True):
        assert variant.macs / 1e6 == pytest.approx(millions, abs=0.005)
