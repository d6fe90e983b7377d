"""A part of a chain that one convolution may take the place of, and that convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from tvm import relax

from motet.passes.merging.algebra import Refusal, add_identity, chain, outline, strips
from motet.passes.merging.border import Sizes
from motet.passes.merging.chains import Chain, Layer, Shortcut
from motet.passes.merging.convolution import Conv, affine
from motet.passes.merging.flow import Step
from motet.passes.names import merged_names
from motet.runtime.device import Array

LARGEST_MAP = 1 << 23
"""Values of a bias map; a larger one would bloat the model."""

Affines = Mapping[str, Array]
"""What stands in an activation's place, by any of its ONNX nodes: [2, channels], scale, shift."""


@dataclass(frozen=True)
class Merged:
    """The convolution of a span.

    strip: results at each end of each axis (before, then after) that the unmerged layers
    compute; all zero where the convolution is right everywhere. layers: those, in a row.
    """

    conv: Conv
    strip: tuple[int, ...]
    layers: tuple[Conv, ...]

    @property
    def has_strip(self) -> bool:
        """Whether some results are computed by the unmerged layers."""
        return any(self.strip)


@dataclass(frozen=True, eq=False)
class Span:
    """Convolutions ``first`` to ``last`` (included) of a chain.

    whole: whether a shortcut around them is a part of it.
    """

    chain: Chain
    first: int
    last: int
    whole: bool = True

    @property
    def layers(self) -> tuple[Layer, ...]:
        """Its convolutions."""
        return self.chain.layers[self.first : self.last + 1]

    @property
    def head(self) -> tuple[Step, ...]:
        """Linear steps in front."""
        return self.chain.front(self.first)[0]

    @property
    def source(self) -> relax.Expr:
        """What the span reads."""
        return self.chain.front(self.first)[1]

    @cached_property
    def tail(self) -> tuple[Step, ...]:
        """Linear steps behind."""
        if self.shortcut is not None:
            return self.chain.walks[self.last].steps
        return self.chain.behind(self.last)[0]

    @property
    def result(self) -> relax.Var:
        """What the span computes."""
        if self.shortcut is not None:
            return self.shortcut.result
        return self.chain.behind(self.last)[1]

    @cached_property
    def shortcut(self) -> Shortcut | None:
        """The sum with ``source`` behind the span, where nothing nonlinear is in between."""
        found = self.chain.shortcut
        if not self.whole or found is None or self.last != len(self.chain.layers) - 1:
            return None
        steps = self.chain.walks[self.last].steps
        plain = not any(step.activation or step.pads for step in steps)
        return found if plain and found.source.same_as(self.source) else None

    @property
    def between(self) -> tuple[tuple[Step, ...], ...]:
        """The steps between each convolution and the next."""
        return tuple(walk.steps for walk in self.chain.walks[self.first : self.last])

    @property
    def activations(self) -> tuple[Step, ...]:
        """Activations inside."""
        return tuple(step for steps in self.between for step in steps if step.activation)

    @property
    def calls(self) -> tuple[relax.Call, ...]:
        """Everything that the span computes, in order."""
        inner: list[relax.Call] = [call for step in self.head for call in step.calls]
        for layer, steps in zip(self.layers, (*self.between, self.tail), strict=True):
            inner += [layer.call, *(call for step in steps for call in step.calls)]
        return (*inner, *(self.shortcut.calls if self.shortcut is not None else ()))

    @property
    def names(self) -> tuple[str, ...]:
        """Its ONNX nodes."""
        return merged_names(self.calls)

    @property
    def spatial(self) -> Sizes:
        """Sizes of the source's spatial axes; None where one is open."""
        values = self.source.ty.shape.values[2:]
        sizes = (getattr(value, "value", None) for value in values)
        return tuple(None if size is None else int(size) for size in sizes)

    def pieces(self, affines: Affines | None = None) -> list[list[Conv]]:
        """Convolutions in a row, a list for each layer with the linear steps that go with it.

        Those from the first padding on go with the layer behind.
        """
        layers: list[list[Conv]] = [[c for step in self.head for c in step.convs]]
        for layer, steps in zip(self.layers, (*self.between, self.tail), strict=True):
            layers[-1].append(layer.conv)
            pads = False
            for step in steps:
                if step.pads and not pads:
                    pads = True
                    layers.append([])
                stands = _stands_in(step, layer, affines or {}) if step.activation else step.convs
                layers[-1] += stands
            if not pads:
                layers.append([])
        return [layer for layer in layers if layer]

    def merge(self, affines: Affines | None = None, *, values: bool = True) -> Merged | Refusal:
        """The convolution; a strip where only the border is in the way and sizes are known."""
        convs = [conv for layer in self.pieces(affines) for conv in layer]
        convs = convs if values else [outline(conv) for conv in convs]
        made = chain(convs, self.spatial, values=values)
        strip = (0,) * 2 * convs[0].rank
        if isinstance(made, Refusal) and made.border and None not in self.spatial:
            known = [int(size or 0) for size in self.spatial]
            if any(map(_is_wide, self._layers(affines))):
                return made
            strip = strips(convs, known)
            made = chain(convs, self.spatial, ignore_border=True, values=values)
        if isinstance(made, Refusal):
            return made
        made = self._with_shortcut(made, values)
        if isinstance(made, Refusal):
            return made
        if any(strip) and self.shortcut is not None:
            return Refusal("its border needs the unmerged layers, and a shortcut goes around them")
        layers = self._layers(affines) if any(strip) else ()
        return self._checked(Merged(made, strip, layers))

    def moved(self, affines: Affines | None = None) -> Conv | Refusal:
        """The convolution as it is when the border may differ (approximate)."""
        convs = [conv for layer in self.pieces(affines) for conv in layer]
        made = chain(convs, self.spatial, ignore_border=True)
        return made if isinstance(made, Refusal) else self._with_shortcut(made, True)

    def _with_shortcut(self, made: Conv, values: bool) -> Conv | Refusal:
        if self.shortcut is None:
            return made
        if values and self.shortcut.sign != 1.0:
            sign = self.shortcut.sign
            made = Conv(
                made.weight * sign, made.bias * sign, made.stride, made.padding, made.dilation,
                made.groups,
            )  # fmt: skip
        return add_identity(made, self.shortcut.scale if values else 0.0)

    def _layers(self, affines: Affines | None) -> tuple[Conv, ...]:
        """Each layer with its linear steps as one convolution."""
        sizes, layers = self.spatial, list[Conv]()
        for piece in self.pieces(affines):
            made = chain(piece, sizes)
            assert isinstance(made, Conv)
            layers.append(made)
            sizes = made.sizes([int(size or 0) for size in sizes])
        return tuple(layers)

    def _checked(self, merged: Merged) -> Merged | Refusal:
        made = merged.conv
        if min(made.padding) < 0:
            return Refusal("one convolution would crop its operand")
        dtype = np.dtype(str(self.result.ty.dtype))
        limit = float(np.finfo(dtype).max)
        largest = np.maximum(  # NaN where either is
            np.abs(made.weight).max(initial=0.0), np.abs(made.bias).max(initial=0.0)
        )
        if np.isnan(largest):
            return Refusal(f"{self._undefined()}, and the merged weights would be NaN")
        if not largest < limit:
            return Refusal(f"the merged weights do not fit {dtype.name}")
        if made.has_map and made.bias.size > LARGEST_MAP:
            return Refusal(f"its bias differs at the border: a map of {made.bias.size} values")
        lost = self._interior(made, merged.strip)
        return Refusal("the border is all there is") if lost else merged

    def _undefined(self) -> str:
        """The first node whose numbers are none, in words."""
        parts = [(step.names, step.convs) for step in (*self.head, *self.tail)]
        for layer, steps in zip(self.layers, (*self.between, ()), strict=True):
            parts += [((layer.name,), (layer.conv,)), *((s.names, s.convs) for s in steps)]
        for names, convs in parts:
            if names and not all(map(_is_finite, convs)):
                return f"what node {names[-1]!r} multiplies or adds is NaN or infinite"
        return "NaN comes of its weights"

    def _interior(self, made: Conv, strip: tuple[int, ...]) -> bool:
        """Whether the strips leave nothing to the merged convolution."""
        if not any(strip):
            return False
        counts = made.sizes([int(size or 0) for size in self.spatial])
        rank = made.rank
        return any(n <= a + b for n, a, b in zip(counts, strip[:rank], strip[rank:], strict=True))


def _is_finite(one: Conv) -> bool:
    return bool(np.isfinite(one.weight).all() and np.isfinite(one.bias).all())


def _is_wide(layer: Conv) -> bool:
    """Whether some result reads padding alone."""
    ends = zip(layer.begin, layer.end, layer.extent, strict=True)
    return any(max(begin, end) >= extent for begin, end, extent in ends)


def _stands_in(step: Step, layer: Layer, affines: Affines) -> tuple[Conv, ...]:
    """What stands where an activation was: nothing, or a scale and shift."""
    found = next((affines[name] for name in step.names if name in affines), None)
    if found is None:
        return ()
    scale, shift = np.asarray(found, dtype=np.float64)
    return (affine(scale, shift, layer.conv.out_channels, layer.conv.rank),)
