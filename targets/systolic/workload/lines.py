"""How steps of the vector unit are seen: as matrices, and as bands of lines."""

from __future__ import annotations

import math
from dataclasses import replace

from motet.targets.systolic.workload.graph import Step
from motet.targets.systolic.workload.layers import Convolution, Elementwise, Pooling


def elementwise_matrix(step: Step) -> tuple[int, int]:
    """Rows and columns that an elementwise step is worked on as.

    One long column where nothing depends on the last axis: chunks are then contiguous.
    """
    assert isinstance(step.layer, Elementwise)
    shape, epilogue = step.layer.shape, step.epilogue
    if step.layer.vector or epilogue.bias is not None or epilogue.requantise is not None:
        return math.prod(shape[:-1]), shape[-1]
    return math.prod(shape), 1


def along_lines(layer: Pooling) -> Pooling:
    """A 1-D pooling turned into one along the other axis, the same values in memory.

    Bands are cut along the first axis, and a line of height 1 may be long.
    """
    if layer.in_height > 1 or layer.kernel[0] > 1 or layer.padding[0] or layer.padding[2]:
        return layer
    return replace(
        layer,
        in_height=layer.in_width,
        in_width=1,
        kernel=layer.kernel[::-1],
        stride=layer.stride[::-1],
        padding=(layer.padding[1], 0, layer.padding[3], 0),
        dilation=layer.dilation[::-1],
    )


def is_global(layer: Pooling) -> bool:
    """Whether one window covers the whole image, without padding."""
    sizes = (layer.in_height, layer.in_width)
    return layer.kernel == sizes and not any(layer.padding) and layer.dilation == (1, 1)


def band_words(layer: Convolution | Pooling, rows: int) -> int:
    """Most words of scratchpad that one channel of a band of ``rows`` output rows takes."""
    reach = (layer.kernel[0] - 1) * layer.dilation[0] + 1
    return min(layer.in_height, (rows - 1) * layer.stride[0] + reach) * layer.in_width
