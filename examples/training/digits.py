"""The digits images: loading, enlarging and the fixed held-out split.

The source is the test set of UCI's "Optical Recognition of Handwritten Digits"
as scikit-learn ships it: 1797 images of 8x8 pixels with values 0 to 16.
Each is enlarged to 32x32 by bilinear interpolation and stored as uint8, so the
held-out file is exactly what training saw: a model's input is `images / 255`.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image
from sklearn.datasets import load_digits  # type: ignore[import-untyped]

SIDE = 32
CLASSES = 10
SOURCE_MAXIMUM = 16
HELD_OUT_PER_CLASS = 36
CALIBRATION_PER_CLASS = 20
CALIBRATION_SEED = 3
SPLIT_SEED = 2024
PICTURED_LABELS = (2, 3, 5, 8)

Images = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Digits:
    """Images uint8 [count, 32, 32] with their labels int64 [count]."""

    images: Images
    labels: Labels

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, indices: npt.NDArray[np.int64]) -> "Digits":
        """The digits at `indices` [count], in that order."""
        return Digits(self.images[indices], self.labels[indices])


def load() -> Digits:
    """All 1797 digits, enlarged."""
    source = load_digits()
    labels = np.asarray(source.target, dtype=np.int64)
    return Digits(enlarge(np.asarray(source.images, dtype=np.float64)), labels)


def enlarge(images: npt.NDArray[np.float64]) -> Images:
    """Enlarge [count, 8, 8] with values 0 to 16 to uint8 [count, 32, 32]."""
    weights = bilinear_weights(images.shape[-1], SIDE)
    enlarged = weights @ images @ weights.T
    return np.rint(enlarged * (255 / SOURCE_MAXIMUM)).astype(np.uint8)


def bilinear_weights(source: int, target: int) -> npt.NDArray[np.float64]:
    """The [target, source] matrix that resamples one axis (half-pixel centres, edges held)."""
    centres = (np.arange(target) + 0.5) * source / target - 0.5
    positions = np.clip(centres, 0, source - 1)
    distance = np.abs(positions[:, None] - np.arange(source)[None, :])
    return np.maximum(0.0, 1.0 - distance)


def split(digits: Digits, held_out_per_class: int, seed: int) -> tuple[Digits, Digits]:
    """Split into (rest, held out), drawing the same number of images of each class."""
    random = np.random.default_rng(seed)
    drawn = [
        random.permutation(np.flatnonzero(digits.labels == label))[:held_out_per_class]
        for label in range(CLASSES)
    ]
    held_out = random.permutation(np.concatenate(drawn))
    rest = np.setdiff1d(np.arange(len(digits)), held_out)
    return digits.take(rest), digits.take(held_out)


def load_split() -> tuple[Digits, Digits]:
    """The 1437 training digits and the 360 held-out ones; the same in every run."""
    return split(load(), HELD_OUT_PER_CLASS, SPLIT_SEED)


def as_input(images: Images) -> npt.NDArray[np.float32]:
    """A model's input, float32 [count, 1, 32, 32] in [0, 1], from uint8 [count, 32, 32]."""
    return (images[:, None].astype(np.float32) / np.float32(255)).astype(np.float32)


def save_held_out(held_out: Digits, folder: Path) -> None:
    """Write `digits_heldout.npz` and one picture for each of `PICTURED_LABELS`.

    The file holds `images` uint8 [360, 32, 32] and `labels` int64 [360]. The
    pictures are named `digit_<label>_<index into the file>.png`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(
        folder / "digits_heldout.npz", images=held_out.images, labels=held_out.labels
    )
    for label in PICTURED_LABELS:
        index = int(np.flatnonzero(held_out.labels == label)[0])
        Image.fromarray(held_out.images[index]).save(folder / f"digit_{label}_{index}.png")


def save_calibration(training: Digits, folder: Path) -> None:
    """Write `digits_calibration.npz`: training images as a model takes them.

    `image` float32 [200, 1, 32, 32] in [0, 1] and `labels` int64 [200].
    """
    _, chosen = split(training, CALIBRATION_PER_CLASS, CALIBRATION_SEED)
    np.savez_compressed(
        folder / "digits_calibration.npz", image=as_input(chosen.images), labels=chosen.labels
    )
