"""Units that may be merged into one, and what that one is: for costs of merged stages.

A unit that is a convolution, its bias and its activation and nothing else may be merged with those
that ``parallel_convolutions`` says, by ``merge_parallel``. Slices of the result cost nothing where
they are runs of bytes; else they are a part of the merged unit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from itertools import accumulate, pairwise

from tvm import relax

from motet.passes.contiguous import run_offsets
from motet.passes.merge_parallel import merged_calls, with_first
from motet.passes.names import merged_names
from motet.passes.parallel_convolutions import Sibling, sibling_of
from motet.passes.unit_signature import signature_of
from motet.passes.units import Unit, Units


def merge_keys(units: Units) -> Mapping[str, Hashable]:
    """By name, of units that may be merged with others: equal for those that may be one.

    Convolutions of one value are merged for an array: none that placement keeps on the host.
    """
    keys = {}
    for unit in units.units:
        sibling = sibling_of(unit.bindings)
        if sibling is not None and not unit.kept_on_host:
            keys[unit.name] = (sibling.data, sibling.kind)
    counts = Counter(keys.values())
    return {name: key for name, key in keys.items() if counts[key] > 1}


def merged_unit(units: Sequence[Unit]) -> Unit:
    """What ``units`` of one merge key are as one."""
    group = [made for unit in units if (made := sibling_of(unit.bindings)) is not None]
    bindings = _bindings(group)
    return Unit(
        name=units[0].name,
        kind=units[0].kind,
        onnx_nodes=merged_names(binding.value for binding in bindings),
        bindings=tuple(bindings),
        signature=signature_of(bindings),
        role=units[0].role,
        is_sum=False,
        title=" + ".join(unit.title for unit in units),
    )


def _bindings(group: Sequence[Sibling]) -> list[relax.Binding]:
    """Merged convolution, bias and activation, and the slices that need a copy, as a tuple."""
    builder = relax.BlockBuilder()
    bindings: list[relax.Binding] = []

    def bind(value: relax.Expr) -> relax.Var:
        made = builder.normalize(value)
        bindings.append(relax.VarBinding(relax.Var(f"v{len(bindings)}", made.ty), made))
        return bindings[-1].var

    last: relax.Var = group[0].data
    for number, call in enumerate(merged_calls(group, last)):
        last = bind(with_first(call, last) if number else call)
    ends = [0, *accumulate(one.channels for one in group)]
    cuts = [relax.op.strided_slice(last, [1], [begin], [end]) for begin, end in pairwise(ends)]
    cuts = [builder.normalize(cut) for cut in cuts]
    if any(run_offsets(cut) is None for cut in cuts):
        bind(relax.Tuple([bind(cut) for cut in cuts]))
    return bindings
