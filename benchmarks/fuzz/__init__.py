"""Mutated ONNX files: each has to end in a right answer or in one line that says why not."""
