"""Versions: operator sets old, new, absent or twice; the format's own version; functions."""

from __future__ import annotations

from random import Random

import onnx

VERSIONS = (*range(27), -1, 100, 2**31, 2**62)


def change_opset(model: onnx.ModelProto, chance: Random) -> str:
    """Another version of the default operator set."""
    if not model.opset_import:
        return ""
    entry = chance.choice(model.opset_import)
    entry.version = chance.choice(VERSIONS)
    return f"operator set {entry.domain!r} is {entry.version}"


def change_imports(model: onnx.ModelProto, chance: Random) -> str:
    """No imports, one twice, or one of another domain."""
    what = chance.choice(("none", "twice", "other"))
    if what == "none":
        del model.opset_import[:]
    else:
        domain = "" if what == "twice" else chance.choice(("com.microsoft", "my.dom", "ai.onnx"))
        model.opset_import.append(onnx.helper.make_opsetid(domain, chance.choice(VERSIONS)))
    return f"imports of operator sets: {what}"


def change_format(model: onnx.ModelProto, chance: Random) -> str:
    """Another version of the file format."""
    model.ir_version = chance.choice((-1, 0, 1, 2, 3, 4, 8, 10, 99, 2**62))
    return f"the format's version is {model.ir_version}"


def wrap_in_function(model: onnx.ModelProto, chance: Random) -> str:
    """A node becomes a call of a local function, right or calling itself."""
    if not model.graph.node:
        return ""
    node = chance.choice(model.graph.node)
    function = onnx.FunctionProto(name="Wrapped", domain="my.dom")
    function.opset_import.extend(model.opset_import)
    function.input.extend(dict.fromkeys(name for name in node.input if name))
    function.output.extend(name for name in node.output if name)
    function.node.add().CopyFrom(node)
    if chance.random() < 0.3:
        function.node[0].op_type, function.node[0].domain = "Wrapped", "my.dom"
        function.opset_import.append(onnx.helper.make_opsetid("my.dom", 1))
    model.functions.append(function)
    model.opset_import.append(onnx.helper.make_opsetid("my.dom", 1))
    call = onnx.helper.make_node(
        "Wrapped", list(function.input), list(function.output), domain="my.dom"
    )
    node.CopyFrom(call)
    return f"{function.node[0].op_type} lies in a local function"


MUTATIONS = (change_opset, change_opset, change_imports, change_format, wrap_in_function)
