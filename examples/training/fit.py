"""The training loop: AdamW with a one-cycle learning rate, for a fixed number of epochs.

No image outside the given training set is ever looked at: there is no early
stopping, and the weights are those after the last step.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.augment import jitter
from training.digits import Digits, as_input


@dataclass(frozen=True)
class Recipe:
    """How one model is trained; `learning_rate` is the peak of the cycle."""

    epochs: int
    learning_rate: float
    weight_decay: float = 0.02
    batch: int = 64
    label_smoothing: float = 0.05
    warm_up: float = 0.15


def fit(model: nn.Module, digits: Digits, recipe: Recipe, seed: int) -> None:
    """Train `model` (image [N, 1, 32, 32] to logits [N, 10]) in place, then set it to eval."""
    random = torch.Generator().manual_seed(seed)
    images = torch.from_numpy(as_input(digits.images))
    labels = torch.from_numpy(digits.labels)
    steps = recipe.epochs * (len(digits) // recipe.batch)
    optimizer, schedule = _optimizer(model, recipe, steps)
    model.train()
    for chosen in _batches(len(digits), recipe, random):
        logits = model(jitter(images[chosen], random))
        loss = functional.cross_entropy(
            logits, labels[chosen], label_smoothing=recipe.label_smoothing
        )
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        schedule.step()
    model.eval()


def _optimizer(
    model: nn.Module, recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]:
    """The optimizer and the learning rate's course over `steps`."""
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, max_lr=recipe.learning_rate, total_steps=steps, pct_start=recipe.warm_up
    )
    return optimizer, schedule


def _batches(count: int, recipe: Recipe, random: torch.Generator) -> Iterator[Tensor]:
    """Indices [batch] of every step, each epoch in an order of its own.

    What is left over after an epoch's last full batch is dropped: a few images
    would give BatchNormalization poor statistics.
    """
    for _ in range(recipe.epochs):
        order = torch.randperm(count, generator=random)
        for step in range(count // recipe.batch):
            yield order[step * recipe.batch : (step + 1) * recipe.batch]


def count_correct(model: nn.Module, digits: Digits) -> int:
    """How many of `digits` the model, in eval mode, classifies correctly."""
    with torch.no_grad():
        logits: Tensor = model(torch.from_numpy(as_input(digits.images)))
    return int((logits.argmax(dim=1) == torch.from_numpy(digits.labels)).sum())
