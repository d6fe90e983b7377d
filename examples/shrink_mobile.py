"""DepthShrinker's flow on `digits_mobile`: choose, fine-tune without the activations, merge.

    cd examples
    motet merge models/digits_mobile.onnx --remove-activations 4 -o chosen.onnx
    python shrink_mobile.py chosen.json -o tuned.onnx
    motet merge tuned.onnx -o shrunk.onnx

The first step writes its decisions beside the model; the last one is exact.
The second step needs PyTorch (`training-requirements.txt`); it takes about two minutes.
"""

import argparse
from pathlib import Path

import torch
from training.digits import load_split
from training.fit import Recipe, count_correct, fit
from training.shrink import activations, from_file, module_path

import motet.training

FOLDER = Path(__file__).parent
SEED = 1


def main() -> None:
    """Parse the command line and do what it asks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("decisions", type=Path, help="what motet merge wrote (.json)")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--model", default=str(FOLDER / "models" / "digits_mobile.onnx"))
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--affine", action="store_true", help="begin with the fitted affine maps")
    options = parser.parse_args()
    torch.set_num_threads(1)
    training, held_out = load_split()
    network = from_file(options.model)
    before = activations(network)
    correct = [count_correct(network, held_out)]
    motet.training.apply_decisions(network, options.decisions, module_path, options.affine)
    correct.append(count_correct(network, held_out))
    fit(network, training, Recipe(epochs=options.epochs, learning_rate=1e-3), SEED)
    correct.append(count_correct(network, held_out))
    options.output.write_bytes(network.export().SerializeToString(deterministic=True))
    print(f"activations: {before} -> {activations(network)}")
    for when, count in zip(("as it was", "without them", "fine-tuned"), correct, strict=True):
        print(f"{when:>14}: {count} of {len(held_out)} held-out digits right")


if __name__ == "__main__":
    main()
