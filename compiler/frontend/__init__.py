"""ONNX to Relax: checks before TVM sees a model, converters, names on every call."""
