"""Random small rotations, scalings and shifts of a batch of images."""

import math

import torch
from torch import Tensor
from torch.nn import functional

MAXIMUM_ROTATION = math.radians(12)
MAXIMUM_SCALING = 0.1
MAXIMUM_SHIFT = 2.5 / 16
"""In units of half the image's side, as `affine_grid` counts: 2.5 of 32 pixels."""


def jitter(images: Tensor, random: torch.Generator) -> Tensor:
    """Each image of [N, 1, H, W] rotated, scaled and shifted by its own random amount."""
    transforms = _random_transforms(len(images), random)
    grid = functional.affine_grid(transforms, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


def _random_transforms(count: int, random: torch.Generator) -> Tensor:
    """Affine matrices [count, 2, 3] from output to input positions."""
    angle, scaling, shift_x, shift_y = 2 * torch.rand(4, count, generator=random) - 1
    angle = angle * MAXIMUM_ROTATION
    scale = 1 + scaling * MAXIMUM_SCALING
    cosine, sine = scale * torch.cos(angle), scale * torch.sin(angle)
    row_x = torch.stack([cosine, -sine, shift_x * MAXIMUM_SHIFT], dim=1)
    row_y = torch.stack([sine, cosine, shift_y * MAXIMUM_SHIFT], dim=1)
    return torch.stack([row_x, row_y], dim=1)
