"""Magika, a file-type classifier, over its authors' sample files: every label is right.

The model, its configuration and the archive lie in the folder that MOTET_MODELS names;
the folder of a file in the archive is its label. How bytes become the model's input and
scores become a label follows magika's own client (python/src/magika/magika.py, version 3
of the model's format).
"""

from __future__ import annotations

import json
import os
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest

import motet

FOLDER = os.environ.get("MOTET_MODELS")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="MOTET_MODELS is unset: no folder with trained models to try"
)
FILES = 76
"""Beside an empty one, which is too short for the model."""


def in_folder(name: str) -> Path:
    path = Path(str(FOLDER)) / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the folder that MOTET_MODELS names")
    return path


def features(content: bytes, config: dict[str, Any]) -> np.ndarray:
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


def label_of(scores: np.ndarray, config: dict[str, Any]) -> str:
    """The likeliest label; "unsure" where its score is below the label's threshold."""
    label = config["target_labels_space"][int(scores.argmax())]
    threshold = config["thresholds"].get(label, config["medium_confidence_threshold"])
    label = config["overwrite_map"].get(label, label)
    return label if scores.max() >= threshold else "unsure"


@pytest.mark.parametrize("batch", [1, 25])
def test_every_sample_file_gets_its_label(batch):
    config = json.loads(in_folder("data/magika_v3_3_config.json").read_text())
    with tarfile.open(in_folder("data/magika_basic.tgz")) as archive:
        members = [m for m in archive.getmembers() if m.size >= config["min_file_size_for_dl"]]
        contents = [archive.extractfile(member).read() for member in members]
    assert len(members) == FILES
    (model,) = motet.load(motet.compile(in_folder("magika_v3_3.onnx"))).values()
    rows = np.stack([features(content, config) for content in contents])
    scores = np.concatenate(
        [model.run(None, {"bytes": rows[i : i + batch]})[0] for i in range(0, FILES, batch)]
    )
    found = {m.name: label_of(s, config) for m, s in zip(members, scores, strict=True)}
    assert found == {name: PurePosixPath(name).parent.name for name in found}
