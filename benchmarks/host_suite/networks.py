"""Which networks the suite has, and how each comes into a file.

Names: ``onnx/NAME`` an architecture of onnx's backend data; ``NAME`` or ``NAME@SIZE`` a
network of the zoo, ``int8/NAME-FORM`` one of them in 8 bits; ``examples/NAME`` and
``models/NAME`` files of the examples and of the folder that MOTET_MODELS names.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import onnx

from motet.benchmarks.host_suite import onnx_models, quantized
from motet.benchmarks.zoo import registry
from motet.errors import SpecError
from motet.runtime.atomic import write_atomically

ZOO = (
    "mobilenet_v1", "mobilenet_v2", "mobilenet_v3_small", "mobilenet_v3_large",
    "efficientnet_lite0", "bert_base", "vit_tiny", "lstm",
)  # fmt: skip
EXAMPLES = Path("examples/models")


@dataclass(frozen=True)
class Network:
    """A network by its name; ``file``: where it lies, None where ``write`` makes it."""

    name: str
    file: Path | None = None

    def path(self, folder: Path) -> Path:
        """Its ONNX file, made in ``folder`` where it is not there yet."""
        if self.file is not None:
            return self.file
        path = folder / f"{self.name.replace('/', '-').replace('@', '-')}.onnx"
        if not path.exists():
            write_atomically(path, [self._build().SerializeToString(deterministic=True)])
        return path

    @property
    def in_fp32(self) -> Network | None:
        """What a network in 8 bits was quantised from; None for any other."""
        kind, _, name = self.name.rpartition("/")
        return Network(quantized.split(name)[0]) if kind == "int8" else None

    def _build(self) -> onnx.ModelProto:
        kind, slash, name = self.name.rpartition("/")
        if slash:
            return onnx_models.build(name) if kind == "onnx" else quantized.build(name)
        family, at, size = self.name.partition("@")
        return registry.build(family, at + size or None)


def suite() -> list[Network]:
    """All networks of the suite that this place has, in the order of reports."""
    networks = [Network(f"onnx/{name}") for name in onnx_models.NAMES]
    networks += [Network(name) for name in ZOO]
    networks += _files("examples", EXAMPLES)
    if os.environ.get("MOTET_MODELS"):
        networks += _files("models", Path(os.environ["MOTET_MODELS"]))
    return networks


def in_8_bits() -> list[Network]:
    """The quantised networks, which are no part of the suite in fp32."""
    return [Network(f"int8/{name}") for name in quantized.NAMES]


def _files(kind: str, folder: Path) -> list[Network]:
    return [Network(f"{kind}/{path.stem}", path) for path in sorted(folder.glob("*.onnx"))]


def chosen(names: tuple[str, ...]) -> list[Network]:
    """The networks called ``names``; a name of a group (``onnx``, ``examples``) is all of it.

    Beside the suite's, any network of the zoo and any ONNX file may be named.

    Raises
    ------
    SpecError
        For a name that is none of these.
    """
    if not names:
        return suite()
    known = {network.name: network for network in (*suite(), *in_8_bits())}
    found: list[Network] = []
    for name in names:
        group = [network for network in known.values() if network.name.startswith(f"{name}/")]
        found += group or [known.get(name) or _other(name, list(known))]
    return found


def _other(name: str, known: list[str]) -> Network:
    if name.endswith(".onnx") and Path(name).is_file():
        return Network(Path(name).stem, Path(name))
    families = registry.families()
    kind, _, last = name.rpartition("/")
    network, form = quantized.split(last) if kind == "int8" else (name, "qdq")
    if network.partition("@")[0] in families and form in quantized.FORMS:
        return Network(name)
    raise SpecError(
        f"the suite has no network {name!r}; it has {', '.join(known)}, and of the zoo "
        f"{', '.join(families)}"
    )
