import subprocess
import sys

import pytest

import steelyard

HEAVY = {
    "duckdb",
    "lightgbm",
    "matplotlib",
    "mlflow",
    "numpy",
    "onnx",
    "onnxruntime",
    "pandas",
    "polars",
    "pyarrow",
    "scipy",
    "sklearn",
    "torch",
}
# What pydantic itself needs is pydantic's business.
OF_THE_CORE = {
    "annotated_types",
    "msgspec",
    "pydantic",
    "pydantic_core",
    "typing_extensions",
    "typing_inspection",
}


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter has loaded because it ran `code`."""
    script = (
        "import sys; before = set(sys.modules)\n"
        f"{code}\n"
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before})"
    )
    # -I: neither the caller's folder nor its environment decides what is found.
    done = subprocess.run(
        [sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True, timeout=60
    )
    # One module of the standard library is named after the platform and so on no list.
    return {
        name
        for name in done.stdout.split()
        if name not in sys.stdlib_module_names and not name.startswith("_sysconfigdata")
    }


@pytest.mark.parametrize(
    "code",
    ["import steelyard", "from steelyard import *", "import steelyard.cli"],
    ids=["package", "public names", "command line"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    loaded = loaded_by(code)
    assert "steelyard" in loaded
    assert not loaded & HEAVY


def test_public_names_load_only_what_the_core_may_use() -> None:
    assert loaded_by("from steelyard import *") <= {"steelyard"} | OF_THE_CORE


def test_loaded_by_sees_what_a_module_brings() -> None:
    assert "sklearn" in loaded_by("import sklearn")


def test_public_names_are_sorted_and_there() -> None:
    names = list(steelyard.__all__)
    assert names == sorted(names)
    assert len(names) == len(set(names))
    assert not [name for name in names if not hasattr(steelyard, name)]
