"""What the waiting and the asynchronous client have in common: all but the waiting."""

import os
import ssl
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast
from urllib.parse import urlsplit

import msgspec

from steelyard.client.exchange import Call, Clock
from steelyard.client.prediction import CLIENT_FALLBACK, Prediction, Predictions, Service
from steelyard.client.rows import Chunk, RowLike, chunks, encode
from steelyard.client.tables import ARROW, TableLike, dicts, is_table, parted
from steelyard.core.ids import row_ids
from steelyard.core.schema import Row, row_fields
from steelyard.core.validation import RowDecoder
from steelyard.errors import UnavailableError, UsageError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Fallback", "Settings", "Value", "Verify", "unreachable"]

Value = str | int | bool | float
Fallback = Value | Callable[[Any], Value]
"""A prediction for when no server answers, or what makes it of the row as it was given."""
Verify = bool | str | Path | ssl.SSLContext
"""Whether a server's certificate is checked, and by which authorities: the system's, a file's."""

_ROUTE: Final = "/predict/"
_OPENAPI: Final = "/openapi.json"
_JSON: Final = "application/json"
_FIRST_WAIT, _LONGEST_WAIT = 0.1, 2.0
_IDLE_SECONDS: Final = 60.0
"""Shorter than the server keeps an idle connection, so that a used one is rarely a closed one."""
_CONNECTIONS: Final = 100

_prediction = msgspec.json.Decoder(Prediction).decode
_predictions = msgspec.json.Decoder(Predictions).decode


class Settings:
    """A client's settings, and all that it does between two waits."""

    def __init__(
        self,
        url: str,
        row: type[Row] | None,
        fallback: Fallback | None,
        timeout: float,
        attempts: int,
        api_key: str | None,
        verify: Verify,
    ) -> None:
        _check_libraries()
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(
                f"expected the URL of a server, got {url[:100]!r}.",
                fix="Give one like http://127.0.0.1:8000, as `steelyard serve` prints it.",
            )
        self.url, _, self.model = url.rstrip("/").partition(_ROUTE)
        self.fallback = fallback
        self.timeout = timeout
        self.attempts = attempts
        self.clock = Clock()
        self.check = None if row is None else RowDecoder(row_fields(row), allow_unknown=False)
        self.service: Service | None = None
        self._verify = _trusted(verify)
        self._urls: dict[str, httpx2.URL] = {}
        self._headers = {"User-Agent": "steelyard"}
        key = api_key or os.environ.get("STEELYARD_API_KEY")
        if key:
            self._headers["Authorization"] = f"Bearer {key}"

    def connections(self) -> dict[str, Any]:
        """Return how connections are made and kept, in httpx2's words."""
        import httpx2

        limits = httpx2.Limits(
            max_connections=_CONNECTIONS,
            max_keepalive_connections=_CONNECTIONS,
            keepalive_expiry=_IDLE_SECONDS,
        )
        return {"verify": self._verify, "limits": limits}

    def request(self, call: Call) -> "httpx2.Request":
        """Return the next try of a call."""
        import httpx2

        path = _OPENAPI if call.body is None else _ROUTE + self.model
        if path not in self._urls:
            self._urls[path] = httpx2.URL(self.url + path)
        left = call.left()
        # Made by hand: the merging of a client's own headers and addresses costs a third of a call.
        return httpx2.Request(
            call.method,
            self._urls[path],
            headers={**self._headers, **call.headers()},
            content=call.body,
            extensions={"timeout": dict.fromkeys(("connect", "read", "write", "pool"), left)},
        )

    def policy(self, call: Call, attempts: int | None) -> dict[str, Any]:
        """Return when a call is tried again, in tenacity's words.

        Exponential backoff with full jitter, on top of what the server's Retry-After says; never
        beyond the call's deadline.
        """
        import tenacity

        jitter = tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT)

        def wait(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, UnavailableError) else None
            return jitter(state) + (asked or 0.0)

        most = tenacity.stop_after_attempt(attempts or self.attempts)
        return {
            "stop": tenacity.stop_any(most, tenacity.stop_before_delay(call.left())),
            "wait": wait,
            "retry": tenacity.retry_if_exception(_is_worth_it),
            "reraise": True,
        }

    # One row.

    def one(self, row: RowLike, timeout: float | None, prediction_id: str | None) -> Call:
        """Return the call that predicts one row. Raises InputError or UsageError for a bad one."""
        seconds = self.timeout if timeout is None else timeout
        body = encode(row, self.check)
        return Call(self.clock, seconds, body, key=prediction_id or "")

    def read_one(self, body: bytes) -> Prediction:
        """Return the prediction that an answer holds."""
        try:
            return _prediction(body)
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise _no_server(f"its answer is no prediction: {error}") from None

    def fall_back(self, row: RowLike, call: Call, error: UnavailableError) -> Prediction:
        """Return the fallback for a row that got no answer. Raises `error` where there is none."""
        if self.fallback is None:
            self.give_up(call, error)
        return self._fallback(row, call.key, error)

    # Several rows.

    def chunks(self, rows: Iterable[RowLike] | TableLike) -> Iterator[Chunk]:
        """Part rows into what is sent at once; a table as Arrow, where nothing is checked here."""
        most = self.service.max_rows if self.service else None
        if is_table(rows):
            if self.check is None and self.service and self.service.tables:
                return parted(rows, most)
            return chunks(dicts(rows), self.check, most)
        return chunks(cast("Iterable[RowLike]", rows), self.check, most)

    def many(self, chunk: Chunk, timeout: float | None, accept: str | None = None) -> Call:
        """Return the call that predicts the rows of a chunk; its answer is JSON, or as wanted."""
        seconds = self.timeout if timeout is None else timeout
        form = chunk.content_type
        return Call(self.clock, seconds, chunk.body, content_type=form, accept=accept or _JSON)

    def table_parts(self, table: TableLike) -> Iterator[Chunk]:
        """Part a table for an answer that is one. Raises UsageError where the server takes none."""
        if self.service and not self.service.tables:
            raise UsageError(
                f"the server at {self.url} takes no tables.",
                fix="predict_many answers the same rows one by one.",
            )
        return parted(table, self.service.max_rows if self.service else None)

    def read_many(self, body: bytes, chunk: Chunk) -> list[Prediction]:
        """Return the predictions that an answer to a chunk holds."""
        try:
            found = _predictions(body).predictions
        except (msgspec.MsgspecError, UnicodeError) as error:
            raise _no_server(f"its answer holds no predictions: {error}") from None
        if len(found) != len(chunk.rows):
            raise _no_server(f"it answered {len(found)} rows of {len(chunk.rows)}")
        return found

    def fall_back_many(self, chunk: Chunk, call: Call, error: UnavailableError) -> list[Prediction]:
        """Return the fallbacks for rows that got no answer. Raises `error` where there is none."""
        if self.fallback is None:
            self.give_up(call, error)
        pairs = zip(chunk.rows, row_ids(call.key), strict=False)
        return [self._fallback(row, key, error) for row, key in pairs]

    # What the server offers.

    def openapi(self, seconds: float) -> Call:
        """Return the call that asks what the server offers."""
        return Call(self.clock, seconds)

    def learn(self, body: bytes) -> Service:
        """Take from the server's OpenAPI document what it offers."""
        try:
            document = msgspec.json.decode(body)
            route = next(path for path in document["paths"] if path.startswith(_ROUTE))
            schemas = document["components"]["schemas"]
            types = document["paths"][route]["post"]["requestBody"]["content"]
            found = Service(
                model=route.removeprefix(_ROUTE),
                version=int(document["info"]["version"]),
                row=schemas["Row"],
                max_rows=int(schemas["Rows"]["properties"]["rows"]["maxItems"]),
                tables=ARROW in types,
            )
        except (msgspec.MsgspecError, UnicodeError, LookupError, TypeError, ValueError,
                StopIteration):  # fmt: skip
            raise _no_server(f"{_OPENAPI} is not that of one") from None
        self.service, self.model = found, self.model or found.model
        return found

    def _fallback(self, row: RowLike, key: str, error: UnavailableError) -> Prediction:
        value = self.fallback(row) if callable(self.fallback) else self.fallback
        assert value is not None
        return Prediction(
            prediction=value,
            prediction_id=key,
            model=self.model,
            version=None,
            source=CLIENT_FALLBACK,
            reason=error.message,
        )

    def give_up(self, call: Call, error: UnavailableError) -> NoReturn:
        """Raise an error again, with the server and the tries named."""
        tries = "1 try" if call.tries == 1 else f"{call.tries} tries"
        raise UnavailableError(
            f"no answer from {self.url} after {tries}: {error.message}",
            fix=error.fix,
            status=error.status,
            retry_after=error.retry_after,
        ) from error


