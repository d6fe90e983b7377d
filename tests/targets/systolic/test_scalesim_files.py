"""SCALE-Sim's topologies and configurations as workloads and array descriptions."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from motet.runtime.errors import SpecError
from motet.targets.systolic.architecture_scalesim import read_config
from motet.targets.systolic.instructions.program import Role
from motet.targets.systolic.workload.layers import MatrixProduct
from motet.targets.systolic.workload.scalesim import read_topology

CONV = (
    "Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, "
    "Strides,\n"
)


@pytest.fixture
def topology(tmp_path):
    def read(text, kind=None):
        path = tmp_path / "net.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_topology(path, kind)

    return read


def test_convolutions(topology):
    made = topology(CONV + "Conv1, 224, 224, 7, 7, 3, 64, 2,\n\nConv2,14,16,1,3,8,4,1,\n")
    first, second = (step.layer for step in made.steps)
    assert [step.name for step in made.steps] == ["Conv1", "Conv2"]
    # SCALE-Sim rounds (224 - 7) / 2 up: 110 rows, not 109.
    assert first.out_size == (110, 110)
    assert first.product_shape == (1, 110 * 110, 64, 147)
    assert second.output_shape == (1, 4, 14, 14)
    assert second.padding == (0, 0, 0, 0)


def test_steps_share_no_tensor(topology):
    made = topology(CONV + "a,8,8,3,3,2,4,1,\na,8,8,3,3,2,4,1,\n")
    assert [step.name for step in made.steps] == ["a", "a#2"]
    assert [(step.inputs, step.output) for step in made.steps] == [((0, 1), 2), ((3, 4), 5)]
    assert [tensor.role for tensor in made.tensors] == [Role.INPUT, Role.WEIGHT, Role.OUTPUT] * 2
    assert made.tensors[4].name == "a#2.weight"


def test_depthwise(topology):
    (step,) = topology(CONV + "Conv_DP,16,16,3,3,8,2,1,\n").steps
    assert step.layer.groups == 8
    assert step.layer.product_shape == (8, 196, 2, 9)


@pytest.mark.parametrize(
    ("header", "line"),
    [
        (CONV, "c, 9, 9, 3, 3, 2, 4, 2,"),
        (CONV.replace("Strides,", "Strides"), "c, 9, 9, 3, 3, 2, 4, 2"),
        (CONV.replace("Strides,", "Strides, Sparsity,"), "c, 9, 9, 3, 3, 2, 4, 2, 1:1,"),
        (
            "Layer name,IFMAP height,IFMAP width,Filter height,Filter width,Channels,Num filter,"
            "Stride height,Stride width,\n",
            "c,9,9,3,3,2,4,2,2,",
        ),
        ("\ufeff" + CONV.replace("\n", "\r\n"), "c,9,9,3,3,2,4,2,,\r"),
        ("Name,h,w,fh,fw,c,n,s,\n", "c,9,9,3,3,2,4,2,"),
        (CONV, "\tc,9,9,3,3,2,4,2,#dw"),
        (CONV[:-1] + "Batch Size,\n", "c,9,9,3,3,2,4,2,1,"),
    ],
)
def test_variants_of_lines(topology, header, line):
    text = header if header.endswith("\n") else header + "\n"
    (step,) = topology(text + line + "\n").steps
    assert step.layer.output_shape == (1, 4, 4, 4)
    assert step.layer.stride == (2, 2)


@pytest.mark.parametrize(
    "header", ["Layer, M, N, K,\n", "Layer,M,N,K\n", "Layer name,M,N,K,Ratio,\n"]
)
def test_products(topology, header):
    made = topology(header + "qkv, 128, 2304, 768,\nffn, 1, 5, 7, 1:1,\n")
    assert [step.layer for step in made.steps] == [
        MatrixProduct(1, 128, 2304, 768),
        MatrixProduct(1, 1, 5, 7),
    ]


def test_kind_can_be_given(topology):
    (step,) = topology("a,b,c,d\nx,1,2,3,\n", "gemm").steps
    assert step.layer == MatrixProduct(1, 1, 2, 3)


@given(
    size=st.integers(1, 40), kernel=st.integers(1, 9), stride=st.integers(1, 5), wide=st.booleans()
)
def test_outputs_are_scalesims(tmp_path_factory, size, kernel, stride, wide):
    kernel = min(kernel, size)
    path = tmp_path_factory.getbasetemp() / "one.csv"
    along = (size, 50, kernel, 1) if wide else (50, size, 1, kernel)
    sizes = [along[0], along[1], along[2], along[3], 1, 1, stride]
    path.write_text(CONV + "c," + ",".join(map(str, sizes)) + ",\n")
    (step,) = read_topology(path).steps
    # SCALE-Sim 3.0.0, topology_utils.topo_calc_hyperparams
    expected = tuple(
        math.ceil((length - taps + stride) / stride)
        for length, taps in ((along[0], along[2]), (along[1], along[3]))
    )
    assert step.layer.out_size == expected


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "empty"),
        (CONV, "no layer"),
        ("c,9,9,3,3,2,4,2,\n", "line 1: a layer instead of a header"),
        ("Layer,M,K,N,\na,1,2,3,\n", "line 1: columns must be, in this order: Layer, M, N, K"),
        (CONV + "c,9,9,3,3,2,4,\n", "line 2: 7 values of 8: give Layer name, IFMAP Height"),
        (CONV + "\nc,9,9,3,x,2,4,2,\n", "line 3: column Filter Width is 'x'; give a whole number"),
        (CONV + "c,9,9,3,3,2,4,0,\n", "line 2: column Strides is '0'"),
        (CONV + "c,9,9,3,3,2.5,4,1,\n", "line 2: column Channels is '2.5'"),
        (
            CONV + "c,9,2,3,3,2,4,1,\n",
            "line 2: column Filter Width is 3, larger than the input's 2",
        ),
        (CONV + "c,9,9,3,3,2,4,1,2:4,\n", "line 2: column 9 is '2:4'; after Strides there may"),
        (CONV + "c,9,9,3,3,2,4,1,2,\n", "line 2: column 9 is '2'; after Strides there may"),
        (CONV[:-1] + "Groups,\nc,9,9,3,3,2,4,1,2,\n", "line 2: column Groups is '2'"),
        (CONV + "c,90000,90000,3,3,2,4,1,\n", "line 2: layer 'c': a tensor may hold at most"),
        ("Layer,M,N,K\nx,1,2,9999999999999,\n", "line 2: column K is '9999999999999'"),
        (b"\xff\xfe\x00", "cannot read this topology"),
    ],
)
def test_what_is_no_topology(topology, text, says):
    with pytest.raises(SpecError) as error:
        topology(text)
    assert "net.csv" in str(error.value)
    assert says in str(error.value)


def test_a_missing_file(tmp_path):
    with pytest.raises(SpecError, match="cannot read this topology"):
        read_topology(tmp_path / "none.csv")
    with pytest.raises(SpecError, match="cannot read this configuration"):
        read_config(tmp_path / "none.cfg")


CONFIG = """\
[general]
run_name = a_run

