"""Blocks of a model, as options count them, and the links that options name.

A block is two or more convolutions with activations between them: an inverted residual block, a
residual branch, the stem and what follows it up to a linear layer. Blocks are numbered through
the model, in graph order. Link n of a chain is what stands between its convolutions n and n + 1.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

from motet.passes.merging.chains import Chain
from motet.passes.options import MergeDepthModel


@dataclass(frozen=True)
class Block:
    """Convolutions of a chain with activations between them; number: in its model."""

    number: int
    chain: Chain
    layers: range

    @property
    def links(self) -> range:
        """Between its convolutions."""
        return range(self.layers.start, self.layers.stop - 1)


@dataclass(frozen=True)
class Blocks:
    """The chains of a model and its blocks."""

    chains: tuple[Chain, ...]

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """In graph order."""
        runs = ((chain, run) for chain in self.chains for run in chain.runs() if len(run) > 1)
        return tuple(Block(number, chain, run) for number, (chain, run) in enumerate(runs))

    def number(self, chain: Chain, layer: int) -> int:
        """The block that a convolution is in; -1 for none."""
        inside = (b.number for b in self.blocks if b.chain is chain and layer in b.layers)
        return next(inside, -1)

    def asked_links(self, chain: Chain, asked: MergeDepthModel) -> frozenset[int]:
        """The links of ``chain`` whose activations the options remove, all of them."""
        wanted = set(asked.remove)
        named = {
            link
            for link, steps in enumerate(chain.links)
            if steps and all(wanted & set(step.names) for step in steps)
        }
        blocks = (b for b in self.blocks if b.chain is chain and b.number in asked.remove_blocks)
        return frozenset(named | {link for block in blocks for link in block.links})

    def half_asked(self, asked: MergeDepthModel) -> dict[tuple[Chain, int], str]:
        """Links of which the options remove one activation and not another: why they stay."""
        found: dict[tuple[Chain, int], str] = {}
        wanted = set(asked.remove)
        for chain in self.chains:
            taken = self.asked_links(chain, asked)
            for link, steps in enumerate(chain.links):
                left = [step.names[-1] for step in steps if not wanted & set(step.names)]
                if link not in taken and 0 < len(left) < len(steps):
                    names = ", ".join(map(repr, left))
                    found[chain, link] = f"activation {names} stands between, too: remove all"
        return found

    def activations(self) -> frozenset[str]:
        """ONNX nodes of all activations that options may name."""
        return frozenset(
            name
            for chain in self.chains
            for steps in chain.links
            for step in steps
            for name in step.names
        )


def missing_blocks(blocks: Blocks, wanted: Iterable[int]) -> list[int]:
    """The numbers of ``wanted`` that no block has."""
    return sorted(number for number in set(wanted) if number >= len(blocks.blocks))
