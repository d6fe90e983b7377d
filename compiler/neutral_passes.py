"""What the pipeline does with any target before it places operators, lays out tensors and fuses:
the form of a model in which its schedulable operators are found.
"""

from __future__ import annotations

from tvm import transform

from motet.compiler.spec import PassesSpec
from motet.passes.canonicalize import canonicalize, decompose, tidy, tidy_decompose
from motet.passes.dead_code import dead_code
from motet.passes.fold_batch_norm import fold_batch_norm
from motet.passes.join_attention import join_attention
from motet.passes.join_gelu import join_gelu
from motet.passes.join_quantized import join_quantized
from motet.passes.join_silu import join_silu
from motet.passes.join_vectors import join_vectors


def neutral_passes(options: PassesSpec, on_host: bool, as_written: bool) -> transform.Pass:
    """What the pipeline does before it places operators, lays out tensors and fuses.

    What is written out in several calls becomes one: activations, and for the host quantised
    products and attention.
    """
    first, last = (tidy, tidy_decompose) if as_written else (canonicalize, decompose)
    steps = [join_vectors(options.join_vectors)] if options.join_vectors.enabled else []
    steps += [join_quantized, first] if on_host else [first]
    if options.fold_batch_norm.enabled:
        steps.append(fold_batch_norm)
    steps += [last, join_silu, join_gelu]
    if on_host:
        steps.append(join_attention)
    return transform.Sequential([*steps, dead_code])
