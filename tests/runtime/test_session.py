from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from vm_programs import Draft, affine_program, batch_program, bundle_of, choice_program

from motet.runtime.device import Array, ProgramCounts, StepCounts
from motet.runtime.errors import BundleError, EnvironmentLackError, InputError
from motet.runtime.session import NodeArg, Session
from motet.runtime.shapes import Expression

BIAS = np.arange(8, dtype=np.float32)
X = np.arange(8, dtype=np.float32).reshape(2, 4)


@pytest.fixture(scope="module")
def session(kernel_library: bytes) -> Session:
    draft = Draft()
    a, b = draft.input("a", ("N", 2)), draft.input("b", ("N",), "int64")
    draft.input("flag", (), "bool")
    programs = {
        "affine": affine_program(),
        "batch": batch_program(),
        "choice": choice_program(),
        "relay": draft.finish(a=a, b=b),
    }
    return Session(bundle_of(programs, kernel_library, [BIAS]))


def relay_inputs(**changed: Any) -> dict[str, Any]:
    correct = {"a": np.zeros((3, 2), np.float32), "b": np.zeros(3, np.int64), "flag": True}
    return correct | changed


def test_run_as_in_onnxruntime(session: Session) -> None:
    y, size = session["batch"].run(None, {"x": X})
    np.testing.assert_array_equal(y, 4 * X)
    assert size.tolist() == [2, 4]
    assert session["batch"].run([], {"x": X})[1].tolist() == [2, 4]
    (only,) = session["batch"].run(["size"], {"x": X})
    assert only.tolist() == [2, 4]
    twice = session["batch"].run(["size", "y", "size"], {"x": X})
    assert [array.shape for array in twice] == [(2,), (2, 4), (2,)]


def test_inputs_and_outputs_as_in_onnxruntime(session: Session) -> None:
    assert session["relay"].get_inputs() == [
        NodeArg("a", ["N", 2], "tensor(float)"), NodeArg("b", ["N"], "tensor(int64)"),
        NodeArg("flag", [], "tensor(bool)"),
    ]  # fmt: skip
    assert session["batch"].get_outputs() == [
        NodeArg("y", ["N", 4], "tensor(float)"), NodeArg("size", [2], "tensor(int64)"),
    ]  # fmt: skip


def test_outputs_are_new_arrays(session: Session) -> None:
    first = session["affine"].run(None, {"x": X})[0]
    kept = first.copy()
    second = session["affine"].run(None, {"x": X + 1})[0]
    np.testing.assert_array_equal(first, kept)
    np.testing.assert_array_equal(second, 2 * (X + 1 + BIAS.reshape(2, 4)))
    first[:] = 0


@pytest.mark.parametrize(
    "x",
    [X.T.copy().T, X[::-1][::-1], X.astype(">f4"), np.repeat(X, 2, axis=1)[:, ::2], X.tolist()],
    ids=["columns first", "reversed twice", "big-endian", "strided", "lists"],
)
def test_any_memory_layout_of_an_input(session: Session, x: Any) -> None:
    np.testing.assert_array_equal(session["batch"].run(["y"], {"x": x})[0], 4 * X)


def test_inputs_are_left_as_they_are(session: Session) -> None:
    x = X.copy()
    x.flags.writeable = False
    session["choice"].run(None, {"x": x[0]})
    np.testing.assert_array_equal(x, X)


def test_weights_in_any_memory_are_made_fit_for_kernels(kernel_library: bytes) -> None:
    weight = np.frombuffer(b"\0" * 4 + BIAS.tobytes(), np.uint8)[4:].view(np.float32)
    assert not weight.flags.writeable
    session = Session(bundle_of({"m": affine_program()}, kernel_library, [weight]))
    y = session.run(None, {"x": X})["y"]
    np.testing.assert_array_equal(y, 2 * (X + BIAS.reshape(2, 4)))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({}, r"input 'a' missing; its inputs are a, b, flag$"),
        (relay_inputs(c=1), r"no input 'c'; its inputs are a, b, flag$"),
        (relay_inputs(a=np.zeros((3, 2))), r"'a' has dtype float64, the model takes float32: "
         r"convert with \.astype\('float32'\)"),
        (relay_inputs(a=np.zeros((3, 2, 1), np.float32)),
         r"'a' has shape 3 x 2 x 1; the model takes N x 2$"),
        (relay_inputs(a=np.zeros((3, 3), np.float32)), r"'a' has shape 3 x 3; .* N x 2, N = 3$"),
        (relay_inputs(b=np.zeros(4, np.int64)), r"'b' has shape 4; the model takes N, N = 3$"),
        (relay_inputs(flag=np.array([True])), r"'flag' has shape 1; the model takes scalar$"),
        (relay_inputs(a="text"), r"'a' is no float32 array"),
        (relay_inputs(a=[[1, 2], [3]]), r"'a' is no float32 array"),
        (relay_inputs(a=None), r"'a' has shape scalar"),
        (relay_inputs(b=[1.5, 2, 3]), r"'b' is no int64 array: it holds other values"),
        (relay_inputs(b=[2**70, 0, 0]), r"'b' is no int64 array"),
        (relay_inputs(b=["1", "2", "3"]), r"'b' is no int64 array"),
    ],
)  # fmt: skip
def test_wrong_inputs_are_named(session: Session, inputs: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=f"model 'relay': .*{message}"):
        session["relay"].run(None, inputs)


