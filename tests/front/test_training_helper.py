"""Decisions applied to a module: the right activations go, or nothing does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from motet import training
from motet.passes.decisions import Decided, Decisions, Geometry, Merge, Removed, write_decisions
from motet.runtime.errors import InputError


class _Module:
    """As much of ``torch.nn.Module`` as the helper asks for."""

    def __init__(self, **children: Any) -> None:
        self.__dict__.update(children)

    def get_submodule(self, path: str) -> Any:
        found = self
        for part in path.split(".") if path else ():
            found = getattr(found, part)
        return found


def _network() -> _Module:
    blocks = _Module(**{"0": _Module(act="a"), "1": _Module(act="b")})
    return _Module(blocks=blocks, shared="s")


def _decided(*nodes: tuple[str, ...]) -> Decided:
    shape = Geometry(in_channels=1, out_channels=1, kernel=(1,), stride=(1,), padding=(0, 0),
                     dilation=(1,))  # fmt: skip
    merge = Merge(
        model="m", block=0, nodes=("c",), convolutions=("c",), input="x", output="c",
        removed=tuple(Removed(nodes=group, affine="map") for group in nodes),
        input_shape=(1, 1, 4), output_shape=(1, 1, 4), geometry=shape,
    )  # fmt: skip
    return Decided(Decisions(decisions=(merge,)), {"map": np.array([[2.0], [3.0]])})


@pytest.fixture(autouse=True)
def _identities(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_identity", lambda: "identity")
    monkeypatch.setattr(training, "_affine", lambda values: values.tolist())


@pytest.mark.parametrize(
    ("node", "path"),
    [
        ("/blocks/blocks.1/act/Clip", "blocks.1.act"),
        ("/features/features.0/features.0.2/Relu", "features.0.2"),
        ("/act/Relu_1", "act"),
        ("stem/act", "stem.act"),
    ],
)
def test_paths_of_exported_nodes(node: str, path: str) -> None:
    assert training.module_path(node) == path


def test_removed_activations_become_identities(tmp_path: Path) -> None:
    module = _network()
    write_decisions(_decided(("/blocks/blocks.1/act/Clip",)), tmp_path / "d.json")
    assert training.apply_decisions(module, tmp_path / "d.json") == ["blocks.1.act"]
    assert module.get_submodule("blocks.1.act") == "identity"
    assert module.get_submodule("blocks.0.act") == "a"


def test_affine_maps_and_names_of_ones_own() -> None:
    module = _network()
    done = training.apply_decisions(
        module, _decided(("silu/sigmoid", "silu/mul")), {"silu/mul": "blocks.0.act"}, affine=True
    )
    assert done == ["blocks.0.act"]
    assert module.get_submodule("blocks.0.act") == [[2.0], [3.0]]


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([("/blocks/blocks.7/act/Clip",)], r"no submodule 'blocks\.7\.act'"),
        ([("/blocks/blocks.0/act/Clip",), ("/shared/Relu",), ("/shared/Relu_1",)],
         "'shared' stands for several"),
        ([("/blocks/blocks.0/act/Mul", "/blocks/blocks.1/act/Mul")], "in several modules"),
    ],
)  # fmt: skip
def test_nothing_is_replaced_where_one_is_not_found(nodes: Any, message: str) -> None:
    module = _network()
    with pytest.raises(InputError, match=message):
        training.apply_decisions(module, _decided(*nodes))
    assert module.get_submodule("blocks.0.act") == "a"
