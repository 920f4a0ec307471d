"""A reference to a version: `churn`, `churn@champion`, `churn@3`, `churn@sha256:ab12...`."""

import re
from dataclasses import dataclass

from steelyard.errors import UsageError

__all__ = ["CHAMPION", "Reference", "check_name"]

CHAMPION = "champion"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}")
_HASH = re.compile(r"[0-9a-f]{4,64}")


def check_name(name: str, *, what: str = "model name") -> str:
    """Return `name` where it is safe in a path, a URL and a metric label; else raise UsageError."""
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{what} must be 1 to 63 letters, digits, '_' or '-', starting with a letter or "
            f"digit; got {name!r}.",
            fix="Rename it, for example: churn, late_flights, price-eu.",
        )
    return name


@dataclass(frozen=True, slots=True)
class Reference:
    """A model's name and one of: a version number, a bundle hash (or its start), an alias."""

    model: str
    version: int | None = None
    bundle: str | None = None
    alias: str | None = None

    @classmethod
    def parse(cls, text: str) -> "Reference":
        """Read a reference; `@champion` when nothing follows the name.

        >>> Reference.parse("churn").alias
        'champion'
        >>> Reference.parse("churn@3").version
        3
        """
        name, at, rest = text.partition("@")
        check_name(name)
        if not at:
            return cls(name, alias=CHAMPION)
        if rest.isdecimal() and rest.isascii():
            return cls(name, version=int(rest))
        if rest.startswith("sha256:"):
            digest = rest.removeprefix("sha256:")
            if not _HASH.fullmatch(digest):
                raise UsageError(
                    f"a bundle hash is 4 to 64 hexadecimal digits; got {digest!r}.",
                    fix="Copy it from `steelyard models` or `steelyard show`.",
                )
            return cls(name, bundle=digest)
        return cls(name, alias=check_name(rest, what="alias"))

    def __str__(self) -> str:
        if self.version is not None:
            return f"{self.model}@{self.version}"
        if self.bundle is not None:
            return f"{self.model}@sha256:{self.bundle}"
        return f"{self.model}@{self.alias}"
