"""A bundle on disk: files, a manifest of their hashes, and one hash over the manifest.

Nothing in a bundle is code and nothing is a pickle. The hash covers what answers; what lies
beside it for other systems (`MLmodel`, `mlflow/`) is outside the manifest and never read here.
"""

import json
import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from steelyard.core.files import atomic_folder
from steelyard.core.hashing import canonical_json, hash_bytes
from steelyard.errors import IntegrityError

__all__ = ["MANIFEST", "FileCheck", "check_files", "read_verified", "seal"]

MANIFEST: Final = "manifest.json"
_FORMAT: Final = 1
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}\.(json|jsonl|onnx)")


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


def _manifest(folder: Path, expected: str | None) -> tuple[Mapping[str, Any], str]:
    """Return what a bundle lists, and its hash; IntegrityError where it is no such list."""
    data = _bytes_of(folder, MANIFEST)
    if data is None:
        raise IntegrityError(
            f"{folder} is no bundle: it has no {MANIFEST}.",
            fix="Give the folder of a version, as `steelyard show` prints it.",
        )
    digest = hash_bytes(data)
    if expected is not None and digest != expected:
        raise IntegrityError(
            f"{MANIFEST} does not have the bundle's hash: expected {expected}, got {digest}.",
            fix="The bundle was changed after it was registered; restore it or run again.",
        )
    try:
        manifest = json.loads(data)
    except (ValueError, RecursionError):
        manifest = None
    files = manifest.get("files") if isinstance(manifest, dict) else None
    if not isinstance(files, dict) or manifest.get("format") != _FORMAT:
        raise IntegrityError(
            f"{MANIFEST} in {folder} is not a manifest of format {_FORMAT}.",
            fix="The bundle is damaged; restore it or run again.",
        )
    for name in files:
        # A name becomes a path, and a kind that nothing here reads has no business in a bundle.
        if not _NAME.fullmatch(name):
            raise IntegrityError(
                f"{MANIFEST} in {folder} lists {name[:100]!r}; a bundle holds .json, .jsonl and "
                ".onnx files, in no folders.",
                fix="This is no bundle that Steelyard made: do not use it.",
            )
    return files, digest


def _bytes_of(folder: Path, name: str) -> bytes | None:
    """Return a file's bytes; None where it is none, or a link, which could lead anywhere."""
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        return None
    with os.fdopen(handle, "rb") as file:
        return file.read()


def check_files(folder: Path, expected: str | None = None) -> list[FileCheck]:
    """Compare every file of a bundle with the manifest, and the manifest with `expected`."""
    try:
        listed, _ = _manifest(folder, expected)
    except IntegrityError as error:
        return [FileCheck(MANIFEST, False, error.message)]
    checks = [FileCheck(MANIFEST, True)]
    for name, digest in sorted(listed.items()):
        data = _bytes_of(folder, name)
        if data is None:
            checks.append(FileCheck(name, False, "the file is missing, or a link"))
        elif (found := hash_bytes(data)) != digest:
            checks.append(FileCheck(name, False, f"expected sha256 {digest}, got {found}"))
        else:
            checks.append(FileCheck(name, True))
    return checks


def read_verified(folder: Path, expected: str | None = None) -> tuple[dict[str, bytes], str]:
    """Return a bundle's files and its hash; each file is read once, and what was hashed is used.

    Raises IntegrityError, naming the file, where bytes are not those that were sealed.
    """
    listed, bundle = _manifest(folder, expected)
    files = {}
    for name, digest in sorted(listed.items()):
        found = _bytes_of(folder, name)
        if found is None or hash_bytes(found) != digest:
            raise IntegrityError(
                f"{name} in {folder} is not the file that was sealed: "
                + (
                    "it is missing, or a link." if found is None else f"its sha256 is not {digest}."
                ),
                fix="Restore it from another store, or run the definition again.",
            )
        files[name] = found
    return files, bundle
