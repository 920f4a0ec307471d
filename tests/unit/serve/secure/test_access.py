"""Who gets in: by which header, how far, until when; and what is noted of those who do not."""

import base64
import os
from datetime import timedelta

import pytest

from steelyard.serve.secure import access as module
from steelyard.serve.secure.access import (
    KEY_HEADERS,
    Access,
    ForbiddenError,
    UnauthenticatedError,
    scope_of,
)
from steelyard.serve.secure.keys import KeyFile

DAY = timedelta(days=1)


@pytest.fixture
def file(tmp_path):
    return KeyFile(tmp_path / "keys.json")


@pytest.fixture
def key(file):
    return file.create("shop", models=["churn"])[1]


@pytest.fixture
def access(file, key):
    made = Access(file)
    made.load()
    return made


def bearer(text):
    return [(b"host", b"here"), (b"authorization", b"Bearer " + text.encode())]


def basic(text):
    pair = base64.b64encode(b"anybody:" + text.encode())
    return [(b"authorization", b"Basic " + pair)]


def admits(access, headers, scope="predict", model="churn"):
    found = [value for name, value in headers if name in KEY_HEADERS]
    return len(found) == 1 and access.admits(found[0], scope, model)


def reread(access, monkeypatch):
    """Follow the file as if the second were over."""
    monkeypatch.setattr(access, "_looked", 0.0)
    access.follow()


@pytest.mark.parametrize(
    "headers",
    [
        bearer,
        lambda key: [(b"authorization", b"bearer  " + key.encode() + b" ")],
        lambda key: [(b"x-api-key", key.encode())],
        basic,
    ],
)
def test_a_good_key_gets_in_by_every_header(access, key, headers):
    given = headers(key)
    assert not admits(access, given, model="churn")  # not seen yet: the long way verifies it
    assert access.authorise(given, "predict", "churn") == key[3:11]
    assert admits(access, given, model="churn")
    assert access.failures() == {}


def wrong(key):
    swapped = key[:-1] + ("A" if key[-1] != "A" else "B")
    unknown = key.replace(key[3:11], "00000000")
    return {
        "none": [],
        "another secret": bearer(swapped),
        "another id": bearer(unknown),
        "cut": bearer(key[:-1]),
        "longer": bearer(key + "x"),
        "empty": bearer(""),
        "no scheme": [(b"authorization", b"Digest " + key.encode())],
        "two": [*bearer(key), (b"x-api-key", key.encode())],
        "twice": bearer(key) * 2,
        "bytes": [(b"x-api-key", bytes(range(128, 256)))],
        "basic rubbish": [(b"authorization", b"Basic ?")],
        "basic without": basic(""),
        "in another header": [(b"cookie", key.encode())],
    }


@pytest.mark.parametrize("kind", sorted(wrong("sy_01234567_" + "x" * 43)))
def test_anything_else_does_not(access, key, kind):
    given = wrong(key)[kind]
    access.authorise(bearer(key), "predict", "churn")  # a key that is known opens it to no other
    assert not admits(access, given, model="churn")
    with pytest.raises(UnauthenticatedError, match="valid key"):
        access.authorise(given, "predict", "churn", "10.0.0.1")
    [(failure, count)] = access.failures().items()
    assert (failure.client, count) == ("10.0.0.1", 1)
    assert not admits(access, given, model="churn")


@pytest.mark.parametrize(
    ("scope", "model"), [("predict", "price"), ("metrics", "churn"), ("admin", "churn")]
)
def test_a_key_reaches_as_far_as_it_was_made_to(access, key, scope, model):
    with pytest.raises(ForbiddenError, match=f"does not reach {scope} of {model}"):
        access.authorise(bearer(key), scope, model)
    assert not admits(access, bearer(key), scope, model)
    assert [f.key for f in access.failures()] == [key[3:11]]


def test_a_revoked_key_ends_though_it_was_known(access, file, key, monkeypatch):
    access.authorise(bearer(key), "predict", "churn")
    file.revoke("shop")
    reread(access, monkeypatch)
    assert not admits(access, bearer(key), model="churn")
    with pytest.raises(UnauthenticatedError, match="revoked"):
        access.authorise(bearer(key), "predict", "churn")


def test_a_key_ends_at_its_time_though_it_was_known(file, monkeypatch):
    _, text = file.create("short", lasts=DAY)
    access = Access(file)
    access.load()
    access.authorise(bearer(text), "predict", "any")
    assert admits(access, bearer(text), model="any")
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 2 * DAY.total_seconds())
    assert not admits(access, bearer(text), model="any")
    with pytest.raises(UnauthenticatedError, match="expired"):
        access.authorise(bearer(text), "predict", "any")


def test_rotation_keeps_both_keys_good_for_the_time_of_grace(access, file, key, monkeypatch):
    _, text = file.rotate("shop", grace=DAY)
    reread(access, monkeypatch)
    for one in (key, text):
        assert access.authorise(bearer(one), "predict", "churn")
    now = module.time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 2 * DAY.total_seconds())
    assert not admits(access, bearer(key), model="churn")
    assert admits(access, bearer(text), model="churn")


