"""Requests that hold a table, or want one: read, answered like rows in JSON, and written."""

import asyncio
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from steelyard.core.validation import RowLimitError
from steelyard.errors import SteelyardError
from steelyard.serve.answer.batches import BusyError
from steelyard.serve.answer.endpoint import Endpoint, Steps
from steelyard.serve.answer.terms import Terms
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.tables.codec import Codec, Job, has_extra
from steelyard.serve.tables.flatbuffer import BrokenError
from steelyard.serve.tables.forms import Form, Forms, MediaTypeError, NotAcceptableError
from steelyard.serve.tables.stored import TooLargeError
from steelyard.serve.tables.stream import CompressedError
from steelyard.serve.tables.version import VersionTables

__all__ = ["TableTooLargeError", "Tables"]

_EXTRA: Final = 'takes the extra `arrow`, which this server lacks: pip install "steelyard[arrow]"'


class TableTooLargeError(SteelyardError):
    """A table is larger, once it is unpacked, than a body may be."""


class Tables:
    """Answers requests whose body or answer is a table, by the endpoint's own way for rows.

    `in_turn` runs the steps of a request of several rows.
    """

    def __init__(
        self, endpoint: Endpoint, in_turn: Callable[[Steps[bytes]], Awaitable[bytes]]
    ) -> None:
        self._endpoint = endpoint
        self._in_turn = in_turn
        self._limits = endpoint.limits
        self._versions: weakref.WeakKeyDictionary[LoadedVersion, VersionTables] = (
            weakref.WeakKeyDictionary()
        )
        self._codec = Codec(self._limits.body_bytes, self._limits.rows)
        self._thread: ThreadPoolExecutor | None = None
        self._jobs = 0

    async def answer(self, body: bytes, forms: Forms, terms: Terms) -> bytes:
        """Return the answer in the wanted form; its rows are in the log.

        Raises what the endpoint raises, MediaTypeError, NotAcceptableError, TableTooLargeError and
        BusyError.
        """
        if forms.wanted is Form.PARQUET and not has_extra():
            raise NotAcceptableError(f"to answer in Parquet {_EXTRA}")
        found: bytes | Exception = body
        try:
            if forms.given is Form.PARQUET:
                found = await self._plain(Job.FROM_PARQUET, body, "Parquet")
            try:
                answer = await self._in_turn(self._steps(found, forms, terms))
            except CompressedError:
                found = await self._plain(Job.UNPACK, body, "a compressed stream")
                answer = await self._in_turn(self._steps(found, forms, terms))
        except TooLargeError as error:
            limit = self._limits.body_bytes
            why = str(error) or f"value by value it is larger than {limit} bytes"
            raise TableTooLargeError(f"expected a smaller table: {why}") from None
        return await self._job(Job.TO_PARQUET, answer) if forms.wanted is Form.PARQUET else answer

    def _steps(self, body: bytes | Exception, forms: Forms, terms: Terms) -> Steps[bytes]:
        loaded = self._endpoint.loaded
        tables = self._versions.get(loaded)
        if tables is None:
            tables = self._versions[loaded] = VersionTables(loaded)
        read = tables.read(body, forms.given, self._limits)
        several = yield from self._endpoint.answer_table(loaded, read, terms)
        if forms.wanted is Form.JSON:
            return several.json()
        return (yield from tables.written(several))

    async def _plain(self, job: Job, body: bytes, what: str) -> bytes | Exception:
        """Return a body as a plain stream, or what is wrong with it."""
        if not has_extra():
            raise MediaTypeError(f"to read {what} {_EXTRA}")
        try:
            return await self._job(job, body)
        except (BrokenError, RowLimitError) as error:
            return error

    async def _job(self, job: Job, body: bytes) -> bytes:
        if self._jobs >= self._limits.row_requests:
            raise BusyError("too many tables at once are to be unpacked; send this one again")
        if self._thread is None:
            self._thread = ThreadPoolExecutor(1, thread_name_prefix="tables")
        self._jobs += 1
        try:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._thread, self._codec.do, job, body)
        finally:
            self._jobs -= 1
