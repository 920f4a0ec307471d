"""Parquet and compressed Arrow, turned into plain Arrow and back by a process of its own.

The library that does it is trusted with what is right, not with what is hostile: a few bytes can
make it ask for more memory than there is, which ends its process. So that is not the server's: it
has a limit on its memory and on its time, and when it ends, the next request starts another one.
"""

import importlib.util
import io
import struct
import subprocess
import sys
import threading
import weakref
from contextlib import suppress
from enum import IntEnum
from typing import IO, Any, Final

from steelyard.core.json_text import check_row_count
from steelyard.serve.tables.flatbuffer import BrokenError
from steelyard.serve.tables.stored import TooLargeError

__all__ = ["Codec", "Job", "has_extra"]

_SECONDS: Final = 10.0
_MEMORY: Final = 256 * 1024 * 1024
_TIMES: Final = 16
"""Of a body's limit: what its pages, and the table made of them, may take beside that."""
_JOB: Final = struct.Struct("<BQQQ")
_REPLY: Final = struct.Struct("<BQ")
_DONE, _BROKEN, _LARGE, _MANY = range(4)
_LONGEST: Final = 200


class Job(IntEnum):
    """What is to be done: every job's result is plain Arrow, or Parquet made of such."""

    UNPACK = 0
    FROM_PARQUET = 1
    TO_PARQUET = 2


def has_extra() -> bool:
    """Return whether the library is installed."""
    try:
        return importlib.util.find_spec("arro3.io") is not None
    except ModuleNotFoundError:
        return False


class Codec:
    """Does jobs, one after the other, in a process that is started by the first one.

    Used by one thread at a time. `most_bytes` and `most_rows` are limits of a table.
    """

    def __init__(self, most_bytes: int, most_rows: int, seconds: float = _SECONDS) -> None:
        self._most_bytes = most_bytes
        self._most_rows = most_rows
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def do(self, job: Job, body: bytes) -> bytes:
        """Return the result. Raises BrokenError, TooLargeError, RowLimitError."""
        process = self._process
        if process is None or process.poll() is not None:
            process = self._process = self._started()
        assert process.stdin is not None
        assert process.stdout is not None
        late = threading.Timer(self._seconds, process.kill)
        late.start()
        try:
            process.stdin.write(_JOB.pack(job, self._most_rows, self._most_bytes, len(body)))
            process.stdin.write(body)
            process.stdin.flush()
            status, length = _REPLY.unpack(_exactly(process.stdout, _REPLY.size))
            result = _exactly(process.stdout, length)
        except (OSError, EOFError):
            self.close()
            raise TooLargeError("it takes too much memory, or time, to be read") from None
        finally:
            late.cancel()
        if status == _MANY:
            check_row_count(int(result), self._most_rows)
        if status == _LARGE:
            raise TooLargeError
        if status == _BROKEN:
            raise BrokenError(result.decode())
        return result

    def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            _end(process)

    def _started(self) -> "subprocess.Popen[bytes]":
        self.close()
        memory = _MEMORY + _TIMES * self._most_bytes
        process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # What it says when it ends is about its own insides.
            stderr=subprocess.DEVNULL,
        )
        weakref.finalize(self, _end, process)
        return process


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
    process.wait()


def _exactly(pipe: IO[bytes], count: int) -> bytes:
    found = pipe.read(count)
    if len(found) < count:
        raise EOFError
    return found


def _work(memory: int) -> None:
    """Do jobs until there are no more."""
    import resource
    import signal

    # The server drains at Ctrl-C, which reaches both; this one ends with the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    import arro3.io  # noqa: F401  # it is in memory before that is limited

    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    given, taken = sys.stdin.buffer, sys.stdout.buffer
    while head := given.read(_JOB.size):
        job, most_rows, most_bytes, length = _JOB.unpack(head)
        status, result = _done(Job(job), given.read(length), most_rows, most_bytes)
        taken.write(_REPLY.pack(status, len(result)))
        taken.write(result)
        taken.flush()


def _done(job: Job, body: bytes, most_rows: int, most_bytes: int) -> tuple[int, bytes]:
    import arro3.io as arrow

    try:
        if job is Job.TO_PARQUET:
            made = io.BytesIO()
            arrow.write_parquet(arrow.read_ipc_stream(body), made, compression="snappy")
            return _DONE, made.getvalue()
        if job is Job.FROM_PARQUET:
            batches = arrow.read_parquet(body, batch_size=most_rows + 1)
        else:
            batches = arrow.read_ipc_stream(body)
        return _plain(batches, most_rows, most_bytes)
    except MemoryError:
        return _LARGE, b""
    except BaseException as error:  # noqa: BLE001  # a panic of the library is no Exception
        return _BROKEN, str(error)[:_LONGEST].encode("utf-8", "replace")


def _plain(batches: Any, most_rows: int, most_bytes: int) -> tuple[int, bytes]:
    """Return the table as a plain stream; no batch is read once there are too many rows."""
    import arro3.core
    import arro3.io as arrow

    kept: list[Any] = []
    rows = 0
    for batch in batches:
        rows += batch.num_rows
        if rows > most_rows:
            return _MANY, str(rows).encode()
        kept.append(batch)
    made = io.BytesIO()
    table = arro3.core.RecordBatchReader.from_batches(batches.schema, kept)
    arrow.write_ipc_stream(table, made, compression=None)  # unless told so, it compresses
    return (_DONE, made.getvalue()) if made.tell() <= most_bytes else (_LARGE, b"")


if __name__ == "__main__":
    _work(int(sys.argv[1]))
