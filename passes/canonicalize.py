"""Brings an imported module into the one form that the later passes read (exact).

In order: constants are folded, bounds on one value become one clip, transposes that move
nothing become reshapes, equal calls are computed once, aliases and dead values go.
``decompose`` also turns what remains of batch-norm into arithmetic. ``tidy`` and
``tidy_decompose`` do the same but leave equal calls as often as the model has them: what is
counted is the network as it was written.
"""

from __future__ import annotations

from tvm import IRModule, relax, transform

from motet.passes.common_subexpressions import common_subexpressions
from motet.passes.dead_code import dead_code
from motet.passes.decompose_batch_norm import decompose_batch_norm
from motet.passes.fold_constants import fold_constants
from motet.passes.join_bounds import join_bounds
from motet.passes.trivial_transposes import trivial_transposes

_FIRST = (fold_constants, join_bounds, trivial_transposes)
_LAST = (relax.transform.CanonicalizeBindings(), dead_code)


@transform.module_pass(opt_level=0, name="canonicalize")
def canonicalize(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Apply the steps to every function of ``mod``."""
    return transform.Sequential([*_FIRST, common_subexpressions, *_LAST])(mod)


@transform.module_pass(opt_level=0, name="tidy")
def tidy(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """The steps of ``canonicalize`` but that equal calls stay."""
    return transform.Sequential([*_FIRST, *_LAST])(mod)


@transform.module_pass(opt_level=0, name="decompose")
def decompose(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """Turn operators that only training tells apart into arithmetic, and fold again."""
    return transform.Sequential([decompose_batch_norm, canonicalize])(mod)


@transform.module_pass(opt_level=0, name="tidy_decompose")
def tidy_decompose(mod: IRModule, _context: transform.PassContext) -> IRModule:
    """The steps of ``decompose`` but that equal calls stay."""
    return transform.Sequential([decompose_batch_norm, tidy])(mod)
