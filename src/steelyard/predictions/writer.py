"""The writing side of the log: one process appends whole records to segments of its own."""

import errno
import fcntl
import logging
import os
import threading
import weakref
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import time
from types import TracebackType
from typing import Literal, Self

from steelyard.core.files import fsync_dir
from steelyard.core.ids import uuid7
from steelyard.errors import LogFullError, StoreError, UsageError
from steelyard.predictions.segment import FORMAT, NEW, Header, framed, framed_many, header_line

__all__ = ["PredictionWriter"]

_log = logging.getLogger(__name__)

_HOUR = 3600
_FULL = {errno.ENOSPC, errno.EDQUOT}
_NEVER = 0.0


class PredictionWriter:
    """Appends records; when `append` returns, `kill -9` cannot take the record back.

    With durability `group` a background thread fsyncs what was written in the last `group_ms`
    milliseconds, with `power` every append is fsynced before it returns. When the disk takes no
    more, `on_full="refuse"` raises LogFullError and `on_full="answer"` counts the record in
    `dropped`; either way the next append tries anew. Threads may share a writer; a forked child
    that goes on with its parent's writer gets a segment of its own.
    """

    def __init__(
        self,
        folder: Path,
        *,
        model: str,
        worker: int = 0,
        durability: Literal["group", "power"] = "group",
        on_full: Literal["refuse", "answer"] = "refuse",
        segment_bytes: int = 64 * 2**20,
        group_ms: float = 50,
    ) -> None:
        _check(durability, on_full, segment_bytes, group_ms)
        self.model = model
        self.worker = worker
        self.dropped = 0
        """Records that the log could not take under the policy `answer`."""
        self.sync_errors = 0
        """Groups that may not survive a power failure: fsync failed, or the file was deleted."""
        self._segments = folder / "segments"
        self._power = durability == "power"
        self._refuses = on_full == "refuse"
        self._segment_bytes = segment_bytes
        self._group = group_ms / 1000
        self._closed = False
        self._reset()
        _WRITERS.add(self)

    def _reset(self) -> None:
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None
        self._fd = -1
        self._path: Path | None = None
        self._size = self._empty_size = 0
        # No segment is open: the first append finds its hour over and opens one.
        self._rotate_at = _NEVER
        self._dirty = self._new_name = self._failing = False
        self._retired: list[int] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def segment(self) -> Path | None:
        """The file that takes the next record, if one is open."""
        return self._path

    def open(self) -> None:
        """Open the first segment now, so that a folder that cannot be written is found at start.

        Raises:
            LogFullError: The segment cannot be made, whatever the policy.
        """
        with self._lock:
            try:
                if self._rotate_at == _NEVER:
                    self._rotate()
            except OSError as error:
                raise self._full(error) from error

    def append(self, payload: bytes) -> None:
        """Write one record, a line of JSON.

        Raises:
            LogFullError: The log cannot take it and the policy is `refuse`.
            UsageError: The payload holds a line end.
            StoreError: The writer is closed.
        """
        frame = framed(payload)
        with self._lock:
            self._put(frame, 1)

    def append_many(self, payloads: Sequence[bytes]) -> None:
        """Write records with one call to the kernel: all of them, or none and LogFullError.

        A kill amid the call may leave the first few of them; none was acknowledged.
        """
        if payloads:
            frames = framed_many(payloads)
            with self._lock:
                self._put(frames, len(payloads))

    def close(self) -> None:
        """Make everything durable and let go of the segment. A second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            self._retire()
        self._stopping.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        self._sync()

    def _put(self, frames: bytes, count: int) -> None:
        size, written = len(frames), 0
        try:
            if time() >= self._rotate_at or (
                self._size + size > self._segment_bytes and self._size > self._empty_size
            ):
                self._rotate()
            written = os.write(self._fd, frames)
            while written != size:
                written += os.write(self._fd, memoryview(frames)[written:])
            if self._power:
                os.fdatasync(self._fd)
        except OSError as error:
            self._miss(error, written, count)
            return
        except BaseException:
            # An interrupt may have left half a record; only the last of a segment may be that.
            self._retire()
            raise
        self._size += size
        if not self._dirty:
            self._dirty = True
            self._wake.set()
            if self._failing:
                self._failing = False
                _log.warning("The prediction log in %s takes records again.", self._segments)

    def _miss(self, error: OSError, written: int, count: int) -> None:
        """Leave the segment as it was before a failed write, then follow the policy."""
        if written:
            try:
                os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            except OSError:
                self._retire()
        if error.errno not in _FULL:
            self._retire()
        if self._refuses:
            raise self._full(error) from error
        self.dropped += count
        if not self._failing:
            self._failing = True
            _log.error("%s Answers go out unlogged.", self._full(error).message)

    def _full(self, error: OSError) -> LogFullError:
        return LogFullError(
            f"the prediction log in {self._segments} cannot take another record: {error.strerror}",
            fix="Free space there; compacting shrinks the segments that nobody writes any more.",
        )

    def _rotate(self) -> None:
        if self._closed:
            raise StoreError(
                f"the prediction log of {self.model} is closed",
                fix="Make a new PredictionWriter.",
            )
        self._retire()
        now = time()
        self._make_folder()
        path = self._segments / f"{uuid7()}-{os.getpid()}.log"
        line = header_line(Header(FORMAT, self.model, self.worker, os.getpid()))
        self._fd = _new_segment(path, line, durable=self._power)
        self._path = path
        self._size = self._empty_size = len(line)
        self._rotate_at = (now // _HOUR + 1) * _HOUR
        self._new_name = not self._power
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._keep, name=f"prediction-log-{self.model}", daemon=True
            )
            self._thread.start()

    def _make_folder(self) -> None:
        if self._segments.is_dir():
            return
        missing = [self._segments]
        while not missing[-1].parent.is_dir():
            missing.append(missing[-1].parent)
        self._segments.mkdir(parents=True, exist_ok=True)
        for folder in missing:
            fsync_dir(folder.parent)

    def _retire(self) -> None:
        # Only the keeper closes: the number of a file that it is about to fsync must not be
        # closed here and be given to another file.
        if self._fd < 0 or self._path is None:
            return
        if self._size == self._empty_size:
            self._path.unlink(missing_ok=True)
        self._retired.append(self._fd)
        self._fd, self._path, self._rotate_at = -1, None, _NEVER
        self._wake.set()

    def _keep(self) -> None:
        """Fsync in groups, and close a segment whose hour ended without another record."""
        while not self._stopping.is_set():
            wait = None if self._rotate_at == _NEVER else max(self._rotate_at - time(), 0)
            if self._wake.wait(wait):
                self._stopping.wait(self._group)
                self._sync()
                continue
            with self._lock:
                if time() >= self._rotate_at:
                    self._retire()

    def _sync(self) -> None:
        with self._lock:
            self._wake.clear()
            self._dirty = False
            current, new_name, self._new_name = self._fd, self._new_name, False
            retired, self._retired = self._retired, []
        for fd in retired:
            self._sync_file(fd)
            os.close(fd)
        if current >= 0 and not self._sync_file(current):
            # The kernel forgets what it failed to write: go on in a file without a past.
            with self._lock:
                if current == self._fd:
                    self._retire()
        if new_name:
            self._sync_folder()

    def _sync_file(self, fd: int) -> bool:
        """Make a segment durable; say whether more may be written to it."""
        try:
            if not self._power:
                os.fdatasync(fd)
            if os.fstat(fd).st_nlink or fd != self._fd:
                return True
        except OSError as error:
            self._tell(f"could not be fsynced: {error.strerror}")
        else:
            self._tell("was deleted while it was written")
        return False

    def _sync_folder(self) -> None:
        try:
            fsync_dir(self._segments)
        except OSError as error:
            self._tell(f"has a name that could not be fsynced: {error.strerror}")

    def _tell(self, trouble: str) -> None:
        self.sync_errors += 1
        _log.error("A segment of the prediction log in %s %s.", self._segments, trouble)

    def _leave_to_parent(self) -> None:
        """In a forked child: let the parent's segment be, and start without one."""
        for fd in [self._fd, *self._retired]:
            if fd >= 0:
                with suppress(OSError):
                    os.close(fd)
        self._reset()


