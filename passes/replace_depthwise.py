"""Replaces K x K depthwise convolutions by 1 x K and K x 1 ones side by side (approximate).

FuSeConv, Ganesan and Kumar, arXiv 2105.13434 and 2108.11441. For D with C channels, K odd:

1. ``full``: D(x) becomes concat(row(x), column(x)), 2C channels. What stands behind it channel by
   channel goes on with 2C; the layers that end it, y = P z, become [P1, P2] (z_row, z_column).
2. ``half``: rows for the first ceil(C / 2) channels, columns for the others: C channels. Where
   the layer before and those behind allow, channels are reordered so that each gets the line that
   suits it (exact by itself).
3. ``full50``, ``half50``: the same in the half of the layers that cost most (multiply-
   accumulates); ``which`` names layers instead.

A line lies in the middle of the kernel: its padding across is less by (K - 1) / 2, and where
there is none to take away the input is cropped. Weights are those of least error
(``separable.line_filters`` has the derivation); errors are in the decisions, layer by layer, and
so is the reason of every depthwise convolution that stays. Decisions that are given, say with
weights refitted on calibration data, are applied as they are.

It runs only where it is asked for, behind ``fold_batch_norm``, so that layers are convolutions
with a bias, and before anything is merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import msgspec
from tvm import IRModule, relax, transform

from motet.passes.dead_code import dead_code
from motet.passes.decisions import Decided, Decision, Decisions, NotReplaced, Replacement
from motet.passes.names import OP
from motet.passes.options import ReplaceDepthwiseOptions
from motet.passes.separable.applying import Edit, replaced
from motet.passes.separable.deciding import check_which, decide
from motet.passes.separable.sites import Site, sites_of
from motet.runtime.device import Array
from motet.runtime.errors import MotetError, SpecError


@dataclass
class Outcome:
    """What the pass decided, for reports: filled as it runs."""

    decisions: list[Decision] = field(default_factory=list)
    weights: dict[str, Array] = field(default_factory=dict)
    error: MotetError | None = None

    def check(self) -> None:
        """Raise what was wrong with options or decisions: TVM would give it another class."""
        if self.error is not None:
            raise self.error

    @property
    def decided(self) -> Decided:
        """As one."""
        return Decided(Decisions(decisions=tuple(self.decisions)), self.weights)

    @property
    def summary(self) -> str:
        """A line for ``motet inspect``: what was done, and why not elsewhere."""
        made = self.decided.decisions.replacements
        kept = self.decided.decisions.not_replaced
        done = [f"{one.nodes[0]} by {one.variant} (error {one.error:.1%} of {one.error_of})"
                for one in made]  # fmt: skip
        left = [f"{one.nodes[0] if one.nodes else one.index} stays: {one.reason}" for one in kept]
        return "\n".join([f"{len(made)} of {len(made) + len(kept)} replaced", *done, *left])


def replace_depthwise(
    options: ReplaceDepthwiseOptions,
    given: Decided | None = None,
    outcome: Outcome | None = None,
) -> transform.Pass:
    """The pass. given: decisions to apply instead of making them.

    What is wrong with options or decisions is in ``outcome`` (``Outcome.check``).
    """
    told = outcome if outcome is not None else Outcome()

    @transform.module_pass(opt_level=0, name="replace_depthwise")
    def apply(mod: IRModule, _context: transform.PassContext) -> IRModule:
        try:
            return dead_code(_applied(mod, options, given, told))
        except MotetError as error:
            told.error = error
            return mod

    return apply


def _applied(
    mod: IRModule, options: ReplaceDepthwiseOptions, given: Decided | None, told: Outcome
) -> IRModule:
    result = mod.clone()
    entries = {
        str(variable.name_hint): (variable, function)
        for variable, function in mod.functions_items()
        if isinstance(function, relax.Function) and OP not in (function.attrs or {})
    }
    sites = {name: sites_of(function) for name, (_, function) in entries.items()}
    check_which([site for own in sites.values() for site in own], options)
    decided = None if given is None else _by_model(given, list(entries))
    for name, (variable, function) in entries.items():
        own = None if decided is None else decided[name]
        result[variable] = _entry(function, sites[name], name, options, own, told)
    return result


def _entry(
    function: relax.Function,
    sites: list[Site],
    model: str,
    options: ReplaceDepthwiseOptions,
    given: Decided | None,
    told: Outcome,
) -> relax.Function:
    decided = decide(sites, options, model) if given is None else given
    told.decisions += decided.decisions.decisions
    told.weights |= dict(decided.weights)
    edits = [Edit(_site(sites, one.nodes), one) for one in decided.decisions.replacements]
    return replaced(function, edits, decided.weights) if edits else function


def _by_model(given: Decided, names: Sequence[str]) -> dict[str, Decided]:
    """The decisions of each model; where there is one of either, it is that model's."""
    found: tuple[Replacement | NotReplaced, ...] = (
        *given.decisions.replacements,
        *given.decisions.not_replaced,
    )
    models = {one.model for one in found}
    if len(models) == len(names) == 1:
        models = set(names)
        found = tuple(msgspec.structs.replace(one, model=names[0]) for one in found)
    stray = sorted(models - set(names))
    if stray:
        raise SpecError(
            f"passes.replace_depthwise.decisions: they are of a model {stray[0]!r}; the models"
            f" here are {', '.join(names)}"
        )
    return {
        name: replace(
            given,
            decisions=Decisions(decisions=tuple(one for one in found if one.model == name)),
        )
        for name in names
    }


def _site(sites: list[Site], nodes: tuple[str, ...]) -> Site:
    for site in sites:
        if site.nodes == nodes and not site.refusal:
            return site
    raise SpecError(
        f"decisions: {nodes[0]!r} is no depthwise convolution of this model that can be replaced;"
        " make the decisions anew"
    )
