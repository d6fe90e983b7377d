"""Training and ONNX export of the example models in `examples/models`."""