[architecture_presets]
ArrayHeight:    16
ArrayWidth:     32
IfmapSramSzkB:    256
FilterSramSzkB:   128
OfmapSramSzkB:    64
IfmapOffset:    0
Bandwidth : 10
Dataflow : os

[layout]
IfmapCustomLayout: False

[sparsity]
SparsitySupport : false

[run_presets]
InterfaceBandwidth: USER
"""


@pytest.fixture
def config(tmp_path):
    def read(text):
        path = tmp_path / "scale.cfg"
        path.write_text(text, encoding="utf-8")
        return read_config(path)

    return read


def test_a_configuration(config):
    made = config(CONFIG)
    (pod,) = made.pods
    assert made.name == "a_run"
    assert (pod.rows, pod.columns, pod.dataflows) == (16, 32, ("output-stationary",))
    assert pod.scratchpad.bytes == 384 * 1024
    assert pod.accumulator_words == 64 * 1024
    assert made.dram_bytes_per_cycle == 30


def test_a_nameless_run_has_the_files_name(config):
    assert config(CONFIG.replace("a_run", '""')).name == "scale"


def test_bandwidths(config):
    three = config(CONFIG.replace("Bandwidth : 10", "Bandwidth: 4, 5,6"))
    assert three.dram_bytes_per_cycle == 15
    assert config(CONFIG.replace("USER", "CALC")).dram_bytes_per_cycle == 16 + 2 * 32


def test_an_older_configuration(config):
    text = CONFIG.split("[layout]")[0].replace("Bandwidth : 10\n", "")
    assert config(text).dram_bytes_per_cycle == 80


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ("ArrayHeight:    16\n", "", "[architecture_presets] has no ArrayHeight; add a line"),
        ("ArrayHeight:    16", "ArrayHeight: 0", "ArrayHeight is '0'; give a whole number"),
        ("Dataflow : os", "Dataflow : rs", "Dataflow is 'rs'; give one of ws, os, is"),
        ("Bandwidth : 10", "Bandwidth : fast", "Bandwidth is 'fast'; give one whole number"),
        ("Bandwidth : 10", "Bandwidth : \u00b2", "give one whole number, or three"),
        ("Bandwidth : 10", "Bandwidth : 0", "give at least one word per cycle"),
        ("USER", "MINE", "InterfaceBandwidth is 'MINE'; give USER or CALC"),
        ("SparsitySupport : false", "SparsitySupport : true", "only dense arrays"),
        ("ArrayWidth:     32", "ArrayWidth: 4096", "needs at least"),
        ("[general]", "general", "cannot read this configuration"),
    ],
)
def test_what_is_no_configuration(config, old, new, says):
    with pytest.raises(SpecError) as error:
        config(CONFIG.replace(old, new))
    assert "scale.cfg" in str(error.value)
    assert says in str(error.value)
