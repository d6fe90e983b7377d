"""Transposed convolutions: the products of all phases, one after another (``workload.transposed``).

Each phase writes outputs of its own through a strided view, with the step's epilogue; the
mapping's tiles are cut off where a phase is smaller.
"""

from __future__ import annotations

import numpy as np

from motet.targets.systolic.emit.context import StepContext
from motet.targets.systolic.emit.products import emit_views
from motet.targets.systolic.instructions.isa import Instructions
from motet.targets.systolic.workload.products import products_of


def emit_transposed(context: StepContext) -> Instructions:
    """Instructions of a ``TransposedConvolution`` step; raises as ``emit_product`` does."""
    step = context.step
    products = products_of(step.layer, step.inputs, step.output)
    return np.concatenate([emit_views(context, views) for views in products])
