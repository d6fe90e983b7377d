"""``motet schedule --simulate``: what the stages take, beside what they were estimated to."""

from __future__ import annotations

import json
import shutil
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest
from front_outcome import Motet
from test_pinned_stages import branches, parsed

import motet

ARRAY = "sosa-256x32x32"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "branches.onnx"
    onnx.save(branches(), path)
    return path


def test_estimates_and_simulated_cycles_side_by_side(run_motet: Motet, model: Path) -> None:
    done = run_motet("schedule", model, "--target", ARRAY, "--simulate", "--json")
    assert done.code == 0, done.err
    (plan,) = json.loads(done.out)
    alone, planned = (plan["simulated"][key] for key in ("sequential", "planned"))
    setting = "passes.schedule.enabled=false"
    bundle = motet.compile(model, target=ARRAY, settings=[setting])
    assert alone["simulated"] == _cycles(bundle)
    stages = model.with_suffix(".json")
    stages.write_text(done.out)
    pinned = motet.compile(model, target=ARRAY, settings=[f"passes.schedule.file={stages}"])
    assert planned["simulated"] == _cycles(pinned)
    (told,) = (one.summary for one in pinned.manifest.passes if one.name == "array_stages")
    assert f"pinned {planned['simulated']} ({planned['estimated']:.0f})" in told
    text = run_motet("schedule", model, "--target", ARRAY, "--simulate").out
    for figure in (alone["simulated"], planned["simulated"]):
        assert f"{figure:,}" in text


def _cycles(bundle: Any) -> int:
    session = motet.load(bundle)
    return sum(session._machine.accelerator.counts(n).cycles for n in bundle.array_programs)


def test_what_cannot_be_simulated(run_motet: Motet, model: Path) -> None:
    host = run_motet("schedule", model, "--simulate")
    assert host.code
    assert "--simulate is for arrays: give one, as --target" in host.err
    counted = run_motet("schedule", model, "--count", "--simulate")
    assert "--simulate runs stages, which --count does not look for" in counted.err


def test_a_bundle_of_any_name(run_motet: Motet, model: Path, tmp_path: Path) -> None:
    motet.compile(model).save(model.with_suffix(".motet"))
    shutil.copy(model.with_suffix(".motet"), tmp_path / "bundle")
    named, plain = (
        run_motet("schedule", name, "--count", "--json").out
        for name in ("branches.motet", "bundle")
    )
    assert json.loads(plain) == json.loads(named)
    nothing = run_motet("schedule", "absent", "--count")
    assert nothing.code
    assert "absent: give a .motet bundle, an .onnx model or a .toml specification" in nothing.err


def test_a_bundle_is_scheduled_for_the_array_that_it_keeps(
    run_motet: Motet, model: Path, tmp_path: Path
) -> None:
    described = (files("motet.targets.systolic.architectures") / f"{ARRAY}.toml").read_text()
    (tmp_path / "mine.toml").write_text(described.replace(f'"{ARRAY}"', '"mine"'))
    run_motet("compile", model, "--target", "mine.toml", "-o", "mine.motet")
    source = run_motet("schedule", model, "--target", "mine.toml", "--simulate", "--json")
    (tmp_path / "mine.toml").unlink()
    done = run_motet("schedule", "mine.motet", "--simulate", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out) == json.loads(source.out)


MIXED = """
<ir_version: 9, opset_import: ["": 17]>
mixed (float[1, 8, 12, 12] x) => (float[1, 32, 12, 12] y)
{
  conv = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w)
  other = Conv<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x, w1)
  sums = CumSum(x, one)
  erf = Erf(x)
  y = Concat<axis = 1>(conv, other, sums, erf)
}
"""


def test_what_the_host_computes_gets_no_pods(run_motet: Motet, tmp_path: Path) -> None:
    made = parsed(MIXED)
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array(1, np.int64), "one"))
    onnx.save(made, tmp_path / "mixed.onnx")

    def planned(target: str, *settings: str) -> Any:
        done = run_motet("schedule", "mixed.onnx", "--target", target, *settings, "--json")
        (plan,) = json.loads(done.out)
        return plan

    def shares(plan: Any) -> list[tuple[set[str], int | None]]:
        """The nodes of every group, and its pods."""
        nodes = {name: one["onnx_nodes"][0] for name, one in plan["operators"].items()}
        return [
            ({nodes[name] for name in group}, pods)
            for stage in plan["schedule"]["stages"]
            for group, pods in zip(stage["groups"], stage["pods"], strict=True)
        ]

    plan = planned(ARRAY)
    (tmp_path / "stages.json").write_text(json.dumps([plan]))
    setting = "passes.schedule.file=stages.json"
    pinned = motet.compile("mixed.onnx", target=ARRAY, settings=[setting])
    told = [one for one in pinned.programs["mixed"].operators if one.target == "host"]
    # The array knows Erf, but placement leaves what no product of the array comes before.
    on_host = {one.onnx_nodes[0] for one in told}
    assert on_host == {"sums", "erf"}
    assert all((pods is None) == (group <= on_host) for group, pods in shares(plan))
    table = run_motet("schedule", "mixed.onnx", "--target", ARRAY).out
    assert any("erf" in line and "│ host │" in line for line in table.splitlines())
    # Without the array it is the host's schedule, in time as well.
    alone = planned(ARRAY, "--set", "passes.place.enabled=false")
    assert all(pods is None for _, pods in shares(alone))
    assert alone["seconds"] == pytest.approx(planned("host")["seconds"])


PLAIN = """
<ir_version: 9, opset_import: ["": 17]>
plain (float[1, 64] x) => (float[1, 64] y) { y = Identity(x) }
"""


def test_nothing_on_the_array_is_said_and_the_rest_shown(
    run_motet: Motet, model: Path, tmp_path: Path
) -> None:
    onnx.save(onnx.parser.parse_model(PLAIN), tmp_path / "plain.onnx")
    both = f'target = "{ARRAY}"\n[models.plain]\npath = "plain.onnx"\n'
    (tmp_path / "both.toml").write_text(f'{both}[models.some]\npath = "{model.name}"\n')
    done = run_motet("schedule", "both.toml", "--simulate", "--json")
    assert done.code == 0
    assert f"model 'plain': nothing of it runs on array '{ARRAY}'" in done.err
    assert "open sizes" not in done.err
    plain, some = json.loads(done.out)
    assert (plain["model"], plain["schedule"]["stages"]) == ("plain", [])
    assert "simulated" not in plain
    assert some["simulated"]["planned"]["simulated"] > 0
