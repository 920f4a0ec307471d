"""A bundle on disk: files, a manifest of their hashes, and one hash over the manifest.

Nothing in a bundle is code and nothing is a pickle. The hash covers what answers; what lies
beside it for other systems (`MLmodel`, `mlflow/`) is outside the manifest and never read here.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from steelyard.core.files import atomic_folder
from steelyard.core.hashing import canonical_json, file_hash, hash_bytes
from steelyard.errors import IntegrityError

__all__ = ["MANIFEST", "FileCheck", "check_files", "read_verified", "seal"]

MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class FileCheck:
    """One file of a bundle and whether its bytes are those that were sealed."""

    path: str
    ok: bool
    reason: str = ""


def seal(files: Mapping[str, bytes], parent: Path) -> tuple[str, Path]:
    """Write a bundle below `parent`, in a folder named by its hash; return the hash and folder.

    The folder appears whole. Where the same bundle is there already it is kept.
    """
    manifest = canonical_json(
        {"format": _FORMAT, "files": {name: hash_bytes(data) for name, data in files.items()}}
    )
    digest = hash_bytes(manifest)
    folder = parent / digest
    if not folder.is_dir():
        with atomic_folder(folder) as aside:
            for name, data in files.items():
                (aside / name).write_bytes(data)
            (aside / MANIFEST).write_bytes(manifest)
    return digest, folder


def _manifest(folder: Path, expected: str | None) -> Mapping[str, Any]:
    path = folder / MANIFEST
    if not path.is_file():
        raise IntegrityError(
            f"{folder} is no bundle: it has no {MANIFEST}.",
            fix="Give the folder of a version, as `steelyard show` prints it.",
        )
    data = path.read_bytes()
    if expected is not None and hash_bytes(data) != expected:
        raise IntegrityError(
            f"{MANIFEST} does not have the bundle's hash: expected {expected}, got "
            f"{hash_bytes(data)}.",
            fix="The bundle was changed after it was registered; restore it or run again.",
        )
    try:
        manifest = json.loads(data)
    except ValueError:
        manifest = None
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("format") != _FORMAT:
        raise IntegrityError(
            f"{MANIFEST} in {folder} is not a manifest of format {_FORMAT}.",
            fix="The bundle is damaged; restore it or run again.",
        )
    return files


def check_files(folder: Path, expected: str | None = None) -> list[FileCheck]:
    """Compare every file of a bundle with the manifest, and the manifest with `expected`."""
    try:
        listed = _manifest(folder, expected)
    except IntegrityError as error:
        return [FileCheck(MANIFEST, False, error.message)]
    checks = [FileCheck(MANIFEST, True)]
    for name, digest in sorted(listed.items()):
        path = folder / name
        if "/" in name or not path.is_file():
            checks.append(FileCheck(name, False, "the file is missing"))
        elif (found := file_hash(path)) != digest:
            checks.append(FileCheck(name, False, f"expected sha256 {digest}, got {found}"))
        else:
            checks.append(FileCheck(name, True))
    return checks


def read_verified(folder: Path, expected: str | None = None) -> tuple[dict[str, bytes], str]:
    """Return a bundle's files and its hash; each file is read once, and what was hashed is used.

    Raises IntegrityError, naming the file, where bytes are not those that were sealed.
    """
    listed = _manifest(folder, expected)
    files = {}
    for name, digest in sorted(listed.items()):
        path = folder / name
        found = path.read_bytes() if "/" not in name and path.is_file() else None
        if found is None or hash_bytes(found) != digest:
            raise IntegrityError(
                f"{name} in {folder} is not the file that was sealed: "
                + ("it is missing." if found is None else f"its sha256 is not {digest}."),
                fix="Restore it from another store, or run the definition again.",
            )
        files[name] = found
    return files, hash_bytes((folder / MANIFEST).read_bytes())
