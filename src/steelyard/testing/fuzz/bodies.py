"""Mutations of bytes and of JSON: each takes valid data and returns some that may be invalid."""

import json
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Final

__all__ = ["mutated_bytes", "mutated_json"]

_NUMBERS: Final = (0, 1, -1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, -(2**31), 2**32 - 1,
                   2**63 - 1, -(2**63), 10_000, 10_001, 8 * 1024 * 1024)  # fmt: skip
_WORDS: Final = (
    b"\0", b"\xff\xff\xff\xff", b"\r\n", b"\r\n\r\n", b"{", b"[", b'"', b"\\u0000", b"\\ud800", b"NaN",
    b"1e999", b"-0", b"ARROW1", b"PAR1", b"\xef\xbb\xbf", b"\xc0\xaf", b"\xed\xa0\x80", b"%00", b'"rows"',
    b'{"rows":[', b",,", b"\xff\xff\xff\xff\0\0\0\0", b"\x80" * 10, b"0\r\n\r\n", b"\n", b"'",
)  # fmt: skip
_LONGEST: Final = 1 << 18
"""What a repetition may make of a body."""


def mutated_bytes(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Return data after one or several mutations; `others` are spliced in."""
    for _ in range(draw.choice((1, 1, 1, 2, 3, 8))):
        data = draw.choice(_BYTES)(draw, data, others)
    return data[: 2 * _LONGEST]


def _place(draw: Random, data: bytes) -> int:
    return draw.randrange(len(data) + 1)


def _flip(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    if not data:
        return b"\0"
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 8))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _set(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    return data[:at] + bytes([draw.choice((0, 0x20, 0x7F, 0x80, 0xFF))]) + data[at + 1 :]


def _cut(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    return data[: _place(draw, data)]


def _removed(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at, end = sorted((_place(draw, data), _place(draw, data)))
    return data[:at] + data[min(end, at + 64) :]


def _repeated(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at, end = sorted((_place(draw, data), _place(draw, data)))
    times = draw.choice((1, 2, 2, 8, 100))
    part = data[at:end][: _LONGEST // times]
    return data[:end] + part * times + data[end:]


def _inserted(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    at = _place(draw, data)
    words = _WORDS if draw.random() < 0.7 else (draw.randbytes(draw.randint(1, 40)),)
    return data[:at] + draw.choice(words) + data[at:]


def _spliced(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    other = draw.choice(others) if others else b""
    return data[: _place(draw, data)] + other[_place(draw, other) :]


def _numbered(draw: Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """Overwrite a place where binary formats keep a length, an offset or a count."""
    form = draw.choice(("<i", "<q", ">i", "<h", "<b"))
    size = struct.calcsize(form)
    at = _place(draw, data) // size * size
    number = draw.choice(_NUMBERS) & (1 << 8 * size) - 1
    return (
        data[:at] + number.to_bytes(size, "big" if form[0] == ">" else "little") + data[at + size :]
    )


_Mutation = Callable[[Random, bytes, Sequence[bytes]], bytes]
_BYTES: Final[tuple[_Mutation, ...]] = (
    _flip, _flip, _set, _cut, _removed, _repeated, _inserted, _spliced, _numbered, _numbered,
)  # fmt: skip

# JSON.

_RAW: Final = "\0raw\0"
"""Stands for text that no serialiser writes."""
_TEXTS: Final = (
    "1e999", "-1e999", "NaN", "Infinity", "-0", "1" + "0" * 400, "1." + "1" * 5_000, "9" * 6_000,
    "1E-400", "[" * 5_000 + "]" * 5_000, '{"a":' * 2_000 + "1" + "}" * 2_000, "[" * 20_000,
    '"\\ud800"', '"\\udc00\\ud800"', '"\\u0000"', "00", "+1", ".5", "1.", "0x10", "tru", "'a'", "[1,]",
    '{"a":1,"a":2}', '{"rows":[],"rows":[]}', "", '"\x01"', "9223372036854775808", "-9223372036854775809",
)  # fmt: skip
_MANY: Final = 11_000
"""More rows than are taken at once."""
_VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, -1, 2**31, 2**53 + 1, 2**63, -(2**63) - 1, 10**30, 1.5, -0.0, 1e308, 5e-324,
    "", " ", "\0", "a" * 10_000, "\ud800", "\uffff", "é" * 50, "../../etc/passwd", "file:///etc/passwd",
    "2024-02-30", "0000-00-00", "9999-12-31T23:59:60Z", "NaN", "null", [], [[]], [None], {}, {"": None},
    {"rows": []}, [0] * 500,
)  # fmt: skip


def mutated_json(draw: Random, data: bytes) -> bytes:
    """Return JSON with a few of its values or members replaced; bytes that are none stay."""
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return data
    raw: list[str] = []
    for _ in range(draw.choice((1, 1, 2, 4))):
        document = _changed(draw, document, raw)
    text = json.dumps(document, ensure_ascii=draw.random() < 0.5)[: 16 * _LONGEST]
    marker = json.dumps(_RAW)
    for one in raw:
        text = text.replace(marker, one, 1)
    return text.encode("utf-8", "surrogatepass")


def _changed(draw: Random, node: Any, raw: list[str]) -> Any:
    """Return a document with one node of it changed, at any depth."""
    inside = list(node) if isinstance(node, dict) else list(range(len(node or ()))
                                                            if isinstance(node, list) else ())  # fmt: skip
    if not inside or draw.random() < 0.25:
        return _replaced(draw, node, raw)
    key = draw.choice(inside)
    kind = draw.random()
    changed = node.copy()
    if kind < 0.1:
        del changed[key]
    elif kind < 0.2 and isinstance(node, list):
        changed += [node[key]] * draw.choice(
            (1, 2, 2, 3, 50, 50, _MANY if draw.random() < 0.1 else 1)
        )
    elif kind < 0.2:
        changed[draw.choice(("", "é", "rows", "x" * 500, "\ud800", str(key) + " "))] = node[key]
    else:
        changed[key] = _changed(draw, node[key], raw)
    return changed


def _replaced(draw: Random, node: Any, raw: list[str]) -> Any:
    kind = draw.random()
    if kind < 0.4:
        raw.append(draw.choice(_TEXTS))
        return _RAW
    if kind < 0.5 and isinstance(node, str):
        return node * draw.choice((2, 1_000))
    if kind < 0.6:
        return {"a": [node, node]}
    return draw.choice(_VALUES)
