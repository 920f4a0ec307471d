"""The client that waits for its answers."""

import os
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from steelyard.client.exchange import Call
from steelyard.client.prediction import Prediction, Service
from steelyard.client.rows import RowLike, shifted
from steelyard.client.settings import Fallback, Settings, Verify, unreachable
from steelyard.client.tables import ARROW, TableLike, is_table, joined
from steelyard.core.schema import Row
from steelyard.errors import InputError, UnavailableError

if TYPE_CHECKING:
    import httpx2

__all__ = ["Client"]


class Client:
    """Asks one server for predictions; connections are kept, and threads may share a client.

    `url` is the server's, with or without `/predict/NAME`. A `row` class has rows checked before
    they are sent. A request is sent again, at most `attempts` times in all and not beyond `timeout`
    seconds, where no connection could be made or it broke, and where the server says 429, 503 or
    the like; under one id, so that the prediction is logged once. `fallback`, a value or a function
    of the row, answers where the server does not, marked `source="client-fallback"`.

    `api_key` is STEELYARD_API_KEY by default. `verify` is whether the server's certificate is
    checked, the file of an authority, or an SSLContext (with the client's own certificate, say).

    Raises UsageError where the URL is none, or the extra `client` is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        row: type[Row] | None = None,
        fallback: Fallback | None = None,
        timeout: float = 10.0,
        attempts: int = 6,
        api_key: str | None = None,
        verify: Verify = True,
    ) -> None:
        self._settings = Settings(url, row, fallback, timeout, attempts, api_key, verify)
        self._connections: dict[int, httpx2.Client] = {}

    def __repr__(self) -> str:
        return f"Client({self._settings.url!r})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; a later call makes new ones."""
        made = self._connections.pop(os.getpid(), None)
        if made is not None:
            made.close()

    def service(self) -> Service:
        """Ask the server what it offers: the model, its version, a row's schema.

        Raises UnavailableError, AccessError.
        """
        call = self._settings.openapi(self._settings.timeout)
        return self._settings.learn(self._ask(call))

    def predict(
        self, row: RowLike, *, timeout: float | None = None, prediction_id: str | None = None
    ) -> Prediction:
        """Return the prediction for one row: a dict, or an instance of a Row.

        `prediction_id`, a new UUIDv7, may be kept by the caller to ask again after a crash.

        Raises InputError with every bad field, UnavailableError where there is no answer and no
        fallback, AccessError, NotFoundError, UsageError.
        """
        call = self._settings.one(row, timeout, prediction_id)
        try:
            self._find_route(call)
            return self._settings.read_one(self._ask(call))
        except UnavailableError as error:
            return self._settings.fall_back(row, call, error)

    def predict_many(
        self, rows: Iterable[RowLike] | TableLike, *, timeout: float | None = None
    ) -> list[Prediction]:
        """Return the predictions for rows, in their order; they are sent a thousand at once.

        Rows may be a table, any that gives an Arrow stream: it is sent as such where the server
        takes it and no `row` class has to check it. `timeout` is for each request. Raises what `predict` does; the fields of an InputError
        are named `rows.N.field`, and the rows before may have been predicted.
        """
        settings, found, attempts = self._settings, list[Prediction](), None
        if is_table(rows):
            self._find_service(timeout)
        for chunk in settings.chunks(rows):
            call = settings.many(chunk, timeout)
            try:
                self._find_route(call)
                found += settings.read_many(self._ask(call, attempts), chunk)
                attempts = None
            except InputError as error:
                raise shifted(error, chunk.start) from None
            except UnavailableError as error:
                found += settings.fall_back_many(chunk, call, error)
                attempts = 1  # a server that is gone is not waited for by every chunk
        return found

    def predict_table(self, table: TableLike, *, timeout: float | None = None) -> Any:
        """Return the predictions for a table's rows as a table [N] with a column a member.

        It is of polars where `table` is, else of pyarrow. `timeout` is for each request of up to
        10,000 rows. Raises what `predict_many` does; a fallback of the client has no part in it.
        """
        self._find_service(timeout)
        streams = []
        for chunk in self._settings.table_parts(table):
            call = self._settings.many(chunk, timeout, accept=ARROW)
            try:
                self._find_route(call)
                streams.append(self._ask(call))
            except InputError as error:
                raise shifted(error, chunk.start) from None
            except UnavailableError as error:
                self._settings.give_up(call, error)
        return joined(streams, table)

    def _find_service(self, timeout: float | None) -> None:
        """Learn what the server takes, once; where it is gone, the next call says so."""
        settings = self._settings
        if settings.service is None:
            with suppress(UnavailableError):
                asked = settings.openapi(timeout or settings.timeout)
                settings.learn(self._ask(asked, 1))

    def _find_route(self, call: Call) -> None:
        if self._settings.model:
            return
        first = self._settings.openapi(call.left())
        try:
            self._settings.learn(self._ask(first))
        except UnavailableError:
            call.tries = first.tries
            raise

    def _ask(self, call: Call, attempts: int | None = None) -> bytes:
        import tenacity

        return tenacity.Retrying(**self._settings.policy(call, attempts))(self._send, call)

    def _send(self, call: Call) -> bytes:
        import httpx2

        try:
            response = self._connected().send(self._settings.request(call))
        except httpx2.TransportError as error:
            raise unreachable(error) from None
        return call.answer(response.status_code, response.headers, response.content)

    def _connected(self) -> "httpx2.Client":
        import httpx2

        # By process: a forked child must not talk into its parent's connections.
        found = self._connections.get(os.getpid())
        if found is None:
            made = httpx2.Client(**self._settings.connections())
            found = self._connections.setdefault(os.getpid(), made)
            if found is not made:
                made.close()  # another thread was quicker
        return found
