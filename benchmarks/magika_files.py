"""Magika's labelled sample files, as its model takes them.

How bytes become the model's input and scores become a label follows magika's own client
(python/src/magika/magika.py, version 3 of the model's format). The files, the configuration
and the model lie in a folder that the user has.
"""

from __future__ import annotations

import json
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

MODEL = "magika_v3_3.onnx"
CONFIG = "data/magika_v3_3_config.json"
ARCHIVE = "data/magika_basic.tgz"


@dataclass(frozen=True)
class Samples:
    """Inputs int32[files, 2048], the label of each file, and magika's configuration."""

    inputs: NDArray[np.int32]
    labels: list[str]
    config: dict[str, Any]


def samples(folder: Path) -> Samples:
    """The files of the archive that are long enough for the model; their folders label them."""
    config = json.loads((folder / CONFIG).read_text())
    with tarfile.open(folder / ARCHIVE) as archive:
        members = [m for m in archive.getmembers() if m.size >= config["min_file_size_for_dl"]]
        files = [archive.extractfile(member) for member in members]
        contents = [file.read() for file in files if file is not None]
    inputs = np.stack([features(content, config) for content in contents])
    return Samples(inputs, [PurePosixPath(m.name).parent.name for m in members], config)


def features(content: bytes, config: dict[str, Any]) -> NDArray[np.int32]:
    """int32[2048]: the first bytes behind leading blanks, then the last before trailing ones.

    What a short file leaves open is ``padding_token``: behind its beginning, before its end.
    """
    block, padding = config["block_size"], config["padding_token"]
    first = content[:block].lstrip()[: config["beg_size"]]
    last = content[-block:].rstrip()[-config["end_size"] :]
    result = np.full(config["beg_size"] + config["end_size"], padding, np.int32)
    result[: len(first)] = list(first)
    result[len(result) - len(last) :] = list(last)
    return result


def label_of(scores: NDArray[np.float32], config: dict[str, Any]) -> str:
    """The likeliest label; "unsure" where its score is below the label's threshold."""
    label: str = config["target_labels_space"][int(scores.argmax())]
    threshold = config["thresholds"].get(label, config["medium_confidence_threshold"])
    label = config["overwrite_map"].get(label, label)
    return label if scores.max() >= threshold else "unsure"
