"""Motet: several ONNX models in, one bundle out, run on the host and a simulated array."""
