"""Magika, a file-type classifier, over its authors' sample files: every label is right.

The model, its configuration and the archive lie in the folder that MOTET_MODELS names.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

import motet
from motet.benchmarks import magika_files

FOLDER = os.environ.get("MOTET_MODELS")
pytestmark = pytest.mark.skipif(
    not FOLDER, reason="MOTET_MODELS is unset: no folder with trained models to try"
)
FILES = 76
"""Beside an empty one, which is too short for the model."""


@pytest.mark.parametrize("batch", [1, 25])
def test_every_sample_file_gets_its_label(batch):
    folder = Path(str(FOLDER))
    for name in (magika_files.MODEL, magika_files.CONFIG, magika_files.ARCHIVE):
        if not (folder / name).is_file():
            pytest.skip(f"{name} is not in the folder that MOTET_MODELS names")
    found = magika_files.samples(folder)
    assert len(found.labels) == FILES
    (model,) = motet.load(motet.compile(folder / magika_files.MODEL)).values()
    rows = found.inputs
    scores = np.concatenate(
        [model.run(None, {"bytes": rows[i : i + batch]})[0] for i in range(0, FILES, batch)]
    )
    assert [magika_files.label_of(s, found.config) for s in scores] == found.labels