def test_lists_and_numbers_are_taken_where_they_are_exact(session: Session) -> None:
    inputs = relay_inputs(a=[[1, 2]], b=[7], flag=False)
    a, b = session["relay"].run(None, inputs)
    assert (a.tolist(), b.tolist()) == ([[1.0, 2.0]], [7])
    a, b = session["relay"].run(None, relay_inputs(a=np.zeros((0, 2), np.float32), b=[]))
    assert (a.shape, b.shape) == ((0, 2), (0,))


def test_unknown_outputs_are_named(session: Session) -> None:
    with pytest.raises(InputError, match="model 'batch' has no output 'z'; it has y, size"):
        session["batch"].run(["y", "z"], {"x": X})


def test_models_by_name(session: Session, kernel_library: bytes) -> None:
    assert list(session) == ["affine", "batch", "choice", "relay"]
    assert len(session) == 4
    assert "batch" in session
    assert "none" not in session
    assert session.get("none") is None
    assert session.get("batch") is session["batch"]
    with pytest.raises(InputError, match="no model 'none'; its models are affine, batch, choice"):
        session.run("none", {"x": X})
    with pytest.raises(InputError, match=r"by its name, not by a dict: run\(name, inputs\)"):
        session.run({"x": X})  # type: ignore[arg-type]
    with pytest.raises(InputError, match="name one of the bundle's models: affine, batch"):
        session.run(None, {"x": X})
    only = Session(bundle_of({"m": batch_program()}, kernel_library))
    assert only.run(inputs={"x": X})["size"].tolist() == [2, 4]


def test_eight_threads_on_one_session(session: Session) -> None:
    def call(number: int) -> bool:
        x = np.full((number % 4, 4), number, np.float32)
        y = session["batch"].run(["y"], {"x": x})[0]
        z = session["affine"].run(None, {"x": X + number})[0]
        return np.array_equal(y, 4 * x) and np.array_equal(z, 2 * (X + number + BIAS.reshape(2, 4)))

    with ThreadPoolExecutor(8) as threads:
        assert all(threads.map(call, range(800)))


def test_random_inputs_fit_and_repeat(session: Session) -> None:
    for model in session.values():
        for symbols in ({}, {"N": 5}):
            one, other = (model.random_inputs(3, symbols) for _ in range(2))
            assert one.keys() == {info.name for info in model.program.inputs}
            for name, array in one.items():
                np.testing.assert_array_equal(array, other[name])
            model.run(None, one)
    assert session["relay"].random_inputs(symbols={"N": 5})["a"].shape == (5, 2)


def test_a_report_of_the_host(session: Session) -> None:
    report = session.simulate("batch", {"x": X})
    assert (report.model, report.target, report.clock_hz) == ("batch", "host", None)
    assert [layer.op for layer in report.layers] == ["m/0", "m/1"]
    assert [layer.macs for layer in report.layers] == [8, 0]
    assert all(layer.seconds > 0 and layer.array is None for layer in report.layers)
    assert (report.cycles, report.array_share, report.array_seconds) == (0, 0.0, None)
    assert report.host_seconds == sum(layer.seconds for layer in report.layers)
    assert session.simulate("batch").macs == 4  # N is 1 where no inputs are given


