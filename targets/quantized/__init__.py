"""Tensors of few bits with scales per vector (VS-Quant), in NumPy: the arithmetic's definition.

The compiler, the array, the host's kernels and what is exported to ONNX keep to the integers
that these files give; docs/QUANTIZATION.md has the rules in words.
"""
