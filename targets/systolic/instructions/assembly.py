"""Programs as text, and back: ``docs/ARRAY_ISA.md`` has the language.

``assemble(disassemble(program))`` has every bit of ``program``. Field values that an
instruction leaves at their defaults are not written.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from motet.runtime.errors import ProgramError
from motet.targets.systolic.instructions.assembly_header import Header, header_lines, header_of
from motet.targets.systolic.instructions.assembly_words import (
    ACTIVATIONS,
    ALL_FLAGS,
    BITS,
    DATAFLOWS,
    DEFAULTS,
    ENGINE_NAMES,
    FLAGS,
    FLOATS,
    FUNCTIONS,
    LIMITS,
    MNEMONICS,
    PLACE,
    always,
    float_bits,
    float_text,
    keys,
    printed,
    queue_text,
)
from motet.targets.systolic.instructions.isa import ENGINES, INSTRUCTION, Opcode
from motet.targets.systolic.instructions.program import SystolicProgram

_NAMES = {code: name for name, code in MNEMONICS.items()}
_FUNCTION_WORDS = {code: name for name, code in FUNCTIONS.items()}
_DATAFLOW_WORDS = {int(code): name for name, code in DATAFLOWS.items()}
_ACTIVATION_WORDS = {code: name for name, code in ACTIVATIONS.items()}
_FLAG_WORDS = [(int(bit), name) for name, bit in FLAGS.items()]
_FUNCTION, _DATAFLOW = PLACE["function"], PLACE["dataflow"]
_ACTIVATION, _FLAGS, _POD = PLACE["activation"], PLACE["flags"], PLACE["pod"]
_OPERAND = PLACE["operand"]
_FLOAT_PLACES = frozenset(PLACE[name] for name in FLOATS)
_WORDS: dict[str, tuple[int, int]] = {
    **{name: (_FUNCTION, code) for name, code in FUNCTIONS.items()},
    **{name: (_DATAFLOW, int(code)) for name, code in DATAFLOWS.items()},
}

Record = tuple[int, ...]


def disassemble(program: SystolicProgram) -> str:
    """The program as text, which ``assemble`` reads."""
    return "\n".join([*disassembled_lines(program), ""])


def disassembled_lines(program: SystolicProgram) -> Iterator[str]:
    """Lines of ``disassemble``, one by one."""
    yield from header_lines(program)
    for queue in program.queues:
        if len(queue.instructions):
            yield ""
            yield f"pod {queue.pod} {queue.engine.name.lower()}:"
            for record in queue.instructions.view(BITS).tolist():
                yield "  " + _line(record, queue.pod)


def instruction_text(instruction: Any, pod: int | None = None) -> str:
    """The line of one record of ``INSTRUCTION``; its pod is left out where it is ``pod``."""
    bits = np.array([instruction], INSTRUCTION).view(BITS)[0].tolist()
    return _line(bits, int(bits[_POD]) if pod is None else pod)


def _line(record: Record, pod: int) -> str:
    opcode = record[0]
    parts = [_NAMES.get(opcode) or f"opcode{opcode}"]
    unsaid = {_POD: pod}
    for place, words in ((_FUNCTION, _FUNCTION_WORDS), (_DATAFLOW, _DATAFLOW_WORDS)):
        if record[place] in words:
            parts.append(words[record[place]])
            unsaid[place] = record[place]
    has_view = record[_OPERAND] != DEFAULTS[_OPERAND]
    needed = always(opcode, record[_FLAGS], record[_FUNCTION], has_view)
    for place, name, style in printed(opcode):
        value = record[place]
        if value == unsaid.get(place, DEFAULTS[place]) and place not in needed:
            continue
        if style == "number":
            parts.append(f"{name}{value}")
        elif style == "address":
            parts.append(f"{name}@{value}")
        else:
            parts.append(_styled(name, style, value))
    return " ".join(parts)


def _styled(name: str, style: str, value: int) -> str:
    if style == "float":
        return name + float_text(value)
    if style == "queue":
        return name + queue_text(value)
    if style == "activation":
        return f"{name}{_ACTIVATION_WORDS.get(value, value)}"
    words = [word for bit, word in _FLAG_WORDS if value & bit]
    rest = value & ~ALL_FLAGS
    return " ".join([*words, f"{name}{rest}"] if rest else words)


def assemble(text: str) -> SystolicProgram:
    """The program that ``text`` writes; ``ProgramError`` names the line that has no meaning."""
    queues: dict[int, list[Record]] = {}
    current: list[Record] | None = None
    header = Header()
    pod = 0
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped[0] == ";":
            continue
        try:
            if current is None and not stripped.startswith("pod "):
                header.read(stripped)
                continue
            content = stripped.partition(";")[0].split()
            if content[0] == "pod":
                queue = _queue_of(content)
                pod, current = queue // ENGINES, queues.setdefault(queue, [])
            elif current is not None:
                current.append(_record(content, pod))
        except (ValueError, IndexError) as error:
            raise ProgramError(f"array assembly, line {number}: {error}: {stripped!r}") from None
    return _program(header, queues)


def _program(header: Header, queues: dict[int, list[Record]]) -> SystolicProgram:
    number_format, pods, tensors, views, steps = header_of(header)
    count = ENGINES * max([pods, *(queue // ENGINES + 1 for queue in queues)])
    records = [record for queue in range(count) for record in queues.get(queue, [])]
    starts = np.cumsum([0, *(len(queues.get(queue, [])) for queue in range(count))])
    instructions = np.array(records, BITS).view(INSTRUCTION)
    return SystolicProgram(
        number_format, instructions, starts.astype(np.int64), tensors, views, steps
    )


def _queue_of(words: list[str]) -> int:
    engine = words[2][:-1] if len(words) == 3 and words[2].endswith(":") else ""
    if engine not in ENGINE_NAMES or not words[1].isdecimal() or int(words[1]) >= LIMITS[_POD]:
        names = ", ".join(ENGINE_NAMES)
        raise ValueError(f"a queue's label is 'pod NUMBER ENGINE:' with one of {names}")
    return int(words[1]) * ENGINES + ENGINE_NAMES[engine]


def _record(words: list[str], pod: int) -> Record:
    mnemonic = words[0]
    opcode = MNEMONICS.get(mnemonic)
    if opcode is None:
        if not (mnemonic.startswith("opcode") and mnemonic[6:].isdecimal()):
            raise ValueError(f"unknown instruction; there are {', '.join(MNEMONICS)}")
        opcode = int(mnemonic[6:])
    values = list(DEFAULTS)
    values[0], values[_POD] = opcode, pod
    known = keys(opcode)
    for word in words[1:]:
        name, equals, value = word.partition("=")
        if equals:
            place = known.get(name)
            if place is None:
                raise ValueError(f"{mnemonic} has no {name!r}; it has {', '.join(known)}")
            values[place] = _value(opcode, place, value) | (values[_FLAGS] * (place == _FLAGS))
        elif word in FLAGS:
            values[_FLAGS] |= int(FLAGS[word])
        elif word in _WORDS:
            place, code = _WORDS[word]
            values[place] = code
        else:
            raise ValueError(f"unknown word {word!r}; write NAME=VALUE, or a flag such as +acc")
    if opcode >= LIMITS[0]:
        raise ValueError("the opcode needs more than its byte")
    return tuple(values)


def _value(opcode: int, place: int, text: str) -> int:
    try:
        if text.isdecimal():
            value = float_bits(text) if place in _FLOAT_PLACES else int(text)
        elif text[:1] == "@":
            value = int(text[1:])
        elif place in _FLOAT_PLACES:
            value = float_bits(text)
        elif place == _ACTIVATION:
            value = ACTIVATIONS[text]
        elif opcode == Opcode.WAIT and "." in text:
            pod, _, engine = text.partition(".")
            value = int(pod) * ENGINES + ENGINE_NAMES[engine]
        else:
            value = int(text, 0)
    except (KeyError, ValueError):
        raise ValueError(f"{text!r} is not a value of this field") from None
    if not 0 <= value < LIMITS[place]:
        raise ValueError(f"{text} does not fit its field (0 to {LIMITS[place] - 1})")
    return value
