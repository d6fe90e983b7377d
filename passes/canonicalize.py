"""Brings an imported module into the one form that the later passes read (exact).

In order: constants are folded, equal calls are computed once, what remains of
inference-only operators (batch-norm with computed parameters) becomes arithmetic,
aliases and dead values go.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform

from motet.passes.fold_constants import fold_constants


@transform.module_pass(opt_level=0, name="canonicalize")
def canonicalize(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply the steps to every function of ``mod``."""
    return transform.Sequential(
        [
            fold_constants,
            relax.transform.EliminateCommonSubexpr(),
            relax.transform.CanonicalizeBindings(),
            relax.transform.DeadCodeElimination(),
        ]
    )(mod)


@transform.module_pass(opt_level=0, name="decompose")
def decompose(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Turn operators that only training tells apart into arithmetic, and fold again."""
    return transform.Sequential([relax.transform.DecomposeOpsForInference(), canonicalize])(mod)
