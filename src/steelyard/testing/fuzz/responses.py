"""Responses of HTTP/1.1 in a stream of bytes, read strictly: what is no response is a finding."""

import json
import re
from dataclasses import dataclass
from typing import Final

__all__ = ["Response", "problem_of", "read_responses"]

_HEAD: Final = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[!-9;-~]+:[^\r\n]*\r\n)*)\r\n")
_START: Final = b"HTTP/1."
_INTERIM: Final = 200
_UNAVAILABLE: Final = 503
_BODYLESS: Final = (204, 304)
_SHOWN: Final = 200


@dataclass(frozen=True, slots=True)
class Response:
    """A response; `whole` is false where the stream ends within its body."""

    status: int
    headers: dict[bytes, bytes]
    body: bytes
    whole: bool = True


def read_responses(data: bytes, *, ended: bool) -> tuple[list[Response], bytes]:
    """Return the responses, interim ones too, and the bytes behind them that are none yet.

    A response to HEAD has a length and no body: that is told by the next response, or by the end where
    nothing more comes.
    """
    found: list[Response] = []
    place = 0
    while match := _HEAD.match(data, place):
        lines = [line.partition(b":") for line in match[2].split(b"\r\n") if line]
        headers = {name.lower(): value.strip() for name, _, value in lines}
        status, begin = int(match[1]), match.end()
        size, whole = 0, True
        if b"transfer-encoding" in headers:
            end = data.find(b"0\r\n\r\n", begin)
            size, whole = (end + 5 - begin, True) if end >= 0 else (len(data) - begin, False)
        elif status >= _INTERIM and status not in _BODYLESS:
            size = int(headers.get(b"content-length", b"0"))
        bodyless = (ended and begin == len(data)) or data.startswith(_START, begin)
        body = b"" if bodyless else data[begin : begin + size]
        whole = whole and (bodyless or len(body) == size)
        found.append(Response(status, headers, body, whole))
        place = begin + len(body)
    return found, data[place:]


def problem_of(response: Response) -> str:
    """Return what is wrong with a response whatever the request was, or nothing.

    >>> problem_of(Response(500, {}, b""))
    'status 500'
    """
    status = response.status
    if status >= 500 and status != _UNAVAILABLE:
        return f"status {status}"
    if status == _UNAVAILABLE and b"retry-after" not in response.headers:
        return "503 without Retry-After"
    is_json = response.headers.get(b"content-type", b"") == b"application/json"
    if is_json and response.whole and not _is_json(response.body):
        return f"a body that is no JSON: {response.body[:_SHOWN]!r}"
    return ""


def _is_json(body: bytes) -> bool:
    try:
        json.loads(body)
    except (ValueError, RecursionError):
        return not body.strip()
    return True
