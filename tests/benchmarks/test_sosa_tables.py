"""SOSA's tables to the printed digits, its curves by optimum and shape."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from motet.benchmarks.sosa_networks import (
    Network,
    Product,
    bert,
    densenet,
    inception_v3,
    macs,
    networks,
    resnet,
)
from motet.benchmarks.sosa_slots import level_cycles, mean_utilisation, utilisation
from motet.benchmarks.sosa_tables import (
    Row,
    effective_rows,
    granularity_rows,
    main,
    partition_rows,
    power_rows,
)
from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture_file import load_architecture
from motet.targets.systolic.sosa import (
    SOSA,
    Machine,
    of_description,
    peak_tops,
    scaled_peak_tops,
    thermal_watts,
)

DOCUMENT = Path(__file__).parents[2] / "docs" / "ARRAY_DESCRIPTION.md"
NETS = tuple(networks().values())


def test_thermal_power_is_as_printed() -> None:
    rows = power_rows()
    assert len(rows) == 15
    for row in rows:
        assert row.model == pytest.approx(row.paper, abs=0.0501), row.case


def test_granularity_is_as_printed() -> None:
    rows = granularity_rows()
    assert len(rows) == 8
    for row in rows:
        printed = 0.0501 if row.table.endswith("W") else 0.501
        assert row.model == pytest.approx(row.paper, abs=printed), row.case


def test_the_shipped_machine_is_sosas() -> None:
    machine, figures = of_description(load_architecture("sosa-256x32x32"))
    assert machine == Machine(256, 32, 32)
    assert figures == SOSA
    assert sum(thermal_watts(machine, figures).values()) == pytest.approx(260.2, abs=0.05)
    assert scaled_peak_tops(machine, figures) == pytest.approx(806, abs=0.5)
    assert peak_tops(machine) == pytest.approx(524.288)
    assert scaled_peak_tops(machine, budget_watts=200) * 2 == scaled_peak_tops(machine)


def test_power_of_other_machines_and_formats() -> None:
    single, figures = of_description(load_architecture("single-32x32"), "fp32")
    watts = thermal_watts(single, figures)
    assert watts["compute"] == pytest.approx(1024e9 * 3.716e-12)
    with pytest.raises(SpecError, match="pods of one size"):
        of_description(load_architecture("mixed-64x64-4x16x16"))
    with pytest.raises(SpecError, match=r"has no int4; it has fp32"):
        of_description(load_architecture("gemmini-16x16"), "int4")


def test_the_partition_curve_has_its_optimum_at_32_and_the_papers_shape() -> None:
    rows = partition_rows(NETS)
    values = [row.model for row in rows]
    assert max(values) == values[2]
    assert rows[2].case == "32 rows"
    assert values[:3] == sorted(values[:3])
    assert values[2:] == sorted(values[2:], reverse=True)
    for row in rows[:-1]:
        assert abs(row.error) < 0.08, row.case
    assert values[-1] < 0.4 * values[2]


def test_the_best_array_is_32x32() -> None:
    rows = effective_rows(NETS)
    best = max(rows, key=lambda row: row.model)
    assert best.case == "256 pods of 32x32"
    assert abs(best.error) < 0.03
    for row in rows[1:]:
        assert abs(row.error) < 0.35, row.case


@pytest.mark.parametrize("rows", [partition_rows(NETS), effective_rows(NETS)])
def test_the_page_has_the_curves(rows: list[Row]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    assert f"| {' | '.join(f'{row.paper:g}' for row in rows)} |" in text
    assert f"| {' | '.join(f'{row.model:.0f}' for row in rows)} |" in text


def test_slots_by_hand() -> None:
    """Two output tiles of 5 accumulations on 2 pods: chains of 2 links, and 10 slots of work."""
    machine = Machine(2, 8, 8, "crossbar", 1)
    level = (Product(16, 8, 40),)
    assert level_cycles(level, machine, 8) == 5 * 8 + 8 + 8 + 1
    assert level_cycles(level, machine, 4) == 10 * 8 + 17
    assert level_cycles(level, machine, None) == max(2 * (16 + 1), 5 * 16 / 2) + 17
    assert level_cycles((Product(1, 1, 40),), machine, 8) == 5 / 2 * 8 + 17
    assert utilisation((level,), machine, 8) == pytest.approx(16 * 8 * 40 / (57 * 128))


def test_a_mean_of_equal_networks_is_theirs() -> None:
    machine = Machine(4, 32, 32)
    net = resnet((3, 4, 6, 3))
    assert mean_utilisation([net, net], machine, 32) == pytest.approx(utilisation(net, machine, 32))


@pytest.mark.parametrize(
    ("network", "giga"),
    [
        (resnet((3, 4, 6, 3), 224), 4.09),
        (resnet((3, 4, 23, 3), 224), 7.80),
        (resnet((3, 8, 36, 3), 224), 11.51),
        (densenet((6, 12, 24, 16), edge=224), 2.83),
        (densenet((6, 12, 48, 32), edge=224), 4.29),
        (inception_v3(), 5.71),
        (bert(12, 768, 128), 11.17),
    ],
)
def test_multiply_accumulates_are_the_published_ones(network: Network, giga: float) -> None:
    """As torchvision prints them, and BERT-base's 22.3 G operations at 128 tokens."""
    assert round(macs(network) / 1e9, 2) == giga


def test_resnet_50_has_the_zoos_multiply_accumulates() -> None:
    pytest.importorskip("onnx")
    from motet.benchmarks.zoo import figures, registry

    assert macs(resnet((3, 4, 6, 3), 64)) == figures.macs(registry.build("resnet50", "@64"))


def test_the_command_prints_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    path = tmp_path / "curve.svg"
    done = CliRunner().invoke(main, ["--json", "--plot", str(path)])
    assert done.exit_code == 0, done.output
    rows = json.loads(done.output)
    assert len(rows) == 15 + 8 + 5 + 7
    assert "</svg>" in path.read_text(encoding="utf-8")
    table = CliRunner().invoke(main, [])
    assert "thermal power, W" in table.output
