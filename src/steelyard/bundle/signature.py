"""Signatures over bundles, in the format of OpenSSF Model Signing with an elliptic-curve key.

A signature is a sigstore bundle: a DSSE envelope around an in-toto statement that lists the sha256 of
every file. `model_signing verify key` reads what is written here, and what `model_signing sign key`
wrote is read here. The statement covers `manifest.json`, whose hash is the bundle's, and that covers
every file that answers; so nothing but `cryptography` is needed to hold a bundle to its signature.

Sources: the DSSE protocol, the in-toto statement v1, the sigstore bundle 0.3, and the predicate
`https://model_signing/signature/v1.0`.
"""

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from steelyard.bundle.format import MANIFEST
from steelyard.core.hashing import hash_bytes
from steelyard.errors import SignatureError, UsageError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.hashes import HashAlgorithm

__all__ = ["EncryptedKeyError", "SigningKey", "Trust", "signer_of"]

_MEDIA: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
_PAYLOAD: Final = "application/vnd.in-toto+json"
_STATEMENT: Final = "https://in-toto.io/Statement/v1"
_PREDICATE: Final = "https://model_signing/signature/v1.0"
_BESIDE: Final = ("MLmodel", "mlflow", "model.sig", "verdict.json")
"""What may lie in a bundle's folder and is no part of it."""
_CURVES: Final = {"secp256r1": "SHA256", "secp384r1": "SHA384", "secp521r1": "SHA512"}
_LONGEST: Final = 1024 * 1024
_PUBLIC = re.compile(rb"-----BEGIN PUBLIC KEY-----.+?-----END PUBLIC KEY-----", re.DOTALL)


class EncryptedKeyError(UsageError):
    """A private key needs a password, or another than was given."""


class SigningKey:
    """A private key on the curve P-256, P-384 or P-521, from a PEM file."""

    def __init__(self, path: Path, password: str | None = None) -> None:
        _needs_cryptography()
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        data = _read(path)
        try:
            key = load_pem_private_key(data, password.encode() if password else None)
        except TypeError:
            raise EncryptedKeyError(f"{path} is encrypted.", fix="Give its password.") from None
        except ValueError as error:
            if b"ENCRYPTED" in data:
                raise EncryptedKeyError(
                    f"the password does not open {path}.", fix="Give its password."
                ) from None
            raise _no_key(path, "private") from error
        self._key: EllipticCurvePrivateKey = _on_a_curve(key, path, "private")
        self.id = _key_id(self._key.public_key())

    def sign(self, files: Mapping[str, str]) -> bytes:
        """Return the signature of a bundle from the sha256 of each of its files, manifest included."""
        from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

        payload = json.dumps(_statement(files)).encode()
        signed = self._key.sign(_dsse(payload), ECDSA(_hash_of(self._key.public_key())))
        envelope = {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": _PAYLOAD,
            "signatures": [{"sig": base64.b64encode(signed).decode(), "keyid": ""}],
        }
        material = {"publicKey": {"hint": self.id}, "tlogEntries": []}
        document = {
            "mediaType": _MEDIA,
            "verificationMaterial": material,
            "dsseEnvelope": envelope,
        }
        return json.dumps(document).encode()


class Trust:
    """The public keys of those whose signatures count: the PEM blocks of one file."""

    def __init__(self, path: Path) -> None:
        _needs_cryptography()
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        self.path = path
        self._keys: dict[str, EllipticCurvePublicKey] = {}
        for block in _PUBLIC.findall(_read(path)):
            try:
                key = _on_a_curve(load_pem_public_key(block), path, "public")
            except ValueError as error:
                raise _no_key(path, "public") from error
            self._keys[_key_id(key)] = key
        if not self._keys:
            raise _no_key(path, "public")

    def check(self, bundle: str, signatures: Sequence[bytes], what: str) -> str:
        """Return the id of the trusted key that signed the bundle with this hash.

        Raises SignatureError, which names `what`, where none of the signatures is of that bundle
        and by a key that is trusted.
        """
        reasons = []
        for data in signatures:
            try:
                return self._signer(bundle, data)
            except _UnfitError as error:
                reasons.append(str(error))
        why = "; ".join(dict.fromkeys(reasons)) or "it is not signed"
        raise SignatureError(
            f"{what} has no signature that {self.path} trusts: {why}.",
            fix=f"Whoever vouches for it signs it: steelyard sign {what} --key KEY.pem",
        )

    def _signer(self, bundle: str, data: bytes) -> str:
        document = _parsed(data)
        envelope = document["dsseEnvelope"]
        hint = document["verificationMaterial"].get("publicKey", {}).get("hint")
        keys = self._keys if not hint else {k: v for k, v in self._keys.items() if k == hint}
        if not keys:
            raise _UnfitError(f"it is signed by another key, {str(hint)[:16]}")
        payload = _decoded(envelope["payload"])
        [signature] = envelope["signatures"]
        signer = next(
            (k for k, key in keys.items() if _verifies(key, _decoded(signature["sig"]), payload)),
            None,
        )
        if signer is None:
            raise _UnfitError("the signature does not fit what it is of")
        if _signed_manifest(payload) != bundle:
            raise _UnfitError("the signature is of another bundle")
        return signer