def test_it_is_off_until_a_key_was_ever_made(file, monkeypatch):
    access = Access(file)
    access.load()
    assert not access.on
    assert access.authorise([], "predict", "churn") == ""
    file.create("shop")
    reread(access, monkeypatch)
    assert access.on
    # Whoever takes the file away opens nothing: the server stays closed, to everybody.
    file.path.unlink()
    reread(access, monkeypatch)
    assert access.on
    with pytest.raises(UnauthenticatedError):
        access.authorise([], "predict", "churn")


def test_required_means_closed_also_without_any_key(file):
    access = Access(file, required=True)
    access.load()
    with pytest.raises(UnauthenticatedError):
        access.authorise([], "predict", "churn")


def test_the_keys_that_are_known_stay_where_the_file_is_damaged(
    access, file, key, monkeypatch, caplog
):
    file.path.write_bytes(b"{")
    reread(access, monkeypatch)
    assert access.authorise(bearer(key), "predict", "churn")
    assert "damaged" in caplog.text
    caplog.clear()
    reread(access, monkeypatch)
    assert caplog.text == ""  # once, not once a second


def test_a_file_that_is_damaged_before_any_key_was_known_closes(file, monkeypatch):
    access = Access(file)
    access.load()
    file.path.write_bytes(b"{")
    reread(access, monkeypatch)
    with pytest.raises(UnauthenticatedError):
        access.authorise([], "predict", "churn")


def test_the_file_is_looked_at_once_a_second(access, monkeypatch):
    looks = []
    seen = access._mark()
    monkeypatch.setattr(access, "_mark", lambda: (looks.append(1), seen)[1])
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    for tenth in range(30):
        clock[0] = 100 + tenth / 10
        access.follow()
    assert len(looks) == 3


def test_a_file_of_the_same_size_and_time_is_seen_to_be_another(access, file, key, monkeypatch):
    """A rename brings another inode, whatever the clock of the file system."""
    before = file.path.stat()
    data = file.path.read_bytes().replace(b'"shop"', b'"pohs"')
    aside = file.path.with_suffix(".new")
    aside.write_bytes(data)
    os.utime(aside, ns=(before.st_atime_ns, before.st_mtime_ns))
    aside.rename(file.path)
    reread(access, monkeypatch)
    with pytest.raises(ForbiddenError, match="key pohs"):
        access.authorise(bearer(key), "admin", "churn")


def test_failures_are_counted_and_bounded(access):
    for i in range(1_000):
        with pytest.raises(UnauthenticatedError):
            access.authorise([], "predict", "churn", f"10.0.{i // 250}.{i % 250}")
    found = access.failures()
    assert len(found) <= 21
    assert sum(found.values()) == 1_000
    assert access.failures() == {}


def test_what_is_remembered_of_headers_is_bounded(access, key):
    """Behind Basic a key is good with any name, and whoever has one could send names without end."""
    for i in range(3 * module._MOST_VERIFIED):
        pair = base64.b64encode(b"%d:" % i + key.encode())
        assert access.authorise([(b"authorization", b"Basic " + pair)], "predict", "churn")
    assert len(access._known.verified) <= module._MOST_VERIFIED
    assert access.authorise(bearer(key), "predict", "churn")


def test_what_is_open_says_more_to_whoever_has_a_key(access, key, file):
    _, other = file.create("prometheus", scopes=["metrics"])
    access.load()
    assert access.tells(bearer(key), "churn")
    for headers in ([], bearer("x"), bearer(other), bearer(key) * 2):
        assert not access.tells(headers, "churn")
    assert not access.tells(bearer(key), "price")
    assert Access(None).tells([], "churn")


def test_a_probe_without_a_key_is_no_failure(access):
    assert not access.tells([(b"host", b"here")], "churn")
    assert access.failures() == {}


def test_health_is_open_and_nothing_else_is():
    access = Access(None, health=["/alive"])
    for path in ("/health/live", "/health/ready", "/ping", "/v2/health/ready", "/v2/models/a/ready",
                 "/v2/models/a/versions/1/ready", "/alive", "/v1/models/a",
                 "/v1/endpoints/1/deployedModels/2"):  # fmt: skip
        assert access.is_open("GET", path)
        assert not access.is_open("POST", path)
    for path in ("/", "/health/", "/health/x", "/health/../predict/a", "//health/live", "/v2/models/a",
                 "/v2/models/a/infer", "/v2/models/ready", "/metrics", "/docs", "/HEALTH/live",
                 "/v2/models/a/b/c/d/ready", "/predict/ready", "/alive/x", "/v1/models",
                 "/v1/models/", "/v1/models/a:predict", "/v1/models/a/b",
                 "/v1/endpoints/1/deployedModels/2:predict", "/v1/endpoints/1/deployedModels/x",
                 "/v1/endpoints/1/2/deployedModels/3"):  # fmt: skip
        assert not access.is_open("GET", path)
    assert [scope_of(path) for path in ("/metrics", "/docs", "/predict/a")] == [
        "metrics", "predict", "predict"]  # fmt: skip
