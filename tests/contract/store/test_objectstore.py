"""What is peculiar to object stores, and the ledger over one."""

import json
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from steelyard.adapters.objectstore.store import ObjectStore
from steelyard.bundle.format import seal
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.errors import IntegrityError, NotFoundError, RefusedError, StoreError, UsageError
from steelyard.registry.audit import audit
from steelyard.registry.ledger import Ledger


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "mlflow").mkdir(parents=True)
    (folder / "model.onnx").write_bytes(b"graph" * 1000)
    (folder / "mlflow" / "conda.yaml").write_bytes(b"name: x\n")
    return folder


class Raw:
    """The same prefix, written and read past the store."""

    def __init__(self, url: str) -> None:
        from obstore.store import from_url

        self._bucket = from_url(url)

    def put(self, key: str, data: bytes) -> None:
        self._bucket.put(key, data)

    def get(self, key: str) -> bytes:
        return bytes(self._bucket.get(key).bytes())

    def delete(self, key: str) -> None:
        self._bucket.delete(key)


@pytest.fixture
def raw(bucket: str) -> Raw:
    return Raw(bucket)


def test_a_folder_lies_as_plain_objects_below_its_key(bucket, raw, source, tmp_path):
    ObjectStore(bucket, tmp_path / "cache").put_folder("bundles/ab", source)
    assert raw.get("bundles/ab/model.onnx") == b"graph" * 1000
    assert raw.get("bundles/ab/mlflow/conda.yaml") == b"name: x\n"


def test_a_half_upload_is_invisible_and_can_be_ended(bucket, raw, source, tmp_path):
    raw.put("bundles/ab/model.onnx", b"graph" * 1000)
    store = ObjectStore(bucket, tmp_path / "cache")
    with pytest.raises(NotFoundError, match="bundles/ab"):
        store.folder("bundles/ab")
    store.put_folder("bundles/ab", source)
    assert (store.folder("bundles/ab") / "model.onnx").read_bytes() == b"graph" * 1000


def test_what_another_upload_left_is_taken_over_not_overwritten(bucket, raw, source, tmp_path):
    raw.put("bundles/ab/mlflow/conda.yaml", b"name: y\n")
    store = ObjectStore(bucket, tmp_path / "cache")
    store.put_folder("bundles/ab", source)
    assert (store.folder("bundles/ab") / "mlflow" / "conda.yaml").read_bytes() == b"name: y\n"


@pytest.mark.parametrize("change", [b"other", None])
def test_a_changed_object_is_named_and_leaves_no_part(bucket, raw, source, tmp_path, change):
    store = ObjectStore(bucket, tmp_path / "cache")
    store.put_folder("bundles/ab", source)
    if change is None:
        raw.delete("bundles/ab/model.onnx")
    else:
        raw.put("bundles/ab/model.onnx", change)
    with pytest.raises((IntegrityError, NotFoundError), match=r"model\.onnx"):
        store.folder("bundles/ab")
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    "listing",
    [
        b"{}",
        b"[]",
        b"not json",
        b'{"format":2,"files":{}}',
        b'{"files":{}}',
        b'{"format":1,"files":{"../../out":"00"}}',
        b'{"format":1,"files":{"/etc/out":"00"}}',
        b'{"format":1,"files":{"a/./out":"00"}}',
        b'{"format":1,"files":{"":"00"}}',
        b'{"format":1,"files":{"a\\u0000b":"00"}}',
        b'{"format":1,"files":{"a\\\\..\\\\b":"00"}}',
        b'{"format":1,"files":{"%2e%2e/out":"00"}}',
        b'{"format":1,"files":{".aside-1-x":"00"}}',
        b'{"format":1,"files":["model.onnx"]}',
    ],
)
def test_a_listing_that_leads_out_is_refused(bucket, raw, tmp_path, listing):
    raw.put("bundles/ab/.folder.json", listing)
    raw.put("out", b"x")
    with pytest.raises(IntegrityError, match=r"\.folder\.json"):
        ObjectStore(bucket, tmp_path / "cache").folder("bundles/ab")
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_source_may_not_bring_its_own_listing(bucket, source, tmp_path):
    (source / ".folder.json").write_bytes(b"{}")
    with pytest.raises(UsageError, match=r"\.folder\.json"):
        ObjectStore(bucket, tmp_path / "cache").put_folder("bundles/ab", source)


def test_a_folder_is_fetched_once(bucket, raw, source, tmp_path):
    store = ObjectStore(bucket, tmp_path / "cache")
    store.put_folder("bundles/ab", source)
    first = store.folder("bundles/ab")
    raw.delete("bundles/ab/model.onnx")
    assert ObjectStore(bucket, tmp_path / "cache").folder("bundles/ab") == first
    with pytest.raises(NotFoundError):
        ObjectStore(bucket, tmp_path / "cold").folder("bundles/ab")


def test_two_prefixes_share_a_cache_but_no_files(bucket, source, tmp_path):
    one = ObjectStore(f"{bucket}/one", tmp_path / "cache")
    two = ObjectStore(f"{bucket}/two", tmp_path / "cache")
    one.put_folder("bundles/ab", source)
    (source / "mlflow" / "conda.yaml").write_bytes(b"name: two\n")
    two.put_folder("bundles/ab", source)
    kept = [(s.folder("bundles/ab") / "mlflow" / "conda.yaml").read_bytes() for s in (one, two)]
    assert kept == [b"name: x\n", b"name: two\n"]
    assert list(one.list("")) == ["bundles"]


