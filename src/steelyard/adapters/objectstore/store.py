"""The store in a bucket: S3 and what speaks like it, Google Cloud Storage, Azure Blob Storage.

Every write is a conditional PUT, which the service orders; there is nothing to lock and nothing
to overwrite. A kept folder lies as plain objects below its key, readable by any other system, with
a listing of their hashes that is written last: without it the folder is not there.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from steelyard.core.files import atomic_folder
from steelyard.core.hashing import canonical_json, hash_bytes
from steelyard.core.keys import check_key, is_key
from steelyard.errors import IntegrityError, NotFoundError, StoreError, UsageError

if TYPE_CHECKING:
    import obstore

__all__ = ["ObjectStore"]

_LISTING: Final = ".folder.json"
_FORMAT: Final = 1
_SCHEMES = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "https", "memory")
_PATIENCE = timedelta(seconds=30)


class ObjectStore:
    """`core.ports.Store` over a bucket, or a prefix of one: `s3://bucket/prefix`, `gs://`, `az://`.

    Credentials, region and endpoint come from the usual environment variables of each service.
    `cache` is a local folder for what `folder` fetches; it may be shared and emptied at any time.
    `memory:///` is a store of this object's own, for trials. Needs the extra `objectstore`; raises
    UsageError without it, or for a URL of no known service.
    """

    def __init__(self, url: str, cache: Path) -> None:
        self.url = url
        # Content-addressed keys agree between buckets, files that lie outside the address need not.
        self._cache = cache / hash_bytes(url.encode())[:16]
        self._bucket = _open(url)

    def create(self, key: str, data: bytes) -> bool:
        """Write unless the key exists; of two writers, on any machines, exactly one gets True.

        A request whose answer was lost is repeated and may then find its own object: False, with
        the same bytes to be read.
        """
        return self._put(check_key(key), data)

    def read(self, key: str) -> bytes:
        """Return the bytes; NotFoundError where there are none."""
        return self._get(check_key(key))

    def list(self, prefix: str) -> Sequence[str]:
        """Return the keys one level below a prefix ("" for the top), sorted.

        A key here is an object, a kept folder, or the start of longer keys.
        """
        import obstore

        start = check_key(prefix) if prefix else ""
        with self._told(f"list {start}"):
            found = obstore.list_with_delimiter(self._bucket, start or None)
        keys = {str(entry["path"]) for entry in found["objects"]} | set(found["common_prefixes"])
        return sorted(key for key in keys if not key.rpartition("/")[2].startswith("."))

    def put_folder(self, key: str, folder: Path) -> None:
        """Upload a folder of files, whole or not at all; where the key is kept already, nothing.

        Where an upload was cut off, the objects that it left are taken over as they are.
        """
        if self._has_listing(check_key(key)):
            return
        if not folder.is_dir():
            raise NotFoundError(f"there is no folder {folder} to keep.")
        hashes = {}
        for path in sorted(folder.rglob("*")):
            if path.is_symlink() or not (path.is_file() or path.is_dir()):
                raise UsageError(
                    f"{path} is neither a file nor a folder.",
                    fix="Put the file itself there: a link does not hold in an object store.",
                )
            name = path.relative_to(folder).as_posix()
            if name == _LISTING:
                raise UsageError(f"a kept folder has no {_LISTING}: the store writes its own.")
            if path.is_file():
                hashes[name] = self._upload(f"{key}/{name}", path.read_bytes())
        self._put(f"{key}/{_LISTING}", canonical_json({"format": _FORMAT, "files": hashes}))

    def folder(self, key: str) -> Path:
        """Return a local copy, fetched at most once into the cache; NotFoundError where absent.

        Every file is checked against the listing while it is fetched; IntegrityError names the one
        that was changed. An interrupted fetch leaves no part.
        """
        path = self._cache / check_key(key)
        if path.is_dir():
            return path
        files = self._listing(key)
        with atomic_folder(path) as aside:
            for name, digest in files.items():
                data = self._get(f"{key}/{name}")
                if hash_bytes(data) != digest:
                    raise IntegrityError(
                        f"{key}/{name} in {self.url} was changed: expected sha256 {digest}, got "
                        f"{hash_bytes(data)}.",
                        fix="Restore the object from a copy of the bucket.",
                    )
                (aside / name).parent.mkdir(parents=True, exist_ok=True)
                (aside / name).write_bytes(data)
        return path

    def _upload(self, key: str, data: bytes) -> str:
        """Create one object of a folder; return the hash of what is there in the end."""
        return hash_bytes(data if self._put(key, data) else self._get(key))

    def _has_listing(self, key: str) -> bool:
        import obstore

        with self._told(f"look for {key}"):
            try:
                obstore.head(self._bucket, f"{key}/{_LISTING}")
            except FileNotFoundError:
                return False
        return True

    def _listing(self, key: str) -> dict[str, str]:
        place = f"{key}/{_LISTING}"
        try:
            data = self._get(place)
        except NotFoundError:
            raise NotFoundError(f"there is no folder {key} in {self.url}.") from None
        try:
            listing = json.loads(data)
        except ValueError:
            listing = None
        listing = listing if isinstance(listing, dict) else {}
        files: Any = listing.get("files")
        # Names become paths on this machine: none may lead out of the folder.
        good = isinstance(files, dict) and all(map(is_key, files))
        if not good or listing.get("format") != _FORMAT:
            raise IntegrityError(
                f"{place} in {self.url} is no listing of a folder in format {_FORMAT}.",
                fix="Restore the object from a copy of the bucket, or upgrade Steelyard.",
            )
        return dict(files)

    def _put(self, key: str, data: bytes) -> bool:
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._told(f"write {key}"):
            try:
                obstore.put(self._bucket, key, data, mode="create")
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def _get(self, key: str) -> bytes:
        import obstore

        with self._told(f"read {key}"):
            try:
                return bytes(obstore.get(self._bucket, key).bytes())
            except FileNotFoundError:
                raise NotFoundError(f"there is no {key} in {self.url}.") from None

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        from obstore.exceptions import BaseError

        try:
            yield
        except (BaseError, OSError, ValueError) as error:
            # The rest of the message is the library's internal view of the error.
            reason = str(error).partition("\n\nDebug source")[0].strip()[:600]
            raise StoreError(
                f"cannot {doing} in {self.url}: {reason}",
                fix="See that the bucket exists, that the service can be reached, and that its "
                "credentials, region and endpoint are in the environment.",
            ) from error


def _open(url: str) -> obstore.store.ObjectStore:
    scheme = url.partition("://")[0]
    if "://" not in url or scheme not in _SCHEMES:
        raise UsageError(
            f"expected a URL of an object store; got {url[:200]!r}.",
            fix="Write s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix; "
            "a folder is given by its path.",
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs the package obstore, which is not installed.",
            fix="Install it: pip install 'steelyard[objectstore]'",
        ) from error
    try:
        if scheme == "memory":
            return from_url("memory:///")
        return from_url(url, retry_config={"max_retries": 5, "retry_timeout": _PATIENCE})
    except (BaseError, ValueError) as error:
        reason = str(error).partition("\n\nDebug source")[0].strip()[:600]
        raise UsageError(
            f"cannot use {url[:200]}: {reason}",
            fix="Write s3://bucket/prefix, gs://bucket/prefix or az://account/container/prefix.",
        ) from error
