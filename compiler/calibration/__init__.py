"""Data that a model is observed on: where it comes from, and what the model computes on it.

``data`` reads samples as a stream, ``values`` computes any value of an ONNX graph on them.
Nothing here holds all samples at once.
"""
