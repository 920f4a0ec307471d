"""What every `core.ports.Store` must do, as tests.

Subclass the suite in a test module and say how a store is made:

    class TestMyStore(StoreConformance):
        @pytest.fixture
        def store(self, tmp_path):
            return MyStore(...)

Each test gets a store that is empty.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

from steelyard.core.ports import Store
from steelyard.errors import NotFoundError, UsageError

__all__ = ["StoreConformance"]

_WRITERS = 8
_OUTSIDE = ("", "/", "/etc/passwd", "..", "../up", "a/../../up", "a//b", "a/", "./a", "a/./b")
_ODD = ("a\\b", "a\x00b", "a b", "a/.hidden", "%2e%2e/up", "é", "a\nb", "x" * 300, "a/" * 500 + "a")


class StoreConformance:
    """The suite: whole writes, one winner, listings level by level, folders, refused keys."""

    @pytest.fixture
    def store(self) -> Store:
        """Return an empty store; subclasses say which."""
        raise NotImplementedError

    @pytest.fixture
    def source(self, tmp_path: Path) -> Path:
        """Return a folder with files of several sizes, one of them empty, one nested."""
        folder = tmp_path / "source"
        (folder / "inner" / "deep").mkdir(parents=True)
        (folder / "model.bin").write_bytes(bytes(range(256)) * 500)
        (folder / "empty").write_bytes(b"")
        (folder / "inner" / "deep" / "note.txt").write_bytes(b"note")
        return folder

    def test_what_was_created_is_read(self, store: Store) -> None:
        """Bytes come back as they are, none and many alike."""
        for key, data in {"a": b"", "b/c": b"\x00\xff", "b/d": bytes(1 << 20)}.items():
            assert store.create(key, data) is True
            assert store.read(key) == data

    def test_the_first_writer_stays(self, store: Store) -> None:
        """A second create, of the same bytes too, says False and changes nothing."""
        assert store.create("a/b", b"first")
        assert store.create("a/b", b"second") is False
        assert store.create("a/b", b"first") is False
        assert store.read("a/b") == b"first"

    def test_of_many_writers_one_wins(self, store: Store) -> None:
        """Threads that create one key at the same moment: one True, and its bytes are there."""
        for turn in range(5):
            key, gate = f"race/{turn}", Barrier(_WRITERS)

            def write(number: int, key: str = key, gate: Barrier = gate) -> bool:
                gate.wait()
                return store.create(key, b"%d" % number * 1000)

            with ThreadPoolExecutor(_WRITERS) as pool:
                won = list(pool.map(write, range(_WRITERS)))
            assert sum(won) == 1
            assert store.read(key) == b"%d" % won.index(True) * 1000

    def test_an_absent_key_is_not_found(self, store: Store) -> None:
        """Also below, and above, a key that is there."""
        store.create("a/b", b"x")
        for key in ("c", "a/c", "a", "a/b/c"):
            with pytest.raises(NotFoundError):
                store.read(key)

    def test_a_listing_is_one_level(self, store: Store) -> None:
        """Sorted; a prefix is whole parts; what lies deeper shows once, by its next part."""
        for key in ("x/b", "x/a", "x/c/d", "x/c/e", "xy/z", "w"):
            store.create(key, b"1")
        assert list(store.list("")) == ["w", "x", "xy"]
        assert list(store.list("x")) == ["x/a", "x/b", "x/c"]
        assert list(store.list("x/c")) == ["x/c/d", "x/c/e"]
        assert list(store.list("v")) == []
        assert list(store.list("x/a")) == []

    def test_a_folder_comes_back(self, store: Store, source: Path) -> None:
        """Every file below it, byte for byte, and no other."""
        store.put_folder("bundles/ab12", source)
        assert _files(store.folder("bundles/ab12")) == _files(source)
        assert list(store.list("bundles")) == ["bundles/ab12"]

    def test_a_second_folder_is_no_copy(self, store: Store, source: Path) -> None:
        """Under a key that is kept already nothing is written."""
        store.put_folder("bundles/ab12", source)
        kept = _files(source)
        (source / "model.bin").write_bytes(b"other")
        store.put_folder("bundles/ab12", source)
        assert _files(store.folder("bundles/ab12")) == kept

    def test_many_writers_of_a_folder(self, store: Store, source: Path) -> None:
        """Threads that keep the same folder at the same moment leave one whole folder."""
        gate = Barrier(_WRITERS)

        def keep(_: int) -> dict[str, bytes]:
            gate.wait()
            store.put_folder("bundles/ab12", source)
            return _files(store.folder("bundles/ab12"))

        with ThreadPoolExecutor(_WRITERS) as pool:
            assert all(found == _files(source) for found in pool.map(keep, range(_WRITERS)))
        assert list(store.list("bundles")) == ["bundles/ab12"]

    def test_an_absent_folder_is_not_found(self, store: Store, tmp_path: Path) -> None:
        """Neither in the store nor, as a source, on this machine."""
        with pytest.raises(NotFoundError):
            store.folder("bundles/ab12")
        with pytest.raises(NotFoundError):
            store.put_folder("bundles/ab12", tmp_path / "absent")
        with pytest.raises(NotFoundError):
            store.folder("bundles/ab12")

    def test_a_link_is_refused(self, store: Store, source: Path) -> None:
        """A folder with a link in it is not kept, nor is a part of it."""
        (source / "zlink").symlink_to(source / "empty")
        with pytest.raises(UsageError, match="zlink"):
            store.put_folder("bundles/ab12", source)
        with pytest.raises(NotFoundError):
            store.folder("bundles/ab12")

    @pytest.mark.parametrize("key", [*_OUTSIDE, *_ODD])
    def test_a_key_that_could_lead_out_is_refused(
        self, store: Store, source: Path, key: str
    ) -> None:
        """By every method, before anything is touched."""
        calls: dict[str, Callable[[], Any]] = {
            "create": lambda: store.create(key, b"x"),
            "read": lambda: store.read(key),
            "put_folder": lambda: store.put_folder(key, source),
            "folder": lambda: store.folder(key),
        }
        if key:
            calls["list"] = lambda: store.list(key)
        for call in calls.values():
            with pytest.raises(UsageError):
                call()
        assert list(store.list("")) == []


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
