"""Networks that benchmarks need, as ONNX files with seeded random weights.

One file per family: it defines ``NAMES`` (command-line name -> variant) and
``build(variant, seed)``, and ``registry`` finds it. The architectures are those of the
papers, so parameters and multiply-accumulates are the known figures; only the values of
the weights are random.
"""
