"""What a model was made with: Python, the platform and the packages that could matter."""

import platform
import re
import sys
from importlib import metadata
from typing import Any

__all__ = ["environment", "lock_text", "package_of"]

_NAME = re.compile(r"^([A-Za-z0-9._-]+)")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def _wanted(requirement: str) -> bool:
    """Whether a requirement belongs to the base or the train environment."""
    _, _, marker = requirement.partition(";")
    return "extra" not in marker or bool(re.search(r"extra\s*==\s*['\"]train['\"]", marker))


def _closure(start: set[str]) -> dict[str, str]:
    """Return name -> version of the installed packages that `start` needs, itself included."""
    found: dict[str, str] = {}
    queue = sorted(start)
    while queue:
        name = _normal(queue.pop())
        if name in found:
            continue
        try:
            package = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue  # optional on this platform, or not chosen
        found[name] = package.version
        for requirement in package.requires or []:
            match = _NAME.match(requirement)
            if match and _wanted(requirement):
                queue.append(match[1])
    return dict(sorted(found.items()))


def package_of(value: object) -> str:
    """Return the name of the distribution that defines an object's class.

    >>> import pydantic
    >>> package_of(pydantic.BaseModel)
    'pydantic'
    """
    module = (value if isinstance(value, type) else type(value)).__module__.partition(".")[0]
    return next(iter(metadata.packages_distributions().get(module, [module])))


def environment(*packages: str) -> dict[str, Any]:
    """Return Python's version, the platform, and the packages that a run depends on.

    These are Steelyard's own, with those of training, and what `packages` need. Tools that merely
    lie in the same environment do not enter, so that they do not make a new version.
    """
    return {
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": f"{platform.system()}-{platform.machine()}".lower(),
        "packages": _closure({"steelyard", *packages}),
    }


def lock_text(found: dict[str, Any]) -> bytes:
    """Return an environment's packages as a requirements file."""
    lines = [f"{name}=={version}" for name, version in found["packages"].items()]
    return (
        "\n".join([f"# Python {found['python']} on {found['platform']}", *lines]) + "\n"
    ).encode()