def test_a_listing_longer_than_a_page(bucket, tmp_path):
    store = ObjectStore(bucket, tmp_path / "cache")
    keys = [f"many/{number:04d}" for number in range(1_005)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(lambda key: store.create(key, b""), keys))
    assert list(store.list("many")) == keys


def test_a_service_that_cannot_be_reached_is_told(bucket, tmp_path, monkeypatch):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    store = ObjectStore(bucket, tmp_path / "cache")
    with pytest.raises(StoreError, match="cannot read a") as raised:
        store.read("a")
    assert "credentials, region and endpoint" in str(raised.value)
    assert "Debug source" not in str(raised.value)
    assert len(str(raised.value)) < 1_200


def test_a_bucket_that_is_not_there_is_told(bucket, tmp_path):
    store = ObjectStore("s3://no-such-bucket-here/x", tmp_path / "cache")
    with pytest.raises(StoreError, match="no-such-bucket-here"):
        store.create("a", b"x")


@pytest.mark.parametrize("url", ["ftp://x/y", "bucket/prefix", "file:///x/y", "", "s3://"])
def test_another_url_is_refused(url, tmp_path):
    pytest.importorskip("obstore", reason="obstore is not installed (extra objectstore)")
    with pytest.raises(UsageError, match="Write s3://bucket/prefix"):
        ObjectStore(url, tmp_path)


def test_without_the_package_the_extra_is_named():
    script = (
        "import sys; sys.modules['obstore'] = None\n"
        "from pathlib import Path\n"
        "from steelyard.adapters.objectstore.store import ObjectStore\n"
        "from steelyard.errors import UsageError\n"
        "try: ObjectStore('s3://bucket', Path('cache'))\n"
        "except UsageError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert "steelyard[objectstore]" in done.stdout


def candidate(parent: Path, content: int, passed: bool = True):
    digest, folder = seal({"model.onnx": b"graph %d" % content}, parent)
    provenance = {"snapshot": f"s{content}"}
    verdict = Verdict(digest, hash_json(provenance), (Check("quality", "auc", passed, 0.9, 0.8),))
    return {
        "bundle": folder,
        "bundle_hash": digest,
        "provenance": provenance,
        "verdict": verdict,
        "documents": {"card.md": b"# card"},
        "by": "ann",
    }


def test_a_version_goes_its_way_through_a_bucket(bucket, raw, tmp_path):
    writer = Ledger(ObjectStore(bucket, tmp_path / "one"))
    writer.register("churn", **candidate(tmp_path, 1))
    writer.register("churn", **candidate(tmp_path, 2))
    writer.register("churn", **candidate(tmp_path, 3, passed=False))
    reader = Ledger(ObjectStore(bucket, tmp_path / "two"))
    assert reader.tail("churn") == 3
    for number in (1, 2):
        writer.promote(Reference("churn", version=number), reason="better", by="ann")
    assert reader.tail("churn") == 5
    champion = reader.resolve(Reference.parse("churn"))
    assert champion.number == 2
    assert (reader.bundle_folder(champion) / "model.onnx").read_bytes() == b"graph 2"
    assert reader.rollback("churn", reason="worse", by="bob").to == 1
    with pytest.raises(RefusedError, match="quality · auc"):
        reader.promote(Reference("churn", version=3), reason="hope", by="bob")
    assert audit(Ledger(ObjectStore(bucket, tmp_path / "three"))) == []

    raw.put(f"bundles/{champion.bundle}/model.onnx", b"other")
    fresh = Ledger(ObjectStore(bucket, tmp_path / "four"))
    with pytest.raises(RefusedError, match=r"model\.onnx"):
        fresh.promote(Reference("churn", version=2), reason="again", by="bob")
    errors = [f for f in audit(fresh) if f.state == "error"]
    assert [f.where for f in errors] == [f"bundles/{champion.bundle}"]


def test_concurrent_moves_through_a_bucket_end_in_one_order(bucket, tmp_path):
    first = Ledger(ObjectStore(bucket, tmp_path / "cache"))
    for content in range(4):
        first.register("churn", **candidate(tmp_path, content))

    def move(writer: int) -> list[str]:
        ledger = Ledger(ObjectStore(bucket, tmp_path / "cache"))
        told = []
        for step in range(4):
            reference = Reference("churn", version=(writer + step) % 4 + 1)
            reason = f"{writer}/{step}"
            if ledger.promote(reference, reason=reason, by=f"writer {writer}").moved:
                told.append(reason)
        return told

    with ThreadPoolExecutor(4) as pool:
        told = [reason for reasons in pool.map(move, range(4)) for reason in reasons]
    events = [e for e in Ledger(first.store).history("churn") if e["kind"] == "alias"]
    assert sorted(e["reason"] for e in events) == sorted(told)
    assert [e["from"] for e in events] == [None, *[e["to"] for e in events[:-1]]]


def test_an_answer_that_was_lost_is_no_lost_move(bucket, tmp_path):
    """The service took the event, and the repeated request found it there."""

    class Repeating(ObjectStore):
        def create(self, key: str, data: bytes) -> bool:
            super().create(key, data)
            return super().create(key, data)

    ledger = Ledger(Repeating(bucket, tmp_path / "cache"))
    assert ledger.register("churn", **candidate(tmp_path, 1)).number == 1
    assert ledger.promote(Reference("churn", version=1), reason="better", by="ann").moved
    assert [json.loads(json.dumps(e))["kind"] for e in ledger.history("churn")] == [
        "version",
        "alias",
    ]
