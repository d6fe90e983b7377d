"""Numbers with an origin: energy and area of an array's components.

A figure names the process node and the supply voltage that it holds for and where it comes
from, so that nobody has to guess which silicon an energy total describes. A figure that was
scaled from another node says how in its ``source``.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

FormatName = Literal["fp32", "bf16", "int8", "int4"]
"""Number formats, the keys of ``formats.FORMATS``."""


class Frozen(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What all structs of a description share: immutable, by keyword, no unknown keys."""


def unit(name: str) -> dict[str, str]:
    """The unit of a key, for the annotations' ``extra``."""
    return {"unit": name}


class Figure(Frozen, frozen=True):
    """A number with its origin."""

    value: Annotated[
        float, Meta(ge=0, le=1e12, description="The number; its unit is in the key's name.")
    ]
    node_nm: Annotated[
        float,
        Meta(
            ge=1, le=1000, description="Process node that the number holds for.", extra=unit("nm")
        ),
    ]
    volts: Annotated[
        float, Meta(ge=0.1, le=10, description="Supply voltage that it holds for.", extra=unit("V"))
    ]
    source: Annotated[
        str,
        Meta(min_length=1, description="Publication and table; how it was scaled, if it was."),
    ]


class Energy(Frozen, frozen=True):
    """Energy per event and cycle, in picojoules, and leakage, in watts, by component.

    No figure is a machine's total, so that other counts, sizes and clocks scale what they cost.
    """

    mac_pj: Annotated[
        dict[FormatName, Figure],
        Meta(
            description="One multiply-accumulate, a figure for each format that a pod offers.",
            extra=unit("pJ"),
        ),
    ]
    scratchpad_pj_per_byte: Annotated[
        Figure,
        Meta(description="A byte read from or written to a scratchpad.", extra=unit("pJ/byte")),
    ]
    accumulator_pj_per_byte: Annotated[
        Figure,
        Meta(description="A byte read from or written to accumulators.", extra=unit("pJ/byte")),
    ]
    vector_pj: Annotated[
        Figure,
        Meta(description="One value through one vector operation.", extra=unit("pJ")),
    ]
    interconnect_pj_per_byte_stage: Annotated[
        Figure,
        Meta(
            description="A byte through one stage of the interconnect; `interconnect_cost` has the"
            " stages of each kind.",
            extra=unit("pJ/byte"),
        ),
    ]
    dram_pj_per_byte: Annotated[
        Figure,
        Meta(description="A byte to or from DRAM, interface included.", extra=unit("pJ/byte")),
    ]
    leakage_watts_per_element: Annotated[
        Figure,
        Meta(
            description="Leakage of a processing element with its registers, always.",
            extra=unit("W"),
        ),
    ]
    leakage_watts_per_mebibyte: Annotated[
        Figure,
        Meta(
            description="Leakage of 2^20 bytes of scratchpad or accumulators, always.",
            extra=unit("W/MiB"),
        ),
    ]
    idle_pj_per_element_cycle: Annotated[
        Figure,
        Meta(
            description="The clock of a processing element's registers in a cycle, whether it"
            " works or not.",
            extra=unit("pJ/cycle"),
        ),
    ]
    register_pj_per_byte: Annotated[
        Figure | None,
        Meta(
            description="A byte moved into a register of a processing element; absent where"
            " `mac_pj` includes it.",
            extra=unit("pJ/byte"),
        ),
    ] = None
    multiply_pj_per_bit_pair: Annotated[
        Figure | None,
        Meta(
            description="Of an integer multiplier, for each pair of bits of its two operands;"
            " needed where a pod has vector units.",
            extra=unit("pJ"),
        ),
    ] = None
    add_pj_per_bit: Annotated[
        Figure | None,
        Meta(
            description="Of an integer adder, for each bit; needed where a pod has vector units.",
            extra=unit("pJ"),
        ),
    ] = None


class Area(Frozen, frozen=True):
    """Silicon area in square millimetres, by component."""

    element_mm2: Annotated[
        Figure,
        Meta(description="A processing element with its registers.", extra=unit("mm^2")),
    ]
    scratchpad_mm2_per_mebibyte: Annotated[
        Figure, Meta(description="2^20 bytes of scratchpad.", extra=unit("mm^2/MiB"))
    ]
    accumulator_mm2_per_mebibyte: Annotated[
        Figure, Meta(description="2^20 bytes of accumulators.", extra=unit("mm^2/MiB"))
    ]
    vector_lane_mm2: Annotated[
        Figure, Meta(description="One lane of a vector unit.", extra=unit("mm^2"))
    ]
    interconnect_mm2_per_byte_stage: Annotated[
        Figure,
        Meta(
            description="One byte of a link's width through one switch stage, with its register.",
            extra=unit("mm^2/byte"),
        ),
    ]
