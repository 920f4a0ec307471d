"""Keys are shown once, kept as hashes, and survive whatever happens to the commands that make them."""

import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest

from steelyard.errors import IntegrityError, NotFoundError, StoreError, UsageError
from steelyard.serve.secure.keys import KeyFile, id_of

NOW = datetime.now(UTC)
DAY = timedelta(days=1)
MAKER = """
import sys
from pathlib import Path
from steelyard.serve.secure.keys import KeyFile
file, name, count = KeyFile(Path(sys.argv[1])), sys.argv[2], int(sys.argv[3])
print("begun", flush=True)
for i in range(count):
    file.create(f"{name}-{i}")
    print(i, flush=True)
"""


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "state" / "keys.json")


def maker(file, name, count):
    command = [sys.executable, "-c", MAKER, str(file.path), name, str(count)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_a_key_is_kept_as_its_hash_and_nobody_else_reads_it(file):
    key, text = file.create("shop", models=["churn"], scopes=["predict", "metrics"])
    assert file.read() == [key]
    assert (key.models, key.scopes) == (("churn",), ("predict", "metrics"))
    assert key.digest == hashlib.sha256(text.encode()).hexdigest()
    assert id_of(text) == key.id
    secret = text.rpartition(key.id)[2]
    assert len(secret) > 40
    assert secret.encode() not in file.path.read_bytes()
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600


def test_no_two_keys_are_alike(file):
    texts = {file.create(f"key-{i}")[1] for i in range(50)}
    assert len(texts) == 50
    assert len({key.id for key in file.read()}) == 50


def test_a_key_ends_when_it_was_to_end(file):
    key, _ = file.create("shop", lasts=DAY)
    assert key.state(NOW) == "active"
    assert key.state(datetime.now(UTC) + DAY) == "expired"
    file.create("ended", lasts=timedelta(0))
    file.create("ended")  # an expired name is free again


def test_rotation_gives_the_same_rights_and_a_time_for_the_change(file):
    old, old_text = file.create("shop", models=["churn"], lasts=30 * DAY)
    new, text = file.rotate("shop", grace=DAY)
    assert text != old_text
    assert (new.name, new.models, new.scopes, new.expires) == (
        old.name,
        old.models,
        old.scopes,
        old.expires,
    )
    kept = {key.id: key for key in file.read()}
    assert kept[old.id].state(NOW) == "active"
    assert kept[old.id].state(NOW + 2 * DAY) == "expired"
    # A second rotation takes the newest for its pattern and does not give the oldest more time.
    file.rotate("shop", grace=10 * DAY)
    again = {key.id: key for key in file.read()}
    assert again[old.id].expires == kept[old.id].expires
    assert again[new.id].state(NOW + 11 * DAY) == "expired"


def test_revoking_ends_a_name_or_one_id(file):
    old, _ = file.create("shop")
    new, _ = file.rotate("shop", grace=DAY)
    other, _ = file.create("other")
    assert [key.id for key in file.revoke(old.id)] == [old.id]
    assert {k.id: k.state(NOW) for k in file.read()} == {
        old.id: "revoked",
        new.id: "active",
        other.id: "active",
    }
    file.rotate("shop", grace=DAY)
    assert len(file.revoke("shop")) == 2
    with pytest.raises(NotFoundError, match="Did you mean other"):
        file.revoke("othr")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"name": "shop"}, "keys rotate shop"),
        ({"name": "../x"}, "letters, digits"),
        ({"name": "x", "scopes": ["predictt"]}, "Did you mean predict"),
        ({"name": "x", "models": ["../churn"]}, "letters, digits"),
        ({"name": "x", "lasts": timedelta(days=999_999_000)}, "beyond the calendar"),
    ],
)
def test_mistakes_are_told_and_change_nothing(file, words, message):
    file.create("shop")
    before = file.path.read_bytes()
    with pytest.raises(UsageError, match=message):
        file.create(**words)
    assert file.path.read_bytes() == before


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{}",
        b'{"format":1,"keys":[{}]}',
        b'{"format":2,"keys":[]}',
        b'{"format":1,"keys":[{"id":"a","name":"b","digest":"c","scopes":[],"models":[],'
        b'"created":"","expires":"tomorrow"}]}',
        b"\x80\x04\x95pickle",
    ],
)
def test_a_damaged_file_is_not_taken_for_no_keys(file, data):
    file.path.parent.mkdir()
    file.path.write_bytes(data)
    file.path.chmod(0o600)
    for call in (file.read, lambda: file.create("x")):
        with pytest.raises(IntegrityError, match=r"keys\.json"):
            call()
    assert file.path.read_bytes() == data


def test_a_file_that_others_may_write_to_is_refused(file):
    file.create("shop")
    file.path.chmod(0o620)
    with pytest.raises(StoreError, match="chmod 600"):
        file.read()


def test_commands_at_the_same_time_lose_no_key(file):
    running = [maker(file, f"writer-{i}", 6) for i in range(3)]
    for process in running:
        process.communicate(timeout=60)
        assert process.returncode == 0
    names = {key.name for key in file.read()}
    assert names == {f"writer-{i}-{j}" for i in range(3) for j in range(6)}


def test_a_killed_command_leaves_the_old_keys_or_the_new(file):
    told = set()
    for turn in range(4):
        process = maker(file, f"turn-{turn}", 10_000)
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        time.sleep(0.01 * turn)
        process.send_signal(signal.SIGKILL)
        rest, _ = process.communicate(timeout=60)
        told |= {f"turn-{turn}-{line}" for line in rest.split()}
        names = [key.name for key in file.read()]
        assert told <= set(names)
        assert len(names) == len(set(names))
    file.create("last")  # the lock of the dead holds nobody up, and what they left aside is gone
    assert sorted(os.listdir(file.path.parent)) == ["keys.json", "keys.lock"]
    assert json.loads(file.path.read_bytes())["format"] == 1