@dataclass
class FakeArray:
    """An accelerator whose programs negate, into every output; 10 cycles a run."""

    clock_hz: float = 1e9
    loaded: dict[str, bytes] = field(default_factory=dict)
    outputs: list[Array] = field(default_factory=list)

    def load(self, name: str, program: bytes) -> None:
        self.loaded[name] = program

    def invoke(self, name: str, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        assert name in self.loaded
        for number, output in enumerate(outputs):
            np.multiply(inputs[0], -1 - number, out=output)
        self.outputs += outputs

    def counts(self, name: str) -> ProgramCounts:
        step = StepCounts("s", "Conv", "", 1, 0, 10, 8, 64, 0.5, 2, 100, 50, 0, 4, 3, 5)
        stalls, energy = {"busy": 8, "dram": 2}, {"mac": 1e-9}
        return ProgramCounts(10, 64, 0.4, 1, 100, 50, 0, stalls, energy, (step,))


def array_bundle(kernels: bytes, name: str = "negate") -> Any:
    draft = Draft()
    x = draft.input("x", ("N",))
    doubled = draft.kernel("double", x, draft.stored(("N",)), macs=Expression("*", "N", 2))
    negated = draft.array(name, doubled, draft.stored(("N",)), macs=64)
    return bundle_of({"m": draft.finish(y=negated)}, kernels, array_programs={"negate": b"code"})


def test_array_programs_run_on_the_accelerator(kernel_library: bytes) -> None:
    device = FakeArray()
    session = Session(array_bundle(kernel_library), device)
    assert device.loaded == {"negate": b"code"}
    assert session.run(None, {"x": X[0]})["y"].tolist() == [0, -2, -4, -6]
    assert device.outputs[0].ctypes.data % 64 == 0


def test_array_programs_with_several_outputs(kernel_library: bytes) -> None:
    draft = Draft()
    x = draft.input("x", (4,))
    first, second = draft.stored((4,)), draft.stored((4,))
    draft.array("negate", x, first, second, outputs=2)
    doubled = draft.kernel("double", second, draft.stored((4,)))
    program = draft.finish(first=first, doubled=doubled)
    bundle = bundle_of({"m": program}, kernel_library, array_programs={"negate": b"code"})
    device = FakeArray()
    results = Session(bundle, device).run(None, {"x": X[0]})
    assert results["first"].tolist() == [0, -1, -2, -3]
    assert results["doubled"].tolist() == [0, -4, -8, -12]
    assert not np.shares_memory(device.outputs[0], device.outputs[1])


def test_a_report_of_the_array(kernel_library: bytes) -> None:
    session = Session(array_bundle(kernel_library), FakeArray())
    report = session.simulate(None, {"x": X[0]})
    assert (report.target, report.clock_hz) == ("array", 1e9)
    assert [layer.target for layer in report.layers] == ["host", "array"]
    assert (report.cycles, report.macs, report.array_macs) == (10, 72, 64)
    assert report.array_share == 64 / 72
    assert report.array_seconds == pytest.approx(10e-9)
    assert report.dram_bytes == 150
    assert report.host_seconds == report.layers[0].seconds
    plain = report.to_dict()
    assert plain["layers"][1]["array"]["steps"][0]["tiles"] == 2
    assert (report.speed_of_light_cycles, report.utilisation) == (5, 0.4)
    assert report.stall_cycles == {"busy": 8, "dram": 2}
    assert report.energy_joules == {"mac": 1e-9}
    assert plain["cycles"] == 10


def test_array_programs_need_an_accelerator(kernel_library: bytes) -> None:
    with pytest.raises(EnvironmentLackError, match="no device to run them"):
        Session(array_bundle(kernel_library))


def test_a_cpu_without_the_features(kernel_library: bytes) -> None:
    bundle = bundle_of({"m": batch_program()}, kernel_library, cpu_features=("quantum", "warp"))
    with pytest.raises(EnvironmentLackError, match=r"a CPU with quantum, warp.*compile it again"):
        Session(bundle)


def test_a_missing_kernel_is_named(kernel_library: bytes) -> None:
    draft = Draft()
    x = draft.input("x", (4,))
    program = draft.finish(y=draft.kernel("halve", x, draft.stored((4,))))
    session = Session(bundle_of({"m": program}, kernel_library))
    with pytest.raises(BundleError, match="no kernel 'halve'"):
        session.run(None, {"x": X[0]})


def test_threads_of_the_call_go_before_those_of_the_bundle(kernel_library: bytes) -> None:
    bundle = bundle_of({"m": batch_program()}, kernel_library, threads=2)
    with pytest.raises(BundleError, match="no thread pool"):
        Session(bundle)
    with pytest.raises(InputError, match="threads is 0"):
        Session(bundle, threads=0)
