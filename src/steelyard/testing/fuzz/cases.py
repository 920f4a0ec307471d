"""The cases of a campaign: each follows from the campaign's seed and its own number alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from steelyard.testing.fuzz.bodies import mutated_bytes
from steelyard.testing.fuzz.heads import MUTATIONS
from steelyard.testing.fuzz.requests import Request
from steelyard.testing.fuzz.seeds import Call

__all__ = ["Case", "call_case", "frames_case", "frames_of", "http_case"]

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HEADERS_FRAME, _DATA_FRAME, _SETTINGS_FRAME = 1, 0, 4
_END_STREAM, _END_HEADERS = 1, 4


@dataclass(frozen=True, slots=True)
class Case:
    """Bytes to be sent over one connection, in parts. `requests` is how many they were made of."""

    number: int
    parts: tuple[bytes, ...]
    requests: int

    @property
    def data(self) -> bytes:
        """All of the bytes."""
        return b"".join(self.parts)


def http_case(seed: int, number: int, seeds: Sequence[Request]) -> Case:
    """Return a case of requests: one, or several behind each other, mutated each."""
    draw = Random(f"{seed}:{number}")
    count = 1 if draw.random() < 0.9 else draw.randint(2, 12)
    data = b""
    for _ in range(count):
        request = draw.choice(seeds).copy()
        for _ in range(draw.choice((0, 1, 1, 1, 1, 2, 2, 3, 5))):
            draw.choice(MUTATIONS)(draw, request, seeds)
        data += request.render()
    if draw.random() < 0.15:
        data = mutated_bytes(draw, data, [draw.choice(seeds).render()])
    return Case(number, _parted(draw, data), count)


def _parted(draw: Random, data: bytes) -> tuple[bytes, ...]:
    """Return data as it may arrive: mostly whole, or in a few parts."""
    if draw.random() < 0.8 or len(data) < 2:
        return (data,)
    places = sorted({draw.randrange(1, len(data)) for _ in range(draw.randint(1, 4))})
    return tuple(data[a:b] for a, b in zip([0, *places], [*places, len(data)], strict=True))


def call_case(seed: int, number: int, calls: Sequence[Call]) -> Call:
    """Return a call of gRPC whose message, or now and then whose method, is mutated."""
    draw = Random(f"{seed}:{number}")
    method, data = draw.choice(calls)
    if draw.random() < 0.1:
        method = draw.choice(
            (draw.choice(calls)[0], "ModelInfe", "RepositoryIndex", "ModelStreamInfer")
        )
    for _ in range(draw.choice((0, 1, 1, 2, 4))):
        data = mutated_bytes(draw, data, [other for _, other in calls])
    return method, data


def frames_case(seed: int, number: int, calls: Sequence[Call]) -> Case:
    """Return a connection of HTTP/2 with one call, mutated as bytes."""
    draw = Random(f"{seed}:{number}")
    method, data = draw.choice(calls)
    whole = frames_of(method, data)
    return Case(number, _parted(draw, mutated_bytes(draw, whole, [_PREFACE, whole])), 1)


def frames_of(method: str, data: bytes) -> bytes:
    """Return a call of the inference service as the frames of a whole connection."""
    lines = [
        (b":method", b"POST"), (b":scheme", b"http"), (b":authority", b"here"),
        (b":path", f"/inference.GRPCInferenceService/{method}".encode()),
        (b"te", b"trailers"), (b"content-type", b"application/grpc"),
    ]  # fmt: skip
    # Literals without indexing: RFC 7541, 6.2.2; no name or value is longer than 126 bytes.
    block = b"".join(b"\0%c%b%c%b" % (len(n), n, len(v), v) for n, v in lines)
    message = b"\0" + len(data).to_bytes(4, "big") + data
    return b"".join(
        [
            _PREFACE,
            _frame(_SETTINGS_FRAME, 0, 0, b""),
            _frame(_HEADERS_FRAME, _END_HEADERS, 1, block),
            _frame(_DATA_FRAME, _END_STREAM, 1, message),
        ]
    )


def _frame(kind: int, flags: int, stream: int, data: bytes) -> bytes:
    return len(data).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + data
