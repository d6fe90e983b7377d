"""Percent of the held-out digits that a model reads right: a metric for `motet ... --evaluate`."""

from pathlib import Path

import numpy as np

DATA = np.load(Path(__file__).parent / "data" / "digits_heldout.npz")
IMAGES = (DATA["images"][:, None] / 255).astype(np.float32)


def metric(run):  # type: ignore[no-untyped-def]
    """Larger is better. run: inputs by name to outputs by name."""
    logits = run({"image": IMAGES})["logits"]
    return 100 * (logits.argmax(axis=1) == DATA["labels"]).mean()
