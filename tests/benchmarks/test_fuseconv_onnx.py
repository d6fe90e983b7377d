"""FuSeConv's cycle table from ONNX models, built and made by the pass."""

from __future__ import annotations

import pytest

from motet.benchmarks.fuseconv import PUBLISHED
from motet.benchmarks.fuseconv_onnx import NETWORKS, cycles_of, rows_of
from motet.benchmarks.zoo import figures, registry

# Recomputed from the publication's definitions.
CYCLES = {
    ("mobilenet-v1", "base"): 2521760,
    ("mobilenet-v1", "full"): 621072,
    ("mobilenet-v1", "half"): 375032,
    ("mobilenet-v1", "full50"): 1143728,
    ("mobilenet-v1", "half50"): 1064904,
    ("mobilenet-v2", "base"): 2961936,
    ("mobilenet-v2", "full"): 576542,
    ("mobilenet-v2", "half"): 411682,
    ("mobilenet-v2", "full50"): 1449666,
    ("mobilenet-v2", "half50"): 1370794,
}
QUICK = [("mobilenet-v1", "half", False), ("mobilenet-v2", "full50", True)]


@pytest.mark.parametrize(("network", "variant", "replace"), QUICK)
def test_cycles_to_the_cycle(network: str, variant: str, replace: bool) -> None:
    assert cycles_of(network, variant, replace=replace) == CYCLES[network, variant]


@pytest.mark.slow
@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize(("network", "variant"), CYCLES)
def test_all_cycles(network: str, variant: str, replace: bool) -> None:
    assert cycles_of(network, variant, replace=replace) == CYCLES[network, variant]


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
def test_published_speedups(network: str) -> None:
    rows = {row.variant: row for row in rows_of(network)}
    for variant, published in PUBLISHED[network].items():
        assert rows[variant].speedup == pytest.approx(published, rel=0.015)


def test_variants_have_fuseconvs_sizes() -> None:
    """Parameters of MnasNet-B1 are torchvision's; of V1's depthwise layers 3 C taps are left."""
    assert figures.parameters(registry.outline("mnasnet_b1")) == 4_383_312
    assert round(figures.macs(registry.outline("mnasnet_b1")) / 1e9, 3) == 0.314
    base, half = (
        figures.parameters(registry.outline("mobilenet_v1", v)) for v in (None, "1.0-half")
    )
    channels = 32 + 64 + 128 * 2 + 256 * 2 + 512 * 6 + 1024
    assert base - half == channels * (9 - 3)
    full = figures.macs(registry.outline("mobilenet_v1", "1.0-full"))
    assert round(full / 1e6) == 1102
