"""Mutations of a request's line, its headers and its framing; the body is mutated by its kind."""

import gzip
from collections.abc import Callable, Sequence
from random import Random
from typing import Final

from steelyard.testing.fuzz.bodies import mutated_bytes, mutated_json
from steelyard.testing.fuzz.requests import Request

__all__ = ["MUTATIONS", "Mutation"]

Mutation = Callable[[Random, Request, Sequence[Request]], None]

_METHODS: Final = (
    b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"PATCH", b"OPTIONS", b"TRACE", b"CONNECT", b"PROPFIND",
    b"get", b"FOO", b"G\0T", b"P" * 5_000, b"", b"PRI", b"\x16\x03\x01",
)  # fmt: skip
_VERSIONS: Final = (
    b"HTTP/1.0",
    b"HTTP/0.9",
    b"HTTP/2.0",
    b"HTTP/1.2",
    b"HTTP/9.9",
    b"http/1.1",
    b"",
    b"X",
)
_STEPS: Final = (
    b"/", b"//", b"/.", b"/..", b"/../../etc/passwd", b"/..%2f..%2fetc%2fpasswd", b"%00", b"%", b"%zz", b"%ff",
    b"%c0%af", b"%ed%a0%80", b"%u0041", b"\\", b";x=1", b"#f", b"?", b"?a=%ff&a", b"?" + b"a=1&" * 3_000,
    b"/" + b"a" * 9_000, b"/" + b"%41" * 2_000, b"\xff\xfe", b"\xc3\xa9", b" x", b"\t", b"*", b":predict",
    b"/versions/1", b"/versions/99999999999999999999", b"/ready", b"/infer", b"{model}", b"/%2e%2e/",
)  # fmt: skip
_TYPES: Final = (
    b"application/json", b"application/json; charset=utf-16", b"application/json;", b"text/csv", b"text/plain",
    b"application/octet-stream", b"application/vnd.apache.arrow.stream", b"application/vnd.apache.parquet",
    b"application/jsonlines", b"application/x-www-form-urlencoded", b"multipart/form-data; boundary=b", b"",
    b"application/grpc", b"application/x-pickle", b"\xff", b"a/b" * 500, b"application/problem+json",
)  # fmt: skip
_HEADERS: Final = (
    (b"accept", (b"*/*", b"", b"text/csv", b"application/vnd.apache.arrow.stream", b"a/b;q=x", b"\xff",
                 b"application/vnd.apache.parquet", b"application/json;q=0", b"," * 500, b"text/html")),
    (b"content-encoding", (b"gzip", b"identity", b"br", b"", b"deflate, gzip")),
    (b"transfer-encoding", (b"chunked", b"gzip, chunked", b"identity", b"xchunked", b"chunked, chunked", b"")),
    (b"content-length", (b"0", b"-1", b"+5", b"0x10", b"9" * 30, b"1e3", b"", b"5, 5", b"\xb2", b"1048577")),
    (b"expect", (b"100-continue", b"x")),
    (b"connection", (b"close", b"keep-alive", b"upgrade", b"close, keep-alive", b"\0", b"x" * 3_000)),
    (b"upgrade", (b"h2c", b"websocket", b"")),
    (b"inference-header-content-length", (b"0", b"-1", b"9" * 30, b"1", b"", b"x", b"\xb2", b"65536")),
    (b"steelyard-timeout-ms", (b"1", b"0", b"-5", b"9" * 30, b"x", b"", b"3600001", b"\xb2")),
    (b"idempotency-key", (b"", b"x", b"x" * 5_000, b"\xff\0", b"same")),
    (b"authorization", (b"", b"Bearer", b"Bearer " + b"x" * 5_000, b"Basic ?", b"Basic \xff", b"Digest a=b")),
    (b"x-api-key", (b"", b"sy_00000000_x", b"\xff" * 100, b"sy_" * 2_000)),
    (b"traceparent", (b"00-" + b"0" * 32 + b"-" + b"0" * 16 + b"-01", b"x", b"\xff", b"00-" * 400)),
    (b"host", (b"", b"a", b"evil.example:99999", b"[::1", b"\xff", b"x" * 3_000)),
    (b"origin", (b"https://evil.example", b"null", b"")),
    (b"range", (b"bytes=0-1", b"bytes=" + b"0-," * 900)),
    (b"x-forwarded-for", (b"127.0.0.1", b"a" * 500)),
    (b"content-type", _TYPES),
    (b"te", (b"trailers",)),
    (b"a b", (b"c",)), (b"", (b"x",)), (b"\xff", (b"\xfe",)), (b"x\0", (b"\0",)),
    (b"x" * 70_000, (b"y",)), (b"x-long", (b"y" * 70_000, b"y" * 8_000, b" \t ", b"a\r\n b", b"a\nb: c")),
)  # fmt: skip


def _method(draw: Random, request: Request, others: Sequence[Request]) -> None:
    request.method = draw.choice(_METHODS)