class _UnfitError(Exception):
    """Why one signature does not count."""


def signer_of(data: bytes) -> str:
    """Return the id of the key that a signature says it was made with; "" where it says none.

    Nothing is verified.
    """
    try:
        hint = _parsed(data)["verificationMaterial"]["publicKey"]["hint"]
    except (_UnfitError, KeyError, TypeError):
        return ""
    return hint if isinstance(hint, str) and re.fullmatch(r"[0-9a-f]{64}", hint) else ""


def _parsed(data: bytes) -> dict[str, Any]:
    """Return a sigstore bundle whose members are of the kinds that are read."""
    document: Any = None
    try:
        document = json.loads(data) if len(data) <= _LONGEST else None
        envelope = document["dsseEnvelope"]
        texts = (envelope["payload"], envelope["signatures"][0]["sig"])
        good = (
            document["mediaType"] == _MEDIA
            and envelope["payloadType"] == _PAYLOAD
            and len(envelope["signatures"]) == 1
            and all(isinstance(text, str) for text in texts)
            and isinstance(document["verificationMaterial"].get("publicKey", {}), dict)
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, RecursionError):
        good = False
    if not good:
        raise _UnfitError("a signature is no sigstore bundle around one signed in-toto statement")
    return dict(document)


def _signed_manifest(payload: bytes) -> str:
    """Return the sha256 of the manifest that a statement, whose signature was verified, covers."""
    try:
        statement = json.loads(payload)
        predicate = statement["predicate"]
        serialization = predicate["serialization"]
        kinds = (statement["_type"], statement["predicateType"])
        how = (serialization["method"], serialization["hash_type"])
        listed = {r["name"]: r["digest"] for r in predicate["resources"]}
        root = hashlib.sha256(b"".join(bytes.fromhex(r["digest"]) for r in predicate["resources"]))
        [subject] = statement["subject"]
        whole = subject["digest"]["sha256"] == root.hexdigest() and all(
            r["algorithm"] == "sha256" for r in predicate["resources"]
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _UnfitError("what is signed is no statement about a model") from None
    if kinds != (_STATEMENT, _PREDICATE) or how != ("files", "sha256") or not whole:
        raise _UnfitError("what is signed is no statement of the sha256 of a model's files")
    if len(listed) != len(predicate["resources"]) or MANIFEST not in listed:
        raise _UnfitError(f"what is signed has no {MANIFEST}: it is no bundle")
    return str(listed[MANIFEST])


def _statement(files: Mapping[str, str]) -> dict[str, Any]:
    resources = [
        {"name": name, "algorithm": "sha256", "digest": digest}
        for name, digest in sorted(files.items())
    ]
    root = hashlib.sha256(b"".join(bytes.fromhex(digest) for _, digest in sorted(files.items())))
    return {
        "_type": _STATEMENT,
        "subject": [{"name": files[MANIFEST], "digest": {"sha256": root.hexdigest()}}],
        "predicateType": _PREDICATE,
        "predicate": {
            "serialization": {
                "method": "files",
                "hash_type": "sha256",
                "allow_symlinks": False,
                "ignore_paths": list(_BESIDE),
            },
            "resources": resources,
        },
    }


def _dsse(payload: bytes) -> bytes:
    """Return what is signed of an envelope: its type and payload, each with its length before it."""
    return b"DSSEv1 %d %b %d %b" % (len(_PAYLOAD), _PAYLOAD.encode(), len(payload), payload)


def _verifies(key: "EllipticCurvePublicKey", signature: bytes, payload: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ec import ECDSA

    try:
        key.verify(signature, _dsse(payload), ECDSA(_hash_of(key)))
    except InvalidSignature:
        return False
    return True


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        raise _UnfitError("a signature is not in base64") from None


def _hash_of(key: "EllipticCurvePublicKey") -> "HashAlgorithm":
    from cryptography.hazmat.primitives import hashes

    made: HashAlgorithm = getattr(hashes, _CURVES[key.curve.name])()
    return made


def _key_id(key: "EllipticCurvePublicKey") -> str:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return hash_bytes(key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))


def _on_a_curve(key: Any, path: Path, kind: str) -> Any:
    curve = getattr(getattr(key, "curve", None), "name", None)
    if curve not in _CURVES:
        raise _no_key(path, kind)
    return key


def _no_key(path: Path, kind: str) -> UsageError:
    make = "openssl ecparam -name prime256v1 -genkey -noout -out key.pem"
    if kind == "public":
        make = "openssl ec -in key.pem -pubout -out key.pub"
    return UsageError(
        f"{path} has no {kind} key on the curve P-256, P-384 or P-521 in PEM form.",
        fix=f"Make one: {make}",
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"cannot read the key {path}: {error.strerror}.", fix="Give the path of a PEM file."
        ) from None


def _needs_cryptography() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise UsageError(
            "signatures need the package cryptography, which is not installed.",
            fix="Install it: pip install 'steelyard[sign]'",
        ) from None
