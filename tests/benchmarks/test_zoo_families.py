"""The zoo's networks beside ResNet: published sizes, spread of values, and that Motet runs them."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnxruntime
import pytest

import motet
from motet.benchmarks.zoo import figures, registry
from motet.errors import SpecError

# Parameters and 10^9 multiply-accumulates at 224 x 224: torchvision's metadata of its models
# (num_params, _ops).
PUBLISHED = {
    ("densenet121", None): (7_978_856, 2.834),
    ("densenet121", "169"): (14_149_480, 3.36),
    ("densenet121", "201"): (20_013_928, 4.291),
    ("mobilenet_v2", None): (3_504_872, 0.301),
    ("mobilenet_v3_large", None): (5_483_032, 0.217),
    ("mobilenet_v3_small", None): (2_542_856, 0.057),
    ("shufflenet_v2", None): (2_278_604, 0.145),
    ("shufflenet_v2", "x0.5"): (1_366_792, 0.04),
    ("shufflenet_v2", "x1.5"): (3_503_624, 0.296),
    ("shufflenet_v2", "x2.0"): (7_393_996, 0.583),
    ("vgg19", None): (143_667_240, 19.632),
    ("vgg19", "16"): (138_357_544, 15.47),
    ("vgg19", "13"): (133_047_848, 11.308),
    ("vgg19", "11"): (132_863_336, 7.609),
    ("vit_tiny", "base"): (86_567_656, 17.564),
    ("vit_tiny", "large"): (304_326_632, 61.555),
}

# Small enough for every run: they take seconds.
SMALL = [
    ("vgg19", "19-narrow@32"),
    ("bert_base", "tiny@16"),
    ("vit_tiny", "@32"),
    ("lstm", "512@4"),
    ("lstm", "small@3"),
]
# A kernel for each of many layers.
MANY_LAYERS = [
    ("densenet121", "@32"), ("shufflenet_v2", "@32"), ("mobilenet_v1", "0.25@64"),
    ("mobilenet_v2", "0.35@64"), ("mobilenet_v3_small", "@64"), ("mobilenet_v3_large", "@64"),
    ("efficientnet_lite0", "@64"),
]  # fmt: skip


def feeds(model: onnx.ModelProto, seed: int = 7) -> dict[str, np.ndarray]:
    """Random inputs: normal floats, small integers, and every token counts."""
    random = np.random.default_rng(seed)
    found = {}
    for info in model.graph.input:
        shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
        if info.type.tensor_type.elem_type == onnx.TensorProto.FLOAT:
            found[info.name] = random.standard_normal(shape, dtype=np.float32)
        elif info.name == "attention_mask":
            found[info.name] = np.ones(shape, np.int64)
        else:
            found[info.name] = random.integers(0, 2 if "type" in info.name else 1000, shape)
    return found


def outputs(model: onnx.ModelProto, inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
    """What onnxruntime computes."""
    content = model.SerializeToString()
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


@pytest.mark.parametrize(("name", "variant"), PUBLISHED)
def test_images_networks_have_the_published_sizes(name, variant):
    model = registry.outline(name, variant)
    parameters, giga_macs = PUBLISHED[name, variant]
    assert figures.parameters(model) == parameters
    assert round(figures.macs(model) / 1e9, 3) == giga_macs


@pytest.mark.parametrize(
    ("variant", "millions", "mega_macs"),
    [("1.0", 4.2, 569), ("0.75", 2.6, 325), ("0.5", 1.3, 149), ("0.25", 0.5, 41)],
)
def test_mobilenet_v1_has_the_papers_sizes(variant, millions, mega_macs):
    """Howard et al. 2017, table 6."""
    model = registry.outline("mobilenet_v1", variant)
    assert round(figures.parameters(model) / 1e6, 1) == millions
    assert round(figures.macs(model) / 1e6) == mega_macs


@pytest.mark.parametrize(
    ("variant", "mega_macs"), [("1.4", 582), ("0.75", 209), ("0.5", 97), ("0.35", 59)]
)
def test_other_widths_of_mobilenet_v2_have_the_published_sizes(variant, mega_macs):
    """The table of TensorFlow's models (research/slim/nets/mobilenet)."""
    model = registry.outline("mobilenet_v2", variant)
    assert round(figures.macs(model) / 1e6) == mega_macs


def test_efficientnet_lite0_has_the_published_size():
    """Parameters: timm's ``efficientnet_lite0``. Google's 407 M MACs count more than products."""
    model = registry.outline("efficientnet_lite0")
    assert figures.parameters(model) == 4_652_008
    assert 0.93 < figures.macs(model) / 407e6 < 1


@pytest.mark.parametrize(
    ("variant", "parameters", "giga_macs"), [("tiny", 5_717_416, 1.3), ("small", 22_050_664, 4.6)]
)
def test_small_vision_transformers_have_the_published_sizes(variant, parameters, giga_macs):
    """Parameters: timm's ``vit_*_patch16_224``. MACs: Wang et al. 2021 (PVT), DeiT's rows."""
    model = registry.outline("vit_tiny", variant)
    assert figures.parameters(model) == parameters
    assert round(figures.macs(model) / 1e9, 1) == giga_macs


