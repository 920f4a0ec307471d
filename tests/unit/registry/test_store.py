"""What is peculiar to a folder; what every store must do is in the port's suite."""

import os

import pytest

from steelyard.errors import NotFoundError, StoreError, UsageError
from steelyard.registry.store import FolderStore


def test_a_store_that_was_never_written_is_empty(tmp_path):
    store = FolderStore(tmp_path / "absent")
    assert list(store.list("")) == []
    assert list(store.sweep()) == []
    with pytest.raises(NotFoundError, match="a/b"):
        store.read("a/b")
    assert not store.root.exists()


def test_keys_are_paths_below_the_root(store):
    store.create("a/b.json", b"x")
    assert (store.root / "a" / "b.json").read_bytes() == b"x"


def test_a_copy_that_fails_leaves_nothing(store, tmp_path):
    source = tmp_path / "source"
    source.mkdir()
    (source / "a").write_bytes(b"1")
    os.mkfifo(source / "b")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        store.put_folder("bundles/x", source)
    assert list((store.root / "bundles").iterdir()) == []


def test_what_a_living_writer_has_aside_is_not_listed(store):
    store.create("a/b", b"x")
    (store.root / "a" / f".aside-{os.getpid()}-00000000-c").write_bytes(b"part")
    assert list(store.list("a")) == ["a/b"]
    assert list(store.sweep()) == []


def test_rests_are_swept_on_every_level(store):
    store.create("a/b/c", b"x")
    for folder in ("", "a", "a/b"):
        (store.root / folder / ".aside-999999999-00000000-z").write_bytes(b"part")
    assert list(store.sweep()) == [".", "a", "a/b"]
    assert list(store.sweep()) == []
    assert store.read("a/b/c") == b"x"


def test_a_disk_that_cannot_take_it_is_told(store, tmp_path):
    store.create("a", b"x")
    with pytest.raises(StoreError, match="cannot write"):
        store.create("a/b", b"y")
    with pytest.raises(StoreError, match="cannot write"):
        store.put_folder("a/b", tmp_path)
    assert store.read("a") == b"x"


def test_a_name_that_is_too_long_for_the_file_system_is_told(tmp_path):
    store = FolderStore(tmp_path / ("x" * 300))
    with pytest.raises(StoreError, match="cannot read"):
        store.read("a")
    with pytest.raises(StoreError, match="cannot list"):
        store.list("a")
