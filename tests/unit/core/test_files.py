"""Files and folders appear whole or not at all, whoever dies or races."""

import multiprocessing
import os
from pathlib import Path

import pytest

from steelyard.core.files import (
    atomic_folder,
    atomic_write,
    create_exclusive,
    locked,
    scratch_folder,
    sweep_aside,
)


def test_a_write_replaces_the_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "file"
    atomic_write(target, b"old")
    atomic_write(target, b"new")
    assert target.read_bytes() == b"new"
    assert os.listdir(target.parent) == ["file"]


def test_a_folder_whose_block_fails_never_appears(tmp_path: Path) -> None:
    def half() -> None:
        with atomic_folder(tmp_path / "made") as aside:
            (aside / "half").write_text("x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        half()
    assert os.listdir(tmp_path) == []


def test_a_folder_that_exists_is_kept(tmp_path: Path) -> None:
    for text in ("first", "second"):
        with atomic_folder(tmp_path / "made") as aside:
            (aside / "file").write_text(text)
    assert (tmp_path / "made" / "file").read_text() == "first"
    assert os.listdir(tmp_path) == ["made"]


def _race(path: Path, name: str, won: "multiprocessing.Queue[str]") -> None:
    if create_exclusive(path, name.encode() * 10_000):
        won.put(name)


def test_of_many_creators_exactly_one_wins_and_its_bytes_are_whole(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    won = context.Queue()
    racers = [context.Process(target=_race, args=(tmp_path / "e", n, won)) for n in "abcd"]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join(30)
    winner = won.get(timeout=5)
    assert won.empty()
    assert (tmp_path / "e").read_bytes() == winner.encode() * 10_000


def test_rests_of_dead_writers_are_swept_and_those_of_living_ones_kept(tmp_path: Path) -> None:
    dead = multiprocessing.get_context("spawn").Process(target=os.getpid)
    dead.start()
    dead.join(30)
    (tmp_path / f".aside-{dead.pid}-ab-file").write_text("rest")
    (tmp_path / f".aside-{os.getpid()}-ab-file").write_text("work")
    assert sweep_aside(tmp_path) == 1
    assert os.listdir(tmp_path) == [f".aside-{os.getpid()}-ab-file"]


def test_a_scratch_folder_is_gone_afterwards(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        (folder / "x").write_text("x")
    assert os.listdir(tmp_path) == []


def test_a_lock_is_held_by_one(tmp_path: Path) -> None:
    with locked(tmp_path / "lock"):
        child = multiprocessing.get_context("spawn").Process(
            target=_take, args=(tmp_path / "lock", tmp_path / "taken")
        )
        child.start()
        child.join(1)
        assert not (tmp_path / "taken").exists()
    child.join(30)
    assert (tmp_path / "taken").exists()


def _take(lock: Path, mark: Path) -> None:
    with locked(lock):
        mark.touch()