_WRITERS: weakref.WeakSet[PredictionWriter] = weakref.WeakSet()


def _after_fork() -> None:
    for writer in list(_WRITERS):
        writer._leave_to_parent()


os.register_at_fork(after_in_child=_after_fork)


def _check(durability: str, on_full: str, segment_bytes: int, group_ms: float) -> None:
    for name, value, choices in (
        ("durability", durability, ("group", "power")),
        ("on_full", on_full, ("refuse", "answer")),
    ):
        if value not in choices:
            raise UsageError(f"{name} is one of {', '.join(choices)}, got {value!r}")
    for name, number in (("segment_bytes", segment_bytes), ("group_ms", group_ms)):
        if number <= 0:
            raise UsageError(f"{name} is a positive number, got {number!r}")


def _new_segment(path: Path, header: bytes, *, durable: bool) -> int:
    """Make a segment that carries its header and is locked before it bears its name.

    Whoever can lock a named segment therefore knows that its writer is gone.
    """
    aside = path.with_suffix(NEW)
    fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.write(fd, header) != len(header):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if durable:
            os.fdatasync(fd)
        aside.rename(path)
        if durable:
            fsync_dir(path.parent)
    except OSError:
        os.close(fd)
        aside.unlink(missing_ok=True)
        raise
    return fd
