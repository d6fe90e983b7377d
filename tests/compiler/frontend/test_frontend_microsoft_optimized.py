"""Models that onnxruntime's optimizers wrote, compiled, against onnxruntime on the originals."""

from collections import Counter

import numpy as np
import onnx
import pytest
from microsoft_models import Uses, compare, run, truth
from small_networks import HEADS, HIDDEN, WORDS, bert, bert_feeds, convnet, convnet_feeds, decoder

import motet
from motet.runtime.errors import UnsupportedOperatorError

runtime = pytest.importorskip("onnxruntime")


def optimized(proto, folder, level):
    """What onnxruntime saves of its own optimisations."""
    options = runtime.SessionOptions()
    options.graph_optimization_level, options.log_severity_level = level, 3
    options.optimized_model_filepath = str(folder / "optimized.onnx")
    runtime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return onnx.load(folder / "optimized.onnx")


def kinds(proto):
    return Counter(f"{n.domain}::{n.op_type}" if n.domain else n.op_type for n in proto.graph.node)


@pytest.mark.parametrize(
    ("network", "feeds", "fused"),
    [
        (bert, bert_feeds, {"SkipLayerNormalization", "Gelu", "FusedMatMul"}),
        (convnet, convnet_feeds, {"FusedConv", "FusedGemm"}),
    ],
    ids=["bert", "convnet"],
)
def test_extended_level(tmp_path, network, feeds, fused):
    proto, inputs = network(), feeds()
    written = optimized(proto, tmp_path, runtime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED)
    assert {f"com.microsoft::{name}" for name in fused} <= set(kinds(written))
    compare(run(written, inputs, tmp_path), truth(proto, inputs), 1e-3, 1e-4)


def test_all_levels(tmp_path):
    """A transformer keeps to what can be compiled; a convolutional network gets blocked."""
    every = runtime.GraphOptimizationLevel.ORT_ENABLE_ALL
    written, inputs = optimized(bert(1), tmp_path, every), bert_feeds()
    compare(run(written, inputs, tmp_path), truth(bert(1), inputs), 1e-3, 1e-4)
    blocked = optimized(convnet(), tmp_path, every)
    assert any(n.domain == "com.microsoft.nchwc" for n in blocked.graph.node)
    with pytest.raises(UnsupportedOperatorError, match=r"blocked layout.*ORT_ENABLE_EXTENDED"):
        run(blocked, convnet_feeds(), tmp_path)


@pytest.mark.parametrize("multi_head", [False, True], ids=["attention", "multi-head"])
def test_transformer_optimizer(tmp_path, multi_head):
    pytest.importorskip("sympy")  # which the optimizer needs
    optimizer = pytest.importorskip("onnxruntime.transformers.optimizer")
    fusion = pytest.importorskip("onnxruntime.transformers.fusion_options")
    options = fusion.FusionOptions("bert")
    options.use_multi_head_attention = multi_head
    path = tmp_path / "bert.onnx"
    path.write_bytes(bert().SerializeToString())
    fused = optimizer.optimize_model(
        str(path), "bert", HEADS, HIDDEN, optimization_options=options, opt_level=0
    )
    kind = "MultiHeadAttention" if multi_head else "Attention"
    assert {f"com.microsoft::{kind}", "com.microsoft::SkipLayerNormalization"} <= set(
        kinds(fused.model)
    )
    inputs = bert_feeds()
    want = truth(bert(), inputs)
    given = {i.name: i.type.tensor_type.elem_type for i in fused.model.graph.input}
    feeds = {n: a.astype(onnx.helper.tensor_dtype_to_np_dtype(given[n])) for n, a in inputs.items()}
    compare(run(fused.model, feeds, tmp_path), want, 1e-3, 1e-4)
    assert np.isfinite(want[0]).all()


def test_decoder_of_a_language_model(tmp_path):
    """A prompt of two sequences, and two steps with the caches."""
    proto, path = decoder(), tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    session = motet.load(motet.compile(path), threads=1)["m"]
    rng = np.random.default_rng(0)
    caches = [np.zeros((2, 1, 0, 16), "f")] * 4
    names = [i.name for i in proto.graph.input]
    for new, total in ((4, 4), (1, 5), (1, 6)):
        tokens, mask = rng.integers(0, WORDS, (2, new)), np.ones((2, total), np.int64)
        feeds = dict(zip(names, [*caches, tokens, mask], strict=True))
        want = truth(proto, feeds)
        compare(session.run(None, feeds), want, 1e-3, 1e-4)
        caches = want[1:]


def test_weights_that_an_optimizer_added_to_an_old_file(tmp_path):
    """Files of IR version 3 list weights as inputs; onnxruntime does not list its own."""
    uses = Uses()
    uses.add("BiasGelu", np.ones((2, 3), "f"), np.ones(3, "f"), constants=[1])
    proto = uses.proto()
    proto.ir_version = 3
    compare(run(proto, uses.feeds, tmp_path), truth(proto, uses.feeds))
