"""Shapes that depend on data: programs whose symbols are bound on the way."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from msgspec.structs import replace
from vm_programs import Draft, batch_program, bundle_of, positive_program

from motet.runtime import vm
from motet.runtime.errors import BundleError, InputError
from motet.runtime.kernels import KernelLibrary
from motet.runtime.program import BindSymbols, Program, Register, Stored, decode, encode
from motet.runtime.session import Session
from motet.runtime.shapes import Expression
from motet.runtime.verify import verify_program
from motet.runtime.vm import Frame, Machine, ModelVM, fill

Array = np.ndarray[Any, Any]


@pytest.fixture(scope="module")
def machine(kernel_library: bytes) -> Machine:
    return Machine(KernelLibrary(kernel_library), [])


def frame_of(machine: Machine, program: Program, *shapes: tuple[int, ...]) -> Frame:
    program = decode(encode(program))
    verify_program("m", program, machine.weights)
    return ModelVM("m", program, machine).bind(shapes)


def run(frame: Frame, *arrays: Array) -> list[Array]:
    fill(frame, dict(enumerate(arrays)))
    frame.run()
    return [output.copy() for output in frame.outputs]


def signs(*signs: int) -> Array:
    return np.array([sign * (k + 1) for k, sign in enumerate(signs)], np.float32)


def test_one_frame_takes_every_count(machine: Machine) -> None:
    frame = frame_of(machine, positive_program(), (5,))
    for x in (signs(1, -1, 1, 1, -1), signs(*[1] * 5), signs(*[-1] * 5), signs(-1, 1, 1, 1, -1)):
        y, size = run(frame, x)
        np.testing.assert_array_equal(y, 2 * x[x > 0])
        assert size.tolist() == [(x > 0).sum(), 5]


def test_values_seen_before_are_not_bound_again(machine: Machine) -> None:
    frame = frame_of(machine, positive_program(), (3,))
    run(frame, signs(1, -1, 1))
    before = frame._last
    run(frame, signs(1, 1, 1))
    assert frame._last is not before
    run(frame, signs(-1, 1, 1))
    assert frame._last is before


def test_stages_are_bounded_and_share_memory(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vm, "MAX_STAGES", 3)
    frame = frame_of(machine, positive_program(), (9,))
    for _ in range(2):
        for count in range(10):
            x = signs(*[1] * count, *[-1] * (9 - count))
            np.testing.assert_array_equal(run(frame, x)[0], 2 * x[:count])
            assert len(frame._first.children) <= 3
    assert frame.arena_bytes <= 64 + 3 * 2 * 64  # the count; kept, y and size with room to grow


def two_binds() -> Program:
    """``y = 2 * (x above 0)``, then again on ``y``; the second count sizes a sum."""
    draft = Draft()
    x = draft.input("x", ("N",))
    first = draft.kernel("count_positive", x, draft.stored((1,), "int64"))
    draft.bind(first, "first")
    kept = draft.kernel("keep_positive", x, draft.stored(("first",)))
    again = draft.kernel("count_positive", kept, draft.stored((1,), "int64"))
    draft.bind(again, "again")
    same = draft.kernel("keep_positive", kept, draft.stored(("again",)))
    total = draft.kernel("add", same, kept, draft.stored(("first",)))
    return draft.finish(y=total, both=draft.shape_tensor((Expression("+", "first", "again"),)))


def test_a_bind_after_a_bind(machine: Machine) -> None:
    frame = frame_of(machine, two_binds(), (4,))
    for x in (signs(1, -1, 1, 1), signs(-1, -1, -1, 1), signs(1, 1, 1, 1), signs(1, -1, 1, 1)):
        y, both = run(frame, x)
        np.testing.assert_array_equal(y, 2 * x[x > 0])
        assert both.tolist() == [2 * (x > 0).sum()]


def bind_in_a_branch() -> Program:
    """The sum of as many ones as x has positive elements where there are any, else zeros."""
    draft = Draft()
    x = draft.input("x", (4,))
    joined = draft.stored((4,))
    draft.branch(draft.kernel("any_positive", x, draft.stored((1,), "bool")), 8)
    count = draft.kernel("count_positive", x, draft.stored((1,), "int64"))
    draft.bind(count, "n")
    kept = draft.kernel("keep_positive", x, draft.stored((Expression("*", "n", 4),)))
    draft.move(draft.kernel("sum_rows", draft.view(kept, ("n", 4)), draft.stored((4,))), joined)
    draft.goto(10)
    doubled = draft.kernel("double", x, draft.stored((4,)))
    draft.move(doubled, joined)
    return draft.finish(y=draft.kernel("double", joined, draft.stored((4,))))


def test_a_bind_in_one_branch_only(machine: Machine) -> None:
    frame = frame_of(machine, bind_in_a_branch(), (4,))
    np.testing.assert_array_equal(run(frame, signs(-1, -1, -1, -1))[0], [-4, -8, -12, -16])
    # one row of [x, 0, 0, 0]: fresh memory is zero
    np.testing.assert_array_equal(run(frame, signs(-1, 1, -1, -1))[0], [4, 0, 0, 0])
    np.testing.assert_array_equal(run(frame, signs(-1, -1, -1, -1))[0], [-4, -8, -12, -16])


def sized_by_value() -> Program:
    """``y``: as many doubled elements as the value of ``n`` says, of which x has N."""
    draft = Draft()
    x, n = draft.input("x", ("N",)), draft.input("n", (1,))
    draft.bind(draft.kernel("truncate", n, draft.stored((1,), "int64")), "late")
    y = draft.kernel("double", draft.view(x, ("late", 2)), draft.stored(("late", 2)))
    return draft.finish(y=y)


def prefix() -> Program:
    """The first ``n`` elements of ``2 * x``, in the storage of all of them; n is a value."""
    draft = Draft()
    x, n = draft.input("x", (6,)), draft.input("n", (1,))
    whole = draft.kernel("double", x, draft.stored((6,)))
    draft.bind(draft.kernel("truncate", n, draft.stored((1,), "int64")), "n")
    place = draft.registers[whole].place
    assert isinstance(place, Stored)
    draft.registers.append(Register("float32", ("n",), place))
    return draft.finish(y=len(draft.registers) - 1, whole=whole)


def test_a_part_of_a_storage_of_known_size(machine: Machine) -> None:
    frame = frame_of(machine, prefix(), (6,), (1,))
    x = np.arange(6, dtype=np.float32)
    for count in (4, 0, 6):
        y, whole = run(frame, x, np.array([count], np.float32))
        np.testing.assert_array_equal(y, 2 * x[:count])
        np.testing.assert_array_equal(whole, 2 * x)
    for count in (7, 2**50):
        with pytest.raises(InputError, match=f"takes {4 * count} bytes of 24"):
            run(frame, x, np.array([count], np.float32))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-3, "model 'm': node 'binder1' computes late = -3 .*negative"),
        (5, "late = 5 .*cannot reshape array of size 6"),
        (2.0**60, "late = 1152921504606846976 .*more than the limit of 17179869184"),
    ],
)
def test_values_that_make_no_shape(machine: Machine, value: float, message: str) -> None:
    frame = frame_of(machine, sized_by_value(), (6,), (1,))
    for _ in range(2):
        with pytest.raises(InputError, match=message):
            run(frame, np.zeros(6, np.float32), np.array([value], np.float32))


def test_a_frame_works_after_a_refused_value(machine: Machine) -> None:
    draft = Draft()
    n = draft.input("n", (1,))
    draft.bind(draft.kernel("truncate", n, draft.stored((1,), "int64")), "late")
    frame = frame_of(machine, draft.finish(y=draft.shape_tensor(("late",))), (1,))
    for value in (7, -1, 7, 0):
        if value < 0:
            with pytest.raises(InputError, match="negative"):
                run(frame, np.array([value], np.float32))
        else:
            assert run(frame, np.array([value], np.float32))[0].tolist() == [value]


def test_timed_and_observed_runs(machine: Machine) -> None:
    frame = frame_of(machine, positive_program(), (4,))
    fill(frame, {0: signs(1, 1, -1, 1)})
    assert [step.operator for step, _ in frame.run_timed()] == [0, 1, 2]
    assert frame.macs(2) == 3
    seen: dict[int, list[float]] = {}
    frame.run_observed(lambda number, arrays: seen.update({number: arrays[0].tolist()}))
    assert seen == {0: [3], 1: [1, 2, 4], 2: [2, 4, 8]}
    np.testing.assert_array_equal(frame.outputs[0], [2, 4, 8])


def test_a_session_runs_late_shapes_from_many_threads(kernel_library: bytes) -> None:
    session = Session(bundle_of({"m": positive_program()}, kernel_library))
    random = np.random.default_rng(0)
    inputs = [random.standard_normal(50).astype(np.float32) for _ in range(200)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda x: session["m"].run(["y"], {"x": x})[0], inputs))
    for x, y in zip(inputs, results, strict=True):
        np.testing.assert_array_equal(y, 2 * x[x > 0])
    assert session["m"].get_outputs()[0].shape == ["count"]
    report = session.simulate("m", {"x": inputs[0]})
    assert report.layers[2].macs == (inputs[0] > 0).sum()


def test_late_outputs_along_wires(kernel_library: bytes) -> None:
    def doubled() -> Program:
        draft = Draft()
        x = draft.input("x", ("N",))
        return draft.finish(y=draft.kernel("double", x, draft.stored(("N",))), same=x)

    programs = {"a": doubled(), "find": positive_program(), "b": doubled(), "c": doubled(),
                "d": doubled(), "alone": batch_program()}  # fmt: skip
    wires = {"find": {"x": "a.y"}, "b": {"x": "find.y"}, "c": {"x": "b.same"}, "d": {"x": "a.y"}}
    session = Session(bundle_of(programs, kernel_library, wires=wires))
    for x in (signs(1, -1, 1), signs(-1, -1, 1), signs(-1, -1, -1), signs(1, -1, 1)):
        results = session.run_all({"a": {"x": x}, "alone": {"x": np.ones((1, 4), np.float32)}})
        kept = x[x > 0]
        np.testing.assert_array_equal(results["find"]["y"], 4 * kept)
        np.testing.assert_array_equal(results["b"]["y"], 8 * kept)
        np.testing.assert_array_equal(results["c"]["y"], 8 * kept)
        np.testing.assert_array_equal(results["d"]["y"], 4 * x)


def test_a_late_tensor_of_known_shape_along_a_wire(kernel_library: bytes) -> None:
    draft = Draft()
    x = draft.input("x", ("N",))
    count = draft.kernel("count_positive", x, draft.stored((1,), "int64"))
    draft.bind(count, "count")
    kept = draft.kernel("keep_positive", x, draft.stored(("count",)))
    two = draft.finish(y=draft.view(kept, (2,)))
    draft = Draft()
    given = draft.input("x", (2,))
    doubled = draft.finish(y=draft.kernel("double", given, draft.stored((2,))))
    bundle = bundle_of({"a": two, "b": doubled}, kernel_library, wires={"b": {"x": "a.y"}})
    session = Session(bundle)
    for x_value in (signs(1, -1, 1), signs(-1, 1, 1)):
        results = session.run_all({"a": {"x": x_value}})
        np.testing.assert_array_equal(results["b"]["y"], 2 * x_value[x_value > 0])
    with pytest.raises(InputError, match="count = 1"):
        session.run_all({"a": {"x": signs(-1, -1, 1)}})


def edited(program: Program, number: int, instruction: Any) -> Program:
    items = list(program.instructions)
    items[number] = instruction
    return replace(program, instructions=tuple(items))


def early_use() -> Program:
    """The kernel that needs the count comes before the bind."""
    draft = Draft()
    x = draft.input("x", ("N",))
    count = draft.kernel("count_positive", x, draft.stored((1,), "int64"))
    y = draft.kernel("keep_positive", x, draft.stored(("count",)))
    draft.bind(count, "count")
    return draft.finish(y=y)


def bound_again(*symbols: str) -> Program:
    draft = Draft()
    x = draft.input("x", ("N",))
    count = draft.kernel("count_positive", x, draft.stored((1,), "int64"))
    draft.bind(count, "count")
    draft.bind(count, *symbols)
    return draft.finish(y=draft.kernel("keep_positive", x, draft.stored(("count",))))


def bound_on_one_way() -> Program:
    draft = Draft()
    x = draft.input("x", (4,))
    draft.branch(draft.kernel("any_positive", x, draft.stored((1,), "bool")), 4)
    draft.bind(draft.kernel("count_positive", x, draft.stored((1,), "int64")), "n")
    return draft.finish(y=draft.kernel("keep_positive", x, draft.stored(("n",))))


def bound_where_nothing_is_left() -> Program:
    draft = Draft()
    x = draft.input("x", (4,))
    y = draft.view(x, ("n",))
    draft.branch(draft.kernel("any_positive", x, draft.stored((1,), "bool")), 4)
    draft.bind(draft.kernel("count_positive", x, draft.stored((1,), "int64")), "n")
    return draft.finish(y=y)


def macs_too_early() -> Program:
    program = positive_program()
    who = replace(program.operators[0], macs="count")
    return replace(program, operators=(who, *program.operators[1:]))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (early_use(), "instruction 1 needs a dimension before it is bound"),
        (bound_on_one_way(), "instruction 4 needs a dimension before it is bound"),
        (bound_where_nothing_is_left(), "an output needs a dimension that is not always bound"),
        (macs_too_early(), "instruction 0 needs a dimension before it is bound"),
        (bound_again("N"), "instruction 2 binds symbols twice"),
        (bound_again("count"), "instruction 2 binds symbols twice"),
        (edited(positive_program(), 1, BindSymbols(("count", "m"), 1, ())), "instruction 1 binds"),
        (edited(positive_program(), 1, BindSymbols((), 1, ())), "count"),
        (edited(positive_program(), 1, BindSymbols(("count",), 0, ())), "instruction 1 binds"),
        (edited(positive_program(), 1, BindSymbols(("count",), 99, ())), "refers to what is not"),
        (edited(positive_program(), 1, BindSymbols(("other",), 1, ())), "no input binds count"),
    ],
)
def test_programs_that_are_refused(program: Program, message: str) -> None:
    with pytest.raises(BundleError, match=message):
        verify_program("m", program, [])


def test_inputs_may_not_have_late_dimensions() -> None:
    program = positive_program()
    (x,) = program.inputs
    program = replace(program, inputs=(replace(x, shape=("N", Expression("+", "count", 1))),))
    with pytest.raises(BundleError, match="no input binds count"):
        verify_program("m", program, [])
