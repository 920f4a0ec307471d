"""MLflow's description lies beside a bundle: the same each time, outside its hash."""

import json
from pathlib import Path
from typing import Any

import yaml

from steelyard.adapters.mlflow.model import describe, model_files, model_paths
from steelyard.bundle.format import check_files


def test_a_described_bundle_is_as_it_was_sealed(churn: Any) -> None:
    describe(churn.folder, churn.digest)
    assert all(check.ok for check in check_files(churn.folder, churn.digest))


def test_a_description_is_the_same_each_time_and_written_once(churn: Any) -> None:
    describe(churn.folder, churn.digest)
    before = (churn.folder / "MLmodel").stat().st_mtime_ns
    describe(churn.folder, churn.digest)
    assert (churn.folder / "MLmodel").stat().st_mtime_ns == before
    for name, data in model_files(churn.folder, churn.digest).items():
        assert (churn.folder / name).read_bytes() == data


def test_requirements_are_named_by_version(churn: Any) -> None:
    import mlflow

    import steelyard

    describe(churn.folder, churn.digest)
    text = Path(mlflow.pyfunc.get_model_dependencies(str(churn.folder))).read_text()
    assert text.split() == [f"steelyard=={steelyard.__version__}", f"mlflow=={mlflow.__version__}"]
    environment = yaml.safe_load((churn.folder / "mlflow/python_env.yaml").read_text())
    assert environment["dependencies"] == text.split()


def test_what_is_uploaded_is_the_bundle_and_its_description(churn: Any) -> None:
    describe(churn.folder, churn.digest)
    (churn.folder / "registered_model_meta").write_text("MLflow leaves this at a load")
    manifest = json.loads((churn.folder / "manifest.json").read_bytes())
    wanted = {*manifest["files"], "manifest.json", "MLmodel"}
    wanted |= {"mlflow/conda.yaml", "mlflow/python_env.yaml"}
    paths = model_paths(churn.folder)
    assert {path.relative_to(churn.folder).as_posix() for path in paths} == wanted
    assert paths[-1].name == "MLmodel"
