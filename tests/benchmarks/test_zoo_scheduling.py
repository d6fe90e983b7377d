"""The zoo's networks that schedulers are compared on: published sizes, and values that live."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest

from motet.benchmarks.zoo import figures, randwire, registry

# Parameters and multiply-accumulates. torchvision: num_params without the auxiliary classifier's
# 3 326 696, and 10^9 x _ops, of its Inception_V3_Weights; SqueezeNet with bypass, poolings rounded
# down: Ding et al. 2021's public network.
EXACT = {
    ("inception_v3", "torchvision"): (27_161_264 - 3_326_696, 5_713_216_096),
    ("squeezenet", "bypass"): (None, 1_187_100_160),
}


@pytest.mark.parametrize(("name", "variant"), EXACT)
def test_sizes_are_the_published_ones(name, variant):
    model = registry.outline(name, variant)
    parameters, macs = EXACT[name, variant]
    assert parameters is None or figures.parameters(model) == parameters
    assert figures.macs(model) == macs


def test_plain_inception_lacks_the_normalisations_and_the_classifier():
    """Per convolution's channel a bias instead of a scale and a shift; 2048 x 1000 + 1000 less."""
    plain, whole = (registry.outline("inception_v3", v) for v in ("plain", "torchvision"))
    channels = sum(
        tensor.dims[0] for tensor in plain.graph.initializer if tensor.name.endswith(".bias")
    )
    expected = figures.parameters(whole) - channels - 2049 * 1000
    assert figures.parameters(plain) == expected
    assert figures.macs(plain) == figures.macs(whole) - 2048 * 1000


def test_randwire_has_the_papers_size():
    """Xie et al. 2019, table 3: C = 154, 61.5 +- 1.32 M with a classifier, 7.9 +- 0.18 G."""
    model = registry.outline("randwire")
    assert abs(figures.parameters(model) + 1281 * 1000 - 61.5e6) < 1.32e6
    assert abs(figures.macs(model) + 1280 * 1000 - 7.9e9) < 0.18e9


def test_randwires_stages_are_draws_of_watts_and_strogatz():
    """Of n nodes and 4 neighbours each, rewired: 2 n edges, and the first nodes are read."""
    sources = [randwire.sources_of(edges) for edges in randwire.STAGES]
    assert [len(stage) for stage in sources] == [16, 32, 32, 32]
    assert [sum(map(len, stage)) for stage in sources] == [32, 64, 64, 64]
    assert all(
        reads == sorted(set(reads)) and all(source < node for source in reads)
        for stage in sources
        for node, reads in enumerate(stage)
    )


def test_nasnet_is_as_large_as_published():
    """Zoph et al. 2018, table 2: 23.8 G; less here, where normal cells give five sums, not six."""
    model = registry.outline("nasnet_a_large")
    assert 0.9 < figures.macs(model) / 23.8e9 < 1
    poolings = [node for node in model.graph.node if node.op_type.endswith("Pool")]
    assert len(poolings) == 15 * 3 + 3 * 3 + 4 * 4 + 1  # normal, first and reduction cells; the end


@pytest.mark.parametrize(
    ("name", "variant", "features"),
    [
        ("inception_v3", "@75", 2048),
        ("nasnet_a_large", "@17", 3360),
        ("nasnet_a_large", "ios@17", 3360),
        ("randwire", "@32", 1280),
        ("squeezenet", "bypass@64", 1000),
    ],
)
def test_values_are_of_the_image(name, variant, features):
    content = registry.build(name, variant).SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    shape = session.get_inputs()[0].shape
    first, second = (
        session.run(None, {"image": np.random.default_rng(seed).standard_normal(shape, np.float32)})
        for seed in (7, 8)
    )
    assert first[0].shape == (1, features)
    assert np.isfinite(first[0]).all()
    assert 0.05 < first[0].std() < 30
    assert np.abs(first[0] - second[0]).mean() > 0.003


def test_the_first_stem_of_nasnet_differs_between_the_variants():
    def reads_c1(variant: str) -> int:
        graph = registry.outline("nasnet_a_large", variant).graph
        return sum(list(node.input).count("stem0.c1") for node in graph.node)

    assert (reads_c1("large"), reads_c1("ios")) == (2, 1)


def test_the_files_pass_onnx_checker():
    for name in ("inception_v3", "randwire"):
        onnx.checker.check_model(registry.build(name, "@75"), full_check=True)
