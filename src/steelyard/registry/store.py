"""The embedded store: a folder on a file system that several processes may share."""

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from steelyard.core.files import atomic_folder, create_exclusive, fsync_dir, sweep_aside
from steelyard.core.keys import check_key
from steelyard.errors import NotFoundError, StoreError, UsageError

__all__ = ["FolderStore"]


class FolderStore:
    """`core.ports.Store` over a folder, which is made when something is first written.

    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     store = FolderStore(Path(folder))
    ...     store.create("a/b", b"first"), store.create("a/b", b"second"), store.read("a/b")
    (True, False, b'first')
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def create(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; of two writers, in any processes, exactly one gets True."""
        path = self._path(key)
        with _told("write", path):
            self._make_parent(path)
            return create_exclusive(path, data)

    def read(self, key: str) -> bytes:
        """Return the bytes; NotFoundError where there are none."""
        path = f"{self.root}/{check_key(key)}"
        try:
            # The plainest way to read: a ledger is read by the ten thousand.
            with FileIO(path) as file:
                return file.readall()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise _absent(key, self.root) from None
        except OSError as error:
            raise _failed("read", Path(path), error) from error

    def list(self, prefix: str) -> Sequence[str]:
        """Return the keys one level below a prefix ("" for the top), sorted.

        A key here is a file, a kept folder, or the start of longer keys.
        """
        path = self._path(prefix) if prefix else self.root
        try:
            names = os.listdir(path)  # noqa: PTH208  # a ledger of 10,000 events: no object a name
        except (FileNotFoundError, NotADirectoryError):
            return []
        except OSError as error:
            raise _failed("list", path, error) from error
        start = f"{prefix}/" if prefix else ""
        return sorted(start + name for name in names if not name.startswith("."))

    def put_folder(self, key: str, folder: Path) -> None:
        """Copy a folder of files, whole or not at all; where the key is kept already, nothing."""
        path = self._path(key)
        if path.is_dir():
            return
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {folder} to keep.")
        with _told("write", path):
            self._make_parent(path)
            with atomic_folder(path) as aside:
                _copy(folder, aside)

    def folder(self, key: str) -> Path:
        """Return the kept folder itself, not a copy; NotFoundError where there is none."""
        path = self._path(key)
        if not path.is_dir():
            raise _absent(key, self.root)
        return path

    def sweep(self) -> Sequence[str]:
        """Remove what killed writers left aside; return in which folders of the store it lay."""
        found = []
        for root, folders, _ in os.walk(self.root):
            if sweep_aside(Path(root)):
                found.append(Path(root).relative_to(self.root).as_posix())
            folders[:] = [name for name in folders if not name.startswith(".")]
        return sorted(found)

    def _path(self, key: str) -> Path:
        return self.root / check_key(key)

    def _make_parent(self, path: Path) -> None:
        """Make the folders above `path`, durably: a power cut must not take them from a key."""
        missing = []
        parent = path.parent
        while not parent.is_dir():
            missing.append(parent)
            parent = parent.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            fsync_dir(folder.parent)


def _copy(source: Path, target: Path) -> None:
    for entry in sorted(source.iterdir()):
        if entry.is_symlink() or not (entry.is_file() or entry.is_dir()):
            raise UsageError(
                f"{entry} is neither a file nor a folder.",
                fix="Put the file itself there: a link would not hold in another store.",
            )
        if entry.is_dir():
            (target / entry.name).mkdir()
            _copy(entry, target / entry.name)
        else:
            shutil.copyfile(entry, target / entry.name)


@contextmanager
def _told(verb: str, path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise _failed(verb, path, error) from error


def _failed(verb: str, path: Path, error: OSError) -> StoreError:
    return StoreError(
        f"cannot {verb} {path}: {error.strerror or error}.",
        fix="See that the disk has room and that the folder belongs to this user.",
    )


def _absent(key: str, root: Path) -> NotFoundError:
    return NotFoundError(f"there is no {key} in the store {root}.")
