"""Print the size of each package in the running environment, the largest first.

Bytecode does not count: it is written as modules are imported. Nor does what built the environment.
"""

from importlib.metadata import Distribution, distributions
from pathlib import Path

BUILD_TOOLS = {"flit_core", "pip", "setuptools"}


def megabytes(distribution: Distribution) -> float:
    """Size of the files that a package installed, in millions of bytes."""
    paths = (Path(str(distribution.locate_file(file))) for file in distribution.files or ())
    kept = (path for path in paths if path.suffix != ".pyc" and path.is_file())
    return sum(path.lstat().st_size for path in kept) / 1e6


sizes = {
    f"{d.name} {d.version}": megabytes(d) for d in distributions() if d.name not in BUILD_TOOLS
}
for name, size in sorted(sizes.items(), key=lambda item: -item[1]):
    print(f"{size:8.1f} MB  {name}")
print(f"{sum(sizes.values()):8.1f} MB  in {len(sizes)} packages")
