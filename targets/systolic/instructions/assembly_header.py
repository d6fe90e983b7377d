"""The header of a program's text: its format, pods, tensors, views and steps, a line each.

    format int8
    pods 1
    tensor 0 "x" input word 1x3x224x224
    tensor 3 "" internal word 64x3136 resident=@4096
    view 0 tensor=0 shape=1x3x224x224 group=1:0 rows=112:460,112:2 columns=3:52900 padding=3,3,3,3
    step 0 "conv1+relu" "Convolution" macs=118013952 dataflow="weight-stationary" pods=1

Loops are extent:stride, outermost first. Names are JSON strings. A scalar's shape is "scalar".
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from motet.runtime.errors import ProgramError
from motet.targets.systolic.formats import FORMATS, format_named
from motet.targets.systolic.instructions.addressing import MAX_LOOPS, NO_PADDING, Loop, View
from motet.targets.systolic.instructions.program import (
    MAX_RANK,
    Element,
    Role,
    StepInfo,
    SystolicProgram,
    Tensor,
)

_ROLES = {role.name.lower(): role for role in Role}
_ELEMENTS = {element.name.lower(): element for element in Element}
_TOKEN = re.compile(r'\s*((?:\w+=)?"(?:[^"\\]|\\.)*"|[^\s";]+|;)')


@dataclass
class Header:
    """What the lines so far have said."""

    format: str = ""
    pods: int = 0
    tensors: list[Tensor] = field(default_factory=list)
    views: list[View] = field(default_factory=list)
    steps: list[StepInfo] = field(default_factory=list)

    def read(self, line: str) -> None:
        """Take one line that is not empty; ``ValueError`` with the rule that it breaks."""
        words = _split(line)
        if words[0] == "format" and len(words) == 2 and _is_format(words[1]):
            self.format = words[1]
        elif words[0] == "pods" and len(words) == 2:
            self.pods = _number(words[1], 2**16)
        elif words[0] == "tensor":
            self.tensors.append(_tensor(_numbered(words, len(self.tensors))))
        elif words[0] == "view":
            self.views.append(_view(_numbered(words, len(self.views)), len(self.tensors)))
        elif words[0] == "step":
            self.steps.append(_step(_numbered(words, len(self.steps))))
        else:
            raise ValueError(
                f"a header line is format ({', '.join(FORMATS)}), pods, tensor, view or step, and "
                "instructions follow a label such as 'pod 0 array:'"
            )


def _is_format(name: str) -> bool:
    try:
        format_named(name)
    except KeyError:
        return False
    return True


Parts = tuple[str, int, tuple[Tensor, ...], tuple[View, ...], tuple[StepInfo, ...]]


def header_of(header: Header) -> Parts:
    """Format, pods, tensors, views and steps; a program must name its format."""
    if not header.format:
        raise ProgramError(f"array assembly: add a line 'format' with one of {', '.join(FORMATS)}")
    return (
        header.format,
        header.pods,
        tuple(header.tensors),
        tuple(header.views),
        tuple(header.steps),
    )


def header_lines(program: SystolicProgram) -> Iterator[str]:
    """The header of ``program``'s text."""
    yield f"format {program.format}"
    yield f"pods {program.pods}"
    for number, tensor in enumerate(program.tensors):
        role, element = tensor.role.name.lower(), tensor.element.name.lower()
        place = "" if tensor.resident is None else f" resident=@{tensor.resident}"
        name = _quoted(tensor.name)
        yield f"tensor {number} {name} {role} {element} {_shape_text(tensor.shape)}{place}"
    for number, view in enumerate(program.views):
        yield f"view {number} {_view_text(view)}"
    for number, step in enumerate(program.steps):
        names = f"{_quoted(step.name)} {_quoted(step.kind)} macs={step.macs}"
        yield f"step {number} {names} dataflow={_quoted(step.dataflow)} pods={step.pods}"


def _view_text(view: View) -> str:
    parts = [f"tensor={view.tensor}", f"shape={_shape_text(view.shape)}"]
    parts += [f"group={_loops_text([view.group])}", f"rows={_loops_text(view.rows)}"]
    parts += [f"columns={_loops_text(view.columns)}"]
    if view.padding != NO_PADDING:
        parts.append(f"padding={','.join(map(str, view.padding))}")
    if view.offset:
        parts.append(f"offset={view.offset}")
    return " ".join(parts)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _shape_text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _loops_text(loops: Sequence[Loop]) -> str:
    return ",".join(f"{extent}:{stride}" for extent, stride in loops) or "none"