def _target(draw: Random, request: Request, others: Sequence[Request]) -> None:
    target = request.target
    kind = draw.random()
    if kind < 0.2:
        target = draw.choice(others).target
    elif kind < 0.3:
        target = draw.choice((b"http://evil.example", b"http://127.0.0.1:1", b"//x", b"")) + target
    elif kind < 0.4:
        target = mutated_bytes(draw, target, [other.target for other in others])
    elif kind < 0.5 and target:
        at = draw.randrange(len(target))
        target = target[:at] + b"%%%02x" % target[at] + target[at + 1 :]
    else:
        at = draw.choice((len(target), draw.randrange(len(target) + 1)))
        target = target[:at] + draw.choice(_STEPS) + target[at:]
    request.target = target


def _version(draw: Random, request: Request, others: Sequence[Request]) -> None:
    request.version = draw.choice(_VERSIONS)


def _header(draw: Random, request: Request, others: Sequence[Request]) -> None:
    name, values = draw.choice(_HEADERS)
    if draw.random() < 0.5:
        request.headers = [(n, v) for n, v in request.headers if n.lower() != name]
    request.headers.insert(draw.randint(0, len(request.headers)), (name, draw.choice(values)))


def _type(draw: Random, request: Request, others: Sequence[Request]) -> None:
    kept = [(n, v) for n, v in request.headers if n.lower() != b"content-type"]
    request.headers = [*kept, (b"content-type", draw.choice(_TYPES))]


def _headers(draw: Random, request: Request, others: Sequence[Request]) -> None:
    kind = draw.random()
    if kind < 0.3 and request.headers:
        del request.headers[draw.randrange(len(request.headers))]
    elif kind < 0.6 and request.headers:
        request.headers.append(draw.choice(request.headers))
    elif kind < 0.8:
        count = draw.choice((20, 95, 101, 1_000, 5_000))
        request.headers += [(b"x-%d" % i, b"y" * draw.choice((0, 1, 50))) for i in range(count)]
    else:
        request.headers = list(draw.choice(others).headers)


def _bytes(draw: Random, request: Request, others: Sequence[Request]) -> None:
    request.body = mutated_bytes(draw, request.body, [other.body for other in others])


def _values(draw: Random, request: Request, others: Sequence[Request]) -> None:
    length = request.header(b"inference-header-content-length")
    at = int(length) if length.isascii() and length.isdigit() and len(length) < 9 else None
    document = mutated_json(draw, request.body[:at])
    if at is None:
        request.body = document
        return
    # Raw tensors lie behind the JSON, whose length has to fit for them to be looked at.
    request.body = document + request.body[at:]
    named = b"inference-header-content-length"
    kept = [(n, v) for n, v in request.headers if n.lower() != named]
    request.headers = [*kept, (named, b"%d" % len(document))]


def _body(draw: Random, request: Request, others: Sequence[Request]) -> None:
    request.body = draw.choice(others).body


def _packed(draw: Random, request: Request, others: Sequence[Request]) -> None:
    packed = gzip.compress(request.body, mtime=0)
    request.body = packed if draw.random() < 0.7 else mutated_bytes(draw, packed, [])
    if draw.random() < 0.8:
        request.headers.append((b"content-encoding", b"gzip"))


def _lie(draw: Random, request: Request, others: Sequence[Request]) -> None:
    """Say another length than the body has."""
    size = len(request.body)
    said = draw.choice((size + 1, max(0, size - 1), 0, size + 1_000, 2**31, 2**63, size * 2))
    lines = [(b"content-length", b"%d" % said)]
    if draw.random() < 0.3:
        lines.append((b"content-length", b"%d" % size))
    if draw.random() < 0.2:
        lines.append((b"transfer-encoding", b"chunked"))
    request.framing = lines


def _chunked(draw: Random, request: Request, others: Sequence[Request]) -> None:
    """Send the body in chunks, some of which are none."""
    parts: list[bytes] = []
    rest, size = request.body, draw.choice((1, 7, 100, 5_000, 1 << 20))
    while rest and len(parts) < 200:
        part, rest = rest[:size], rest[size:]
        extension = draw.choice((b"", b"", b"", b";a=b", b";" + b"x" * 200, b" "))
        parts.append(b"%x%b\r\n%b\r\n" % (len(part), extension, part))
    parts.append(draw.choice((b"0\r\n\r\n", b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"0\r\n", b"", b"-1\r\n\r\n",
                              b"fffffffffffffffff\r\n", b"0\r\n" + b"t: u\r\n" * 300 + b"\r\n")))  # fmt: skip
    if draw.random() < 0.3:
        at = draw.randrange(len(parts))
        parts[at] = mutated_bytes(draw, parts[at], [])
    request.framing = [
        (b"transfer-encoding", draw.choice((b"chunked", b"chunked", b"Chunked", b"gzip, chunked")))
    ]
    request.written = b"".join(parts)


def _closing(draw: Random, request: Request, others: Sequence[Request]) -> None:
    request.headers.append((b"connection", b"close"))


MUTATIONS: Final[tuple[Mutation, ...]] = (
    _bytes, _bytes, _bytes, _bytes, _values, _values, _values, _values, _values, _values, _body, _packed,
    _method, _target, _target, _version, _header, _header, _header, _type, _headers, _lie, _chunked, _closing,
)  # fmt: skip
"""Each is as likely as it is often here; body and values are what most code is behind."""
