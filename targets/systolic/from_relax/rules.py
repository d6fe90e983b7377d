"""What the array takes: calls as anchors, and calls behind an anchor as its epilogue.

An epilogue has its parts in the order bias, residual, activation, clamp.
"""

from __future__ import annotations

from collections.abc import Sequence

from tvm import relax

from motet.runtime.errors import CompileError
from motet.targets.systolic import vector_units
from motet.targets.systolic.architecture import ArrayDescription, Pod
from motet.targets.systolic.from_relax.anchor import Anchor
from motet.targets.systolic.from_relax.calls import anchor_of, follower, is_channel_vector
from motet.targets.systolic.from_relax.integers import FORMAT as INTEGERS
from motet.targets.systolic.from_relax.integers import SUMS, is_integer_product
from motet.targets.systolic.from_relax.values import RefusedError, name_of, shape_of
from motet.targets.systolic.from_relax.vectors import is_vector_product
from motet.targets.systolic.instructions.isa import Activation
from motet.targets.systolic.workload.graph import Epilogue
from motet.targets.systolic.workload.layers import Elementwise, Pooling, Product
from motet.targets.systolic.workload.lines import along_lines, band_words, is_global


def refusal(
    call: relax.Call, description: ArrayDescription, number_format: str = "fp32"
) -> str | None:
    """None where the array takes ``call`` as an anchor, else a short human reason."""
    wanted = INTEGERS if is_integer_product(call) else number_format
    if not is_vector_product(call) and wanted not in description.formats:
        return f"array {description.name!r} has no pod for {wanted}"
    try:
        made = anchor_of(call)
        if made.product is not None:
            return vector_units.refusal(description, made.product.words)
        if isinstance(made.layer, Pooling):
            _require_room(along_lines(made.layer), description.pods[0], number_format)
    except (RefusedError, CompileError) as error:
        return str(error)
    return None


def _require_room(layer: Pooling, pod: Pod, number_format: str) -> None:
    """Raise ``RefusedError`` where a line of windows and its inputs do not fit the memories."""
    words = pod.scratchpad_words(number_format)
    fits = band_words(layer, 1) <= words and layer.out_size[1] <= pod.accumulator_words
    if not fits and not is_global(layer):
        raise RefusedError("its smallest tile does not fit the array's memories")


def accepts_epilogue(
    anchor: relax.Call, next_call: relax.Call, so_far: Sequence[relax.Call]
) -> bool:
    """Whether ``next_call``, a consumer of the unit so far, can be part of the unit.

    ``so_far`` are the calls absorbed after the anchor, in order. Which operand is the
    unit's own result does not matter: a sum takes either.
    """
    try:
        made = anchor_of(anchor)
        stage = _stage_of(made.epilogue)
        for call in (*so_far, next_call):
            following = _stage(made, anchor, call)
            if following <= stage:
                return False
            stage = following
    except (RefusedError, CompileError):
        return False
    return True


_BIAS, _RESIDUAL, _ACTIVATION, _CLAMP = range(1, 5)
"""The parts of an epilogue in their order; each comes once at most."""


def _stage_of(epilogue: Epilogue) -> int:
    """The last part that an epilogue without tensors has; 0 where it has none."""
    if epilogue.clamp is not None:
        return _CLAMP
    return 0 if epilogue.activation is Activation.NONE else _ACTIVATION


def _stage(made: Anchor, anchor: relax.Call, call: relax.Call) -> int:
    """Which part of the epilogue of ``anchor`` a call is; raises ``RefusedError``."""
    alone = follower(call)
    if alone is not None and isinstance(made.layer, (*_PRODUCTS, Pooling, Elementwise)):
        if shape_of(call) != shape_of(anchor):
            raise RefusedError("it changes the shape")
        return _stage_of(alone)
    if name_of(call) != "relax.add" or not isinstance(made.layer, _PRODUCTS):
        raise RefusedError(f"{name_of(call)} does not follow {name_of(anchor)} on the array")
    return _sum_stage(made, anchor, call)


_PRODUCTS: tuple[type, ...] = Product.__args__


def _sum_stage(made: Anchor, anchor: relax.Call, call: relax.Call) -> int:
    """Whether a sum adds a bias or a residual."""
    output = shape_of(anchor, SUMS)
    first, second = call.args
    if shape_of(call, SUMS) != output or first.same_as(second):
        raise RefusedError("it adds something else than a bias or a residual")
    shapes = [shape_of(first, SUMS), shape_of(second, SUMS)]
    if any(is_channel_vector(made.layer, output, shape) for shape in shapes):
        return _BIAS
    if shapes == [output, output] and made.product is None and not made.is_integer:
        return _RESIDUAL
    raise RefusedError("it adds something else than a bias or a residual")
