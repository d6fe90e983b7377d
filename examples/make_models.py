"""Train the example models and write them, the held-out digits and `models.json`.

Run `python examples/make_models.py --help`. The files are always made in the
same way: fixed split, fixed seed, one thread.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from training.digits import (
    Digits,
    as_input,
    load_split,
    save_calibration,
    save_held_out,
    split,
)
from training.fit import Recipe, count_correct, fit
from training.inception import Inception
from training.measure import measure, run
from training.mobile import Mobile
from training.transformer import Transformer

SEED = 0
VALIDATION_PER_CLASS = 28
VALIDATION_SEED = 1
TOLERANCE = 1e-4
"""How far onnxruntime's logits may be from torch's."""

Network = Mobile | Inception | Transformer


@dataclass(frozen=True)
class Example:
    """An example model: how to make its network and how to train it."""

    network: Callable[[], Network]
    recipe: Recipe


EXAMPLES = {
    "digits_mobile": Example(Mobile, Recipe(epochs=30, learning_rate=4e-3)),
    "digits_inception": Example(Inception, Recipe(epochs=40, learning_rate=3e-3)),
    "digits_transformer": Example(Transformer, Recipe(epochs=80, learning_rate=2e-3)),
}


def main() -> None:
    """Parse the command line and do what it asks."""
    options = parse_options()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    training, held_out = load_split()
    if options.validate:
        validate(options.models, training, options.seed)
    else:
        save_held_out(held_out, options.folder / "data")
        save_calibration(training, options.folder / "data")
        make(options.models, training, options.seed, options.folder / "models")
        write_measures(held_out, options.folder / "models")


def parse_options() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(
        description="Train the example models on scikit-learn's digits."
    )
    parser.add_argument(
        "models",
        nargs="*",
        metavar="MODEL",
        help=f"models to train: {', '.join(EXAMPLES)}; default all",
    )
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path(__file__).parent,
        help="where data/ and models/ are written (default: beside this script)",
    )
    parser.add_argument("--seed", type=int, default=SEED, help="seed of weights, order and jitter")
    parser.add_argument(
        "--validate",
        action="store_true",
        help="train on 80%% of the training images, report accuracy on the other 20%% and write "
        "nothing; for choosing sizes and recipes without the held-out images",
    )
    options = parser.parse_args()
    unknown = sorted(set(options.models) - set(EXAMPLES))
    if unknown:
        parser.error(f"unknown model {', '.join(unknown)}; there are {', '.join(EXAMPLES)}")
    options.models = options.models or list(EXAMPLES)
    return options


def train(name: str, digits: Digits, seed: int) -> Network:
    """The trained network of one example, in eval mode."""
    torch.manual_seed(seed)
    example = EXAMPLES[name]
    network = example.network()
    start = time.monotonic()
    fit(network, digits, example.recipe, seed)
    print(f"{name}: trained in {time.monotonic() - start:.0f} s", flush=True)
    return network


def validate(names: list[str], training: Digits, seed: int) -> None:
    """Print each model's accuracy on a part of the training images kept from its training."""
    part, rest = split(training, VALIDATION_PER_CLASS, VALIDATION_SEED)
    for name in names:
        correct = count_correct(train(name, part, seed), rest)
        print(f"{name}: {correct} of {len(rest)} validation images correct", flush=True)


def make(names: list[str], training: Digits, seed: int, folder: Path) -> None:
    """Train the models and write their ONNX files into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        network = train(name, training, seed)
        content = network.export().SerializeToString(deterministic=True)
        check_export(network, content, training)
        (folder / f"{name}.onnx").write_bytes(content)


def check_export(network: Network, content: bytes, digits: Digits) -> None:
    """Raise unless onnxruntime's logits for `digits` are torch's within `TOLERANCE`."""
    with torch.no_grad():
        expected = network(torch.from_numpy(as_input(digits.images))).numpy()
    error = float(np.abs(run(content, digits) - expected).max())
    print(f"  largest difference between onnxruntime and torch: {error:.1e}", flush=True)
    if error > TOLERANCE:
        raise RuntimeError(f"onnxruntime is {error:.1e} off torch, more than {TOLERANCE:.0e}")


def write_measures(held_out: Digits, folder: Path) -> None:
    """Measure every model file in `folder`, print the README's table and write `models.json`."""
    measures = {path.stem: measure(path, held_out) for path in sorted(folder.glob("*.onnx"))}
    for name, found in measures.items():
        print(
            f"| `{name}` | {100 * found.held_out_accuracy:.2f}% "
            f"({found.held_out_correct} of {found.held_out_images}) | {found.parameters:,} "
            f"| {found.macs_per_image / 1e6:.2f} M | {found.bytes:,} |"
        )
    facts = {name: asdict(found) for name, found in measures.items()}
    (folder / "models.json").write_text(json.dumps(facts, indent=2) + "\n")


if __name__ == "__main__":
    main()
