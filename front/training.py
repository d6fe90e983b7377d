"""A way back to training: the decisions of a merge, applied to the PyTorch module.

DepthShrinker's flow is choose, fine-tune, merge: activations are taken out of the network,
it is trained on without them, and only then its convolutions are merged, which is exact.

>>> removed = motet.training.apply_decisions(module, "merged.json")
>>> ...                                 # fine-tune module, export it
$ motet merge tuned.onnx -o merged.onnx                         # exact: nothing to remove

What names a module in PyTorch is found from the ONNX node's name, which
``torch.onnx.export`` makes of the modules' path (``/block/block.0/act/Clip``); for other names
give ``names``. PyTorch is imported only where a module of it is made.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from motet.passes.decisions import Decided, read_decisions
from motet.runtime.device import Array
from motet.runtime.errors import EnvironmentLackError, InputError

Names = Mapping[str, str] | Callable[[str], str | None]
"""ONNX node name -> path of the module, as ``get_submodule`` takes it."""


def apply_decisions(
    module: Any,
    decisions: Decided | str | os.PathLike[str],
    names: Names | None = None,
    affine: bool = False,
) -> list[str]:
    """Replace the activations that ``decisions`` remove, in place, before fine-tuning.

    Parameters
    ----------
    module: a ``torch.nn.Module``.
    decisions: what ``motet merge`` decided, or the file that it wrote.
    names: for node names that are no paths of modules: a mapping, or a function that gives
        a path (None: none of this node's own, as for one of several nodes of an activation).
    affine: put the fitted scale and shift per channel in the activation's place (trainable),
        where the decisions hold them; else, and where they do not, ``torch.nn.Identity``.

    Returns the paths of the modules that were replaced, in order.

    Raises
    ------
    InputError
        For a node without a module, and a module that other nodes use as well; nothing is
        replaced then. SpecError where the file holds no decisions.
    """
    decided = decisions if isinstance(decisions, Decided) else read_decisions(Path(decisions))
    wanted = _wanted(module, decided, names)
    for path, key in wanted.items():
        parent, _, leaf = path.rpartition(".")
        new = _affine(decided.weights[key]) if affine and key else _identity()
        setattr(module.get_submodule(parent) if parent else module, leaf, new)
    return list(wanted)


def _wanted(module: Any, decided: Decided, names: Names | None) -> dict[str, str]:
    """Path of each module to replace, with the key of its affine map or ""."""
    found: dict[str, str] = {}
    for merge in decided.decisions.merges:
        for removed in merge.removed:
            paths = [p for node in removed.nodes if (p := _path(node, names)) is not None]
            paths = list(dict.fromkeys(path for path in paths if _has(module, path)))
            if len(paths) != 1:
                raise InputError(
                    f"activation {removed.nodes[-1]!r}: {_told(removed.nodes, paths, names)}"
                )
            if paths[0] in found:
                raise InputError(
                    f"module {paths[0]!r} stands for several activations, of which "
                    f"{removed.nodes[-1]!r} is one: give each a module of its own"
                )
            found[paths[0]] = removed.affine
    return found


def _told(nodes: tuple[str, ...], paths: list[str], names: Names | None) -> str:
    if paths:
        return f"its nodes are in several modules: {', '.join(paths)}"
    tried = ", ".join(repr(_path(node, names)) for node in nodes)
    return (
        f"the module has no submodule {tried}: say with names which module it is (an activation "
        "called as a function has none: make it a module)"
    )


def _has(module: Any, path: str) -> bool:
    try:
        module.get_submodule(path)
    except AttributeError:
        return False
    return bool(path)


def _path(node: str, names: Names | None) -> str | None:
    """The module's path for a node's name."""
    if names is None:
        return module_path(node)
    return names(node) if callable(names) else names.get(node)


def module_path(node: str) -> str:
    """The module of a node that ``torch.onnx.export`` named: ``/a/a.0/act/Relu`` -> ``a.0.act``.

    A scope of a container's item repeats the container: ``a`` and then ``a.0``.
    """
    parts = [part for part in node.split("/") if part]
    scopes = parts[:-1] if node.startswith("/") else parts
    path: list[str] = []
    for scope in scopes:
        if path and scope.startswith(f"{path[-1]}."):
            path[-1] = scope
        else:
            path.append(scope)
    return ".".join(path)


def _torch() -> Any:
    try:
        return import_module("torch")
    except ImportError as error:
        raise EnvironmentLackError("modules of PyTorch need it: pip install torch") from error


def _identity() -> Any:
    return _torch().nn.Identity()


def _affine(values: Array) -> Any:
    """``x scale + shift`` per channel as a depthwise convolution of one tap, trainable."""
    torch = _torch()
    channels = values.shape[1]
    layer = torch.nn.Conv2d(channels, channels, 1, groups=channels)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(values[0]).reshape(-1, 1, 1, 1))
        layer.bias.copy_(torch.tensor(values[1]))
    return layer
