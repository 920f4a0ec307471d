"""A sealed bundle is whole, is named by its hash, and a changed byte anywhere is refused by file."""

import json
import os
from pathlib import Path

import pytest

from steelyard.bundle.format import MANIFEST, check_files, read_verified, seal
from steelyard.core.hashing import hash_bytes
from steelyard.errors import IntegrityError

FILES = {"model.onnx": b"\x00graph", "schema.json": b"{}", "golden.jsonl": b"{}\n"}


def test_a_bundle_reads_back_under_its_hash(tmp_path: Path) -> None:
    digest, folder = seal(FILES, tmp_path)
    assert folder == tmp_path / digest
    assert read_verified(folder, digest) == (FILES, digest)
    assert all(check.ok for check in check_files(folder, digest))


def test_the_hash_depends_on_names_and_bytes_alone(tmp_path: Path) -> None:
    first, _ = seal(FILES, tmp_path / "a")
    again, _ = seal(dict(reversed(FILES.items())), tmp_path / "b")
    other, _ = seal({**FILES, "schema.json": b"[]"}, tmp_path / "c")
    renamed, _ = seal({"x.json": FILES["schema.json"]} | FILES, tmp_path / "d")
    assert first == again
    assert len({first, other, renamed}) == 3


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
@pytest.mark.parametrize("place", [0, -1])
def test_a_flipped_byte_is_refused_with_the_file_named(
    tmp_path: Path, name: str, place: int
) -> None:
    digest, folder = seal(FILES, tmp_path)
    data = bytearray((folder / name).read_bytes())
    data[place] ^= 1
    (folder / name).write_bytes(data)
    with pytest.raises(IntegrityError, match=name):
        read_verified(folder, digest)
    assert [check.path for check in check_files(folder, digest) if not check.ok] == [name]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    digest, folder = seal(FILES, tmp_path)
    (folder / "schema.json").unlink()
    with pytest.raises(IntegrityError, match=r"schema\.json .* missing"):
        read_verified(folder, digest)
    (bad,) = [check for check in check_files(folder, digest) if not check.ok]
    assert (bad.path, bad.reason) == ("schema.json", "the file is missing, or a link")


def test_another_bundle_in_its_place_is_refused(tmp_path: Path) -> None:
    digest, _ = seal(FILES, tmp_path / "a")
    _, other = seal({**FILES, "schema.json": b"[]"}, tmp_path / "b")
    with pytest.raises(IntegrityError, match="does not have the bundle's hash"):
        read_verified(other, digest)


def test_what_lies_beside_a_bundle_is_not_part_of_it(tmp_path: Path) -> None:
    digest, folder = seal(FILES, tmp_path)
    (folder / "MLmodel").write_text("flavors: {}")
    assert read_verified(folder, digest) == (FILES, digest)


@pytest.mark.parametrize(
    "text",
    ["", "[]", "[" * 100_000, '{"format": 2, "files": {}}', '{"files": {}}', '{"format": 1}', "{"],
)
def test_what_is_no_manifest_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / MANIFEST).write_text(text)
    with pytest.raises(IntegrityError, match=MANIFEST):
        read_verified(tmp_path)


def listing(folder: Path, name: str, digest: str) -> None:
    """Let the manifest list one more file, as nobody here would."""
    manifest = json.loads((folder / MANIFEST).read_bytes())
    manifest["files"][name] = digest
    (folder / MANIFEST).write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    "name",
    ["../secret.json", "../../secret.json", "/secret.json", "..", ".", "", "a/b.json", ".hidden.json",
     "x.json\0.onnx", "x\n.json", "a\\..\\b.json", "%2e%2e.json/x", "\u2024\u2024.json", "C:x.json",
     "evil.pkl", "evil.pickle", "evil.joblib", "evil.py", "evil.so", "MLmodel", "x.onnx.data", "json"],
)  # fmt: skip
def test_names_that_lead_elsewhere_or_of_other_kinds_are_refused(tmp_path: Path, name: str) -> None:
    _, folder = seal(FILES, tmp_path / "a")
    (tmp_path / "secret.json").write_bytes(FILES["schema.json"])
    listing(folder, name, hash_bytes(FILES["schema.json"]))
    with pytest.raises(IntegrityError, match="lists"):
        read_verified(folder)
    assert [check.ok for check in check_files(folder)] == [False]


@pytest.mark.parametrize("name", [*FILES, MANIFEST])
def test_a_link_is_no_file_of_a_bundle_whatever_it_leads_to(tmp_path: Path, name: str) -> None:
    digest, folder = seal(FILES, tmp_path / "a")
    (folder / name).rename(tmp_path / "elsewhere")
    (folder / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"link|is no bundle"):
        read_verified(folder, digest)
    assert not all(check.ok for check in check_files(folder, digest))


def test_what_is_no_regular_file_is_not_waited_for(tmp_path: Path) -> None:
    digest, folder = seal(FILES, tmp_path)
    (folder / "schema.json").unlink()
    os.mkfifo(folder / "schema.json")
    with pytest.raises(IntegrityError, match=r"schema\.json"):
        read_verified(folder, digest)
    (folder / "schema.json").unlink()
    (folder / "schema.json").mkdir()
    with pytest.raises(IntegrityError, match=r"schema\.json"):
        read_verified(folder, digest)


def test_a_folder_without_manifest_is_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is no bundle"):
        read_verified(tmp_path)
