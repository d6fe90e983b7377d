"""Quantising an ONNX model: which products, with which types and scales, written as ONNX again.

``products`` finds them, ``statistics`` observes what they read, ``settings`` says what each
becomes, ``rewriting`` writes the model. The arithmetic is that of ``targets/quantized``.
"""
