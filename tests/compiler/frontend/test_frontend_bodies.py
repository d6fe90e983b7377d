"""Function bodies that onnx defines for operators of other domains than its default one."""

from __future__ import annotations

import numpy as np
from frontend_models import check, model, value
from onnx import helper


def test_a_body_may_use_default_operators_without_importing_them(tmp_path):
    shape = (1, 2, 4, 8)
    node = helper.make_node("FlexAttention", ["q", "k", "v"], ["y"], domain="ai.onnx.preview")
    proto = model([node], [value(name, shape) for name in "qkv"], [value("y", shape)], opset=26)
    proto.opset_import.append(helper.make_opsetid("ai.onnx.preview", 1))
    random = np.random.default_rng(1)
    feeds = {name: random.standard_normal(shape).astype(np.float32) for name in "qkv"}
    check(proto, feeds, tmp_path)