def _split(line: str) -> list[str]:
    words: list[str] = []
    at = 0
    while at < len(line):
        found = _TOKEN.match(line, at)
        if not found:
            raise ValueError("a text must end with a quotation mark")
        if found[1] == ";":
            break
        words.append(found[1])
        at = found.end()
    return words


def _numbered(words: list[str], expected: int) -> list[str]:
    if len(words) < 2 or words[1] != str(expected):
        raise ValueError(f"the next {words[0]} has the number {expected}")
    return words[2:]


def _number(text: str, limit: int = 2**64, least: int = 0) -> int:
    digits = text[1:] if least < 0 and text[:1] == "-" else text
    if not (digits.isascii() and digits.isdecimal()) or not least <= int(text) < limit:
        raise ValueError(f"{text!r} is not a number from {least} to {limit - 1}")
    return int(text)


def _text(word: str) -> str:
    try:
        made = json.loads(word)
    except ValueError:
        made = None
    if not isinstance(made, str):
        raise ValueError(f"{word} must be a text in quotation marks")
    return made


def _shape(text: str, rank: int) -> tuple[int, ...]:
    sizes = () if text == "scalar" else tuple(_number(size, 2**63) for size in text.split("x"))
    if len(sizes) > rank:
        raise ValueError(f"a shape has at most {rank} axes")
    return sizes


def _loops(text: str, most: int = MAX_LOOPS) -> tuple[Loop, ...]:
    parts = [] if text == "none" else [part.partition(":") for part in text.split(",")]
    if len(parts) > most:
        raise ValueError(f"at most {most} loops EXTENT:STRIDE")
    return tuple(Loop(_number(a, 2**63), _number(b, 2**63, -(2**63))) for a, _, b in parts)


def _options(words: list[str], known: tuple[str, ...]) -> dict[str, str]:
    made: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if name not in known or not equals or name in made:
            raise ValueError(f"{word!r} is not one of {', '.join(known)}, once each with =")
        made[name] = value
    return made


def _needed(options: dict[str, str], name: str) -> str:
    if name not in options:
        raise ValueError(f"{name}= is missing")
    return options[name]


def _tensor(words: list[str]) -> Tensor:
    if len(words) < 4 or words[1] not in _ROLES or words[2] not in _ELEMENTS:
        raise ValueError(
            f"a tensor is: number, name, one of {', '.join(_ROLES)}, one of "
            f"{', '.join(_ELEMENTS)}, shape, perhaps resident=@ADDRESS"
        )
    options = _options(words[4:], ("resident",))
    place = _number(options["resident"].lstrip("@")) if "resident" in options else None
    sizes = _shape(words[3], 8)
    return Tensor(_text(words[0]), sizes, _ROLES[words[1]], _ELEMENTS[words[2]], place)


def _view(words: list[str], tensors: int) -> View:
    known = ("tensor", "shape", "group", "rows", "columns", "padding", "offset")
    options = _options(words, known)
    group = _loops(_needed(options, "group"), 1)
    sides = [_number(side, 2**63) for side in options.get("padding", "0,0,0,0").split(",")]
    if len(group) != 1 or len(sides) != 4:
        raise ValueError("group= has one loop, and padding= is TOP,LEFT,BOTTOM,RIGHT")
    tensor = _number(_needed(options, "tensor"), max(tensors, 1))
    return View(
        tensor,
        _shape(_needed(options, "shape"), MAX_RANK),
        group[0],
        _loops(_needed(options, "rows")),
        _loops(_needed(options, "columns")),
        (sides[0], sides[1], sides[2], sides[3]),
        _number(options.get("offset", "0"), 2**63, -(2**63)),
    )


def _step(words: list[str]) -> StepInfo:
    if len(words) < 2:
        raise ValueError("a step is: number, name, kind, perhaps macs= dataflow= pods=")
    options = _options(words[2:], ("macs", "dataflow", "pods"))
    return StepInfo(
        _text(words[0]),
        _text(words[1]),
        _number(options.get("macs", "0")),
        _text(options.get("dataflow", '""')),
        _number(options.get("pods", "1"), 2**32),
    )
