"""Signatures of bundles, kept beside them: `signatures/<bundle>/<key>.json`, one a key at most."""

from steelyard.bundle.signature import Trust
from steelyard.core.ports import Store
from steelyard.errors import IntegrityError

__all__ = ["Signatures"]


class Signatures:
    """The signatures in a store, and whose of them count; without `trust` none is asked for."""

    def __init__(self, store: Store, trust: Trust | None = None) -> None:
        self._store = store
        self.trust = trust

    def keep(self, bundle: str, key: str, signature: bytes) -> bool:
        """Keep the signature of a key; False where that key has signed the bundle before."""
        return self._store.create(f"{_prefix(bundle)}/{key}.json", signature)

    def of(self, bundle: str) -> list[bytes]:
        """Return every signature of a bundle."""
        return [self._store.read(key) for key in self._store.list(_prefix(bundle))]

    def check(self, bundle: str, what: str) -> str:
        """Return the id of the trusted key that signed a bundle; "" where no trust is configured.

        Raises SignatureError, which names `what`, where there is none.
        """
        return self.trust.check(bundle, self.of(bundle), what) if self.trust else ""


def _prefix(bundle: str) -> str:
    if len(bundle) != 64:
        raise IntegrityError(f"{bundle[:80]!r} is no hash of a bundle.")
    return f"signatures/{bundle}"
