"""The zoo: known sizes of the architectures, seeds, spread of values, and that Motet runs them."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

import motet
from motet.benchmarks.zoo import figures, registry, variants
from motet.benchmarks.zoo.__main__ import main
from motet.benchmarks.zoo.building import GraphBuilder
from motet.errors import SpecError

# Of torchvision's models, torch.nn.Parameter elements and 10^9 multiply-accumulates at 224 x 224.
PUBLISHED = {
    ("resnet18", None): (11_689_512, 1.814),
    ("resnet34", None): (21_797_672, 3.664),
    ("resnet50", None): (25_557_032, 4.089),
    ("squeezenet", "1.0"): (1_248_424, 0.819),
    ("squeezenet", "1.1"): (1_235_496, 0.349),
}


def outputs(model: onnx.ModelProto, seed: int = 7) -> list[np.ndarray]:
    """What onnxruntime computes for a random input."""
    (info,) = model.graph.input
    shape = [dim.dim_value for dim in info.type.tensor_type.shape.dim]
    image = np.random.default_rng(seed).standard_normal(shape, dtype=np.float32)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    return session.run(None, {info.name: image})


@pytest.mark.parametrize(("name", "variant"), PUBLISHED)
def test_parameters_and_macs_are_the_published_ones(name, variant):
    model = registry.build(name, variant)
    onnx.checker.check_model(model, full_check=True)
    parameters, giga_macs = PUBLISHED[name, variant]
    assert figures.parameters(model) == parameters
    assert round(figures.macs(model) / 1e9, 3) == giga_macs


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet"])
def test_values_stay_finite_and_well_spread(name):
    model = registry.build(name, "@64")
    (first,), (second,) = outputs(model), outputs(model, seed=8)
    assert np.isfinite(first).all()
    assert 0.1 < first.std() < 10
    assert np.abs(first - second).mean() > 0.02  # it is the image that the values come from


def test_the_seed_decides_the_bytes():
    def content(seed):
        return registry.build("squeezenet", "@64", seed).SerializeToString(deterministic=True)

    assert content(3) == content(3)
    assert content(3) != content(4)


def test_a_weight_does_not_depend_on_the_layers_before_it():
    def last_weight(layers):
        graph = GraphBuilder("x", seed=1)
        x = graph.input("image", (1, 4, 8, 8))
        for index in range(layers):
            x = graph.conv(x, f"layer{index}", 4, 3)
        model = graph.model(y=graph.conv(x, "last", 4, 1))
        weights = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
        return weights["last.weight"]

    np.testing.assert_array_equal(last_weight(0), last_weight(2))


def test_the_builder_knows_the_shapes():
    graph = GraphBuilder("x", seed=0)
    x = graph.input("image", ("batch", 4, 15, 12))
    x = graph.conv(x, "conv", 6, (3, 2), (2, 1), (1, 0), groups=2, dilation=(2, 1))
    x = graph.relu6(graph.batch_norm(x, "norm"), "relu6")
    x = graph.max_pool(x, "max", 3, 2, 1, ceil_mode=True)
    x = graph.average_pool(x, "average", 2, 1)
    y = graph.linear(graph.flatten(x, "flatten"), "fc", 5)
    model = graph.model(y=y)
    assert {tuple(t.dims) for t in model.graph.initializer if t.name.startswith("relu6")} == {()}
    inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True)
    shapes = {
        info.name: tuple(d.dim_param or d.dim_value for d in info.type.tensor_type.shape.dim)
        for info in inferred.graph.value_info
    }
    assert shapes["average"] == x.shape
    assert shapes["fc"] == y.shape == ("batch", 5)


def test_squeezenet_agrees_with_onnxruntime(tmp_path):
    path = tmp_path / "squeezenet.onnx"
    done = CliRunner().invoke(main, ["squeezenet", "--variant", "@48", "-o", str(path)])
    assert done.exit_code == 0, done.output
    agrees(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "squeezenet"])
def test_whole_network_agrees_with_onnxruntime(tmp_path, name):
    path = tmp_path / f"{name}.onnx"
    onnx.save(registry.build(name), path)
    agrees(path)


def agrees(path):
    """Motet computes what onnxruntime does."""
    (expected,) = outputs(onnx.load(path))
    (model,) = motet.load(motet.compile(path)).values()
    shape = [int(dim) for dim in model.program.inputs[0].shape]
    image = np.random.default_rng(7).standard_normal(shape, dtype=np.float32)
    (logits,) = model.run(None, {"image": image})
    np.testing.assert_allclose(logits, expected, rtol=1e-3, atol=1e-4)


def test_the_list_has_every_name():
    done = CliRunner().invoke(main, ["--list"])
    assert done.exit_code == 0
    assert {"resnet18", "resnet50", "squeezenet"} <= set(done.output.split())
    assert "1 x 3 x 224 x 224" in next(row for row in done.output.splitlines() if "vgg19" in row)
    assert "--variant @SIZE" in done.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["resnet19", "-o", "x.onnx"], "no network 'resnet19'; it has "),
        (["squeezenet", "--variant", "2", "-o", "x.onnx"], "no variant '2'; it has 1.0, 1.1"),
        (["squeezenet", "--variant", "@big", "-o", "x.onnx"], "write NAME@SIZE, as in 1.1@64"),
        (["squeezenet"], "say which network and where"),
    ],
)
def test_mistakes_are_told(arguments, message):
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code != 0
    assert message in done.output


def test_variants_have_defaults():
    assert variants.parse("x", None, ["a", "b"], "a", 224) == ("a", 224)
    assert variants.parse("x", "@32", ["a", "b"], "a", 224) == ("a", 32)
    assert variants.parse("x", "b@32", ["a", "b"], "a", 224) == ("b", 32)
    with pytest.raises(SpecError, match="write NAME@SIZE"):
        variants.parse("x", "b@0", ["a", "b"], "a", 224)
