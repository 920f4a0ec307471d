import json
import logging
import shutil
import time

import pytest

from steelyard.errors import StoreError
from steelyard.serve.answer.version import Served
from steelyard.serve.follower import Follower


class Wanted:
    """Says which version is wanted; an error stands for a store that is away."""

    def __init__(self, served):
        self.now = served
        self.asked = 0

    def __call__(self):
        self.asked += 1
        if isinstance(self.now, Exception):
            raise self.now
        return self.now


@pytest.fixture
def followed(stand, bundles):
    made = stand("price")
    wanted = Wanted(bundles["price"])
    return made, wanted, Follower(made.endpoint, wanted, made.metrics)


def newer(served, version=8):
    return Served(version, served.bundle, served.folder)


def damaged(served, folder, name="packed.onnx"):
    copy = folder / "damaged"
    shutil.copytree(served.folder, copy)
    data = bytearray((copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (copy / name).write_bytes(bytes(data))
    return Served(9, served.bundle, copy)


def version_of(made, row):
    (answer,) = made.endpoint.answer([made.endpoint.ask(json.dumps(row).encode())])
    return json.loads(answer)["version"]


def test_a_wanted_version_answers_from_then_on(followed, bundles, house, caplog):
    made, wanted, follower = followed
    follower.step()
    assert version_of(made, house) == 2
    wanted.now = newer(bundles["price"])
    with caplog.at_level(logging.WARNING):
        follower.step()
    assert version_of(made, house) == 8
    assert "price now answers with version 8" in caplog.text
    assert [labels[0] for labels in made.counted("serving")] == ["8"]


def test_a_damaged_version_is_refused_loudly_and_the_old_one_goes_on(
    followed, bundles, house, tmp_path, caplog
):
    made, wanted, follower = followed
    wanted.now = damaged(bundles["price"], tmp_path)
    follower.step()
    assert version_of(made, house) == 2
    assert "packed.onnx" in made.endpoint.behind
    assert "goes on with version 2: version 9 was refused" in caplog.text
    assert made.counted("swaps_refused") == {(): 1}

    # It is not read again and again, but a repaired one is taken in the end.
    follower.step()
    assert made.counted("swaps_refused") == {(): 1}
    shutil.copytree(bundles["price"].folder, wanted.now.folder, dirs_exist_ok=True)
    follower._refused_at -= 60
    follower.step()
    assert version_of(made, house) == 9
    assert made.endpoint.behind == ""


def test_a_rollback_from_a_refused_version_ends_the_alarm(followed, bundles, tmp_path):
    made, wanted, follower = followed
    wanted.now = damaged(bundles["price"], tmp_path)
    follower.step()
    wanted.now = bundles["price"]
    follower.step()
    assert made.endpoint.behind == ""


def test_a_folder_that_is_no_bundle_at_all_is_refused(followed, tmp_path):
    made, wanted, follower = followed
    wanted.now = Served(9, "ab" * 32, tmp_path / "nowhere")
    follower.step()
    assert "version 9 was refused" in made.endpoint.behind


def test_a_bundle_of_another_model_is_refused(followed, bundles, house):
    made, wanted, follower = followed
    wanted.now = newer(bundles["offer"])
    follower.step()
    assert "it is a version of offer" in made.endpoint.behind
    assert version_of(made, house) == 2


def test_a_store_that_is_away_is_told_and_does_not_end_the_answers(followed, bundles, house):
    made, wanted, follower = followed
    wanted.now = StoreError("the store is away")
    follower.step()
    assert "the store is away" in made.endpoint.behind
    assert version_of(made, house) == 2
    wanted.now = bundles["price"]
    follower.step()
    assert made.endpoint.behind == ""


def test_whatever_a_store_raises_is_told(followed, bundles, house):
    made, wanted, follower = followed
    wanted.now = ZeroDivisionError()
    follower.step()
    assert "ZeroDivisionError" in made.endpoint.behind
    assert version_of(made, house) == 2


def test_it_follows_in_the_background_until_it_is_stopped(stand, bundles, house):
    made = stand("price")
    wanted = Wanted(bundles["price"])
    follower = Follower(made.endpoint, wanted, made.metrics, seconds=0.01)
    follower.start()
    deadline = time.monotonic() + 10
    while wanted.asked < 3 and time.monotonic() < deadline:
        time.sleep(0.005)
    follower.stop()
    follower.join(5)
    assert not follower.is_alive()
    assert wanted.asked >= 3
