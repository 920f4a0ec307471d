"""Writes that are whole or absent: aside, fsync, rename. Locks that die with their process."""

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = [
    "atomic_folder",
    "atomic_write",
    "create_exclusive",
    "fsync_dir",
    "fsync_tree",
    "locked",
    "scratch_folder",
    "sweep_aside",
]

_ASIDE = ".aside-"


def _aside_of(path: Path) -> Path:
    # The process id lets `sweep_aside` tell a dead writer's rest from a living writer's work.
    return path.with_name(f"{_ASIDE}{os.getpid()}-{secrets.token_hex(4)}-{path.name}")


def fsync_dir(path: Path) -> None:
    """Make a folder's entries (creations, renames, removals) durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def fsync_tree(folder: Path) -> None:
    """Make every file and folder below `folder`, and itself, durable."""
    for root, _, names in os.walk(folder):
        for name in names:
            handle = os.open(Path(root, name), os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        fsync_dir(Path(root))


def _write_synced(path: Path, data: bytes, mode: int = 0o666) -> None:
    with open(path, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def atomic_write(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file so that a reader, or a crash, sees the old bytes or the new, never a part.

    A private one can be read by its owner only, from the moment at which it is there.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside_of(path)
    try:
        _write_synced(aside, data, 0o600 if private else 0o666)
        aside.replace(path)
    finally:
        aside.unlink(missing_ok=True)
    fsync_dir(path.parent)


def create_exclusive(path: Path, data: bytes) -> bool:
    """Create a file whole, unless it exists; of two writers exactly one gets True.

    The bytes are written aside and linked into place, so that the name never shows a part.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside_of(path)
    try:
        _write_synced(aside, data)
        os.link(aside, path)
    except FileExistsError:
        return False
    finally:
        aside.unlink(missing_ok=True)
    fsync_dir(path.parent)
    return True


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to fill; it becomes `path` whole when the block ends without error.

    Where `path` exists by then it is kept and the new one dropped: content-addressed folders
    hold the same bytes whoever wrote first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = _aside_of(path)
    aside.mkdir()
    try:
        yield aside
        fsync_tree(aside)
        try:
            aside.rename(path)
        except OSError:
            if not path.is_dir():
                raise
        fsync_dir(path.parent)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Give a folder below `parent` that is gone when the block ends; a killed one is swept later."""
    sweep_aside(parent)
    folder = _aside_of(parent / "work")
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def sweep_aside(folder: Path) -> int:
    """Remove what killed writers left aside in `folder`; return how many rests there were."""
    count = 0
    for rest in folder.glob(f"{_ASIDE}*"):
        pid = rest.name[len(_ASIDE) :].split("-", 1)[0]
        if pid.isdigit() and _alive(int(pid)):
            continue
        if rest.is_dir():
            shutil.rmtree(rest, ignore_errors=True)
        else:
            rest.unlink(missing_ok=True)
        count += 1
    return count


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a lock file; the kernel releases it when the process dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