def unreachable(error: "httpx2.TransportError") -> UnavailableError:
    """Return what a failed connection means: again at once, but where that is of no use."""
    import httpx2

    reason = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in reason:
        fix = "Give the client verify=, the file of the authority that signed the certificate."
        return UnavailableError(f"its certificate is not trusted: {reason}", fix=fix)
    if isinstance(error, (httpx2.UnsupportedProtocol, httpx2.LocalProtocolError)):
        return UnavailableError(f"it cannot be asked: {reason}")
    if isinstance(error, httpx2.TimeoutException):
        reason = "no answer in time"
    return UnavailableError(reason, retry_after=0.0)


def _is_worth_it(error: BaseException) -> bool:
    return isinstance(error, UnavailableError) and error.retry_after is not None


def _no_server(why: str) -> UnavailableError:
    return UnavailableError(
        f"no Steelyard server answers there: {why[:200]}",
        fix="Give the client the URL that `steelyard serve` prints.",
    )


def _trusted(verify: Verify) -> bool | ssl.SSLContext:
    if not isinstance(verify, (str, Path)):
        return verify
    try:
        return ssl.create_default_context(cafile=verify)
    except OSError as error:  # ssl.SSLError is one
        raise UsageError(
            f"{verify} holds no certificate of an authority: {error.strerror or error}.",
            fix="Give verify= a file in PEM form.",
        ) from None


def _check_libraries() -> None:
    for name in ("httpx2", "tenacity"):
        if find_spec(name) is None:
            raise UsageError(
                f"a client needs {name}, which is not installed.",
                fix='Install it with: pip install "steelyard[client]"',
            )