def test_bert_base_has_the_published_size():
    """Parameters: ``bert-base-uncased``. MACs at 128 tokens: DeepSpeed's flops profiler."""
    model = registry.outline("bert_base")
    assert figures.parameters(model) == 109_482_240
    assert round(figures.macs(model) / 1e9, 2) == 11.17


@pytest.mark.parametrize(
    ("variant", "hidden", "millions"),
    [("tiny", 128, 4.4), ("mini", 256, 11.3), ("small", 512, 29.1), ("medium", 512, 41.7)],
)
def test_small_berts_have_the_papers_sizes(variant, hidden, millions):
    """Turc et al. 2019, table 1, which counts the head that predicts masked words too."""
    parameters = figures.parameters(registry.outline("bert_base", variant))
    head = hidden * hidden + hidden + 2 * hidden + 30522
    assert round((parameters + head) / 1e6, 1) == millions


def test_bert_large_has_the_published_size():
    model = registry.outline("bert_base", "large")
    assert figures.parameters(model) == 335_141_888  # bert-large-uncased


def test_lstm_has_the_size_of_torchs():
    """The shapes that torch.nn.LSTM's documentation lists, one product with each at each step."""
    model = registry.outline("lstm")
    products = 2 * (4 * 512 * 512 + 4 * 512 * 512)
    assert figures.parameters(model) == products + 2 * 2 * 4 * 512
    assert figures.macs(model) == 64 * products


@pytest.mark.parametrize(("variant", "millions"), [("small", 4.65), ("medium", 20), ("large", 66)])
def test_language_models_have_the_papers_sizes(variant, millions):
    digits = 2 if variant == "small" else 0
    assert round(figures.parameters(registry.outline("lstm", variant)) / 1e6, digits) == millions


@pytest.mark.parametrize(("name", "variant"), [*SMALL, *MANY_LAYERS])
def test_an_outline_has_the_shapes_of_the_model(name, variant):
    def shapes(model):
        return [(t.name, t.data_type, tuple(t.dims)) for t in model.graph.initializer]

    model, outline = registry.build(name, variant), registry.outline(name, variant)
    onnx.checker.check_model(model, full_check=True)
    assert outline.graph.node == model.graph.node
    assert shapes(outline) == shapes(model)
    assert figures.macs(outline) == figures.macs(model)
    weights = [t for t in outline.graph.initializer if math.prod(t.dims) > 1000]
    assert sum(t.ByteSize() for t in weights) < 100 * len(weights)


@pytest.mark.parametrize(("name", "variant"), [*SMALL, *MANY_LAYERS])
def test_values_stay_finite_and_well_spread(name, variant):
    model = registry.build(name, variant)
    first = outputs(model, feeds(model))[0]
    second = outputs(model, feeds(model, seed=8))[0]
    assert np.isfinite(first).all()
    assert 0.1 < first.std() < 10
    # It is the input that the values come from; without shortcuts ReLUs make inputs alike.
    assert np.abs(first - second).mean() > (1e-4 if name.startswith("mobilenet") else 0.02)


def test_a_masked_token_changes_nothing_but_itself():
    model = registry.build("bert_base", "tiny@16")
    inputs = feeds(model)
    inputs["attention_mask"][0, 12:] = 0
    first = outputs(model, inputs)[0]
    inputs["input_ids"][0, 12:] += 1
    second = outputs(model, inputs)[0]
    np.testing.assert_array_equal(first[:, :12], second[:, :12])
    assert np.abs(first[:, 12:] - second[:, 12:]).max() > 0.1


def agrees(path, name, variant):
    """Motet computes what onnxruntime does."""
    model = registry.build(name, variant)
    onnx.save(model, path)
    inputs = feeds(model)
    (compiled,) = motet.load(motet.compile(path)).values()
    for ours, theirs in zip(compiled.run(None, inputs), outputs(model, inputs), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(("name", "variant"), SMALL)
def test_small_networks_agree_with_onnxruntime(tmp_path, name, variant):
    agrees(tmp_path / f"{name}.onnx", name, variant)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "variant"),
    [*MANY_LAYERS, ("densenet121", None), ("shufflenet_v2", None), ("mobilenet_v2", None),
     ("vit_tiny", None), ("lstm", None), ("lstm", "medium"), ("bert_base", "small"),
     ("vgg19", "19-narrow")],
)  # fmt: skip
def test_whole_networks_agree_with_onnxruntime(tmp_path, name, variant):
    agrees(tmp_path / f"{name}.onnx", name, variant)


@pytest.mark.parametrize(
    ("name", "variant", "message"),
    [
        ("bert_base", "@513", "reads at most 512 tokens, not 513"),
        ("vit_tiny", "@100", "patches of 16: 100 is no multiple"),
        ("densenet121", "122", "no variant '122'; it has 121, 169, 201"),
        ("vgg19", "@16", "the image is smaller than the window"),
    ],
)
def test_mistakes_are_told(name, variant, message):
    with pytest.raises(SpecError, match=message):
        registry.build(name, variant)
