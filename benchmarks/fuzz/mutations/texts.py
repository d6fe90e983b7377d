"""Text fields: names with odd Unicode, of nodes, values, graphs and documentation."""

from __future__ import annotations

from random import Random

import onnx

from .graphs import graphs, pick_graph, pick_node, rename, values

ODD = (
    "", " ", "\n", "a\nb", "\r\x1b[31mred", "\x00", "\t", "'", '"', "{}", "{0.__class__}", "%s%n",
    "名前", "é", "e\u0301", "\u202egnp", "\ufeff", "\u2028", "\U0001f9e8", "\U000e0041", "\ud7ff",
    "../../etc/passwd", "C:\\x", "a" * 5000, "0", "-1", "1e9", "main", "if", "None", "x.y/z:0",
    "lv", "gv", "T.int64", "N*M", "N//0", "9**9**9", "(" * 300, "__import__('os')", "input_1",
)  # fmt: skip


def odd_text(chance: Random) -> str:
    """A text that few expect as a name."""
    return chance.choice(ODD)


def node_name(model: onnx.ModelProto, chance: Random) -> str:
    """Another name of a node."""
    node = pick_node(model, chance)
    if node is None:
        return ""
    node.name = odd_text(chance)
    return f"a node is called {node.name[:20]!r}"


def rename_value(model: onnx.ModelProto, chance: Random) -> str:
    """Another name of a value, everywhere: the model stays right if the name is legal."""
    names = values(model.graph)
    if not names:
        return ""
    old, new = chance.choice(names), odd_text(chance)
    if new in names:
        return ""
    rename(model.graph, lambda name: new if name == old else name)
    return f"value {old!r} is called {new[:20]!r}"


def rename_everything(model: onnx.ModelProto, chance: Random) -> str:
    """Every value's name with an odd ending, or all of them numbers: the model stays right."""
    if chance.random() < 0.5:
        ending = odd_text(chance)
        rename(model.graph, lambda name: name + ending)
        return f"every value's name ends in {ending[:20]!r}"
    numbers: dict[str, str] = {}
    rename(model.graph, lambda name: numbers.setdefault(name, str(len(numbers))))
    return "every value's name is a number"


def other_texts(model: onnx.ModelProto, chance: Random) -> str:
    """Producer, documentation, metadata, the graph's name: nothing depends on them."""
    text = odd_text(chance)
    model.producer_name = model.producer_version = model.doc_string = text
    for graph in graphs(model.graph):
        graph.name = graph.doc_string = text
    entry = model.metadata_props.add()
    entry.key = entry.value = text
    return f"graph, producer and documentation are {text[:20]!r}"


def name_no_names(model: onnx.ModelProto, chance: Random) -> str:
    """All nodes lose their names, or all have the same."""
    text = chance.choice(("", "same", odd_text(chance)))
    for node in pick_graph(model, chance).node:
        node.name = text
    return f"every node is called {text[:20]!r}"


MUTATIONS = (node_name, rename_value, rename_everything, other_texts, name_no_names)
