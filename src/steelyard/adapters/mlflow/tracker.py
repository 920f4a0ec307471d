"""`MlflowTracker`: MLflow receives every run, model, version and alias, and is never asked which counts.

The embedded tracker keeps no second copy of a bundle: its models point into Steelyard's store. A
server gets the bundle's files once, as its own copy.
"""

import json
import os
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit
from urllib.request import url2pathname

from steelyard.adapters.mlflow.connection import Connection
from steelyard.adapters.mlflow.entries import (
    PREFIX,
    artifacts_of,
    batches,
    run_tags,
    version_note,
    version_tags,
)
from steelyard.adapters.mlflow.model import describe, model_paths
from steelyard.core.ports import RunRecord
from steelyard.core.records import Version
from steelyard.errors import StoreError

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Run
    from mlflow.entities.model_registry import ModelVersion

__all__ = ["MlflowTracker"]

_FOLDER: Final = f"{PREFIX}folder"
_KIND: Final = {"mlflow.experimentKind": "custom_model_development"}
"""By this its interface shows what belongs to trained models first, not what to language models."""
_PAGE: Final = 200
_VERSIONS_TAG: Final = "mlflow.modelVersions"


class MlflowTracker:
    """`core.ports.Tracker` over MLflow 3: embedded where `artifacts` is given, else a server.

    `uri` is MLflow's tracking URI. `artifacts` is the folder in which the embedded tracker keeps
    verdicts, plots and documents; its database is then made at first use. Nothing is imported or
    opened before that. Where MLflow cannot take a record, StoreError says what to do.
    """

    def __init__(self, uri: str, *, artifacts: Path | None) -> None:
        self._connection = Connection(uri, artifacts)

    def warm(self) -> None:
        """Import MLflow and open its store, so that recording is quick; raises StoreError."""
        with self._connection.doing("be opened"):
            pass

    def record_run(self, run: RunRecord) -> str:
        """Record a run with its model; return MLflow's id of it.

        Two runs that made the same bundle share one model.
        """
        with self._connection.doing(f"record a run of {run.model}") as client:
            experiment = self._experiment(client, run.model)
            found = client.create_run(experiment, run_name=run.model, tags=run_tags(run))
            identifier: str = found.info.run_id
            try:
                self._fill(client, identifier, experiment, run)
            except BaseException:
                self._give_up(client, identifier)
                raise
            client.set_terminated(identifier, "FINISHED")
            return identifier

    def record_version(self, run: str, version: Version) -> None:
        """Mirror a registered version of the model that a run produced.

        A version that MLflow has already is not made again; its verdict is brought up to date.
        """
        doing = f"record {version.reference}"
        with self._connection.doing(doing) as client, self._connection.exclusive():
            found = client.get_run(run)
            made = found.data.tags.get(f"{PREFIX}bundle")
            if made != version.bundle:
                raise StoreError(
                    f"MLflow's run {run} made bundle {made}; {version.reference} is {version.bundle}.",
                    fix="Give the run that made the version.",
                )
            tags = version_tags(version, found.data.tags)
            known = _version(client, version)
            if known is None:
                logged = client.get_logged_model(_made_model(found))
                known = _register(client, version, run, logged, tags)
            else:
                _renew(client, known, tags)
            client.update_model_version(known.name, known.version, version_note(version, tags))
            client.set_tag(run, f"{PREFIX}version", str(version.number))
            client.update_run(run, name=version.reference)

    def set_alias(self, version: Version, alias: str) -> None:
        """Mirror an alias move; StoreError where MLflow has no such version."""
        with self._connection.doing(f"move {version.model}@{alias}") as client:
            known = _version(client, version)
            if known is None:
                raise StoreError(
                    f"MLflow has no {version.reference} to which {alias} could move.",
                    fix="Run its definition again: the same version is then recorded.",
                )
            client.set_registered_model_alias(known.name, alias, known.version)

    def drop_alias(self, model: str, alias: str) -> None:
        """Remove an alias that the ledger does not have."""
        with self._connection.doing(f"remove {model}@{alias}") as client:
            client.delete_registered_model_alias(model, alias)

    def aliases(self, model: str) -> Mapping[str, int]:
        """Return alias -> Steelyard version number as MLflow has it; 0 for a version not ours."""
        if self._unused:
            return {}
        with self._connection.doing(f"tell the aliases of {model}") as client:
            numbers = {int(v.version): _number(v) for v in _versions(client, model)}
            if not numbers:
                return {}
            found = client.get_registered_model(model).aliases
            return {alias: numbers.get(int(number), 0) for alias, number in sorted(found.items())}

    def versions(self, model: str) -> Mapping[int, str]:
        """Return Steelyard version number -> verdict hash of the versions that MLflow has."""
        if self._unused:
            return {}
        with self._connection.doing(f"tell the versions of {model}") as client:
            found = {
                _number(v): v.tags.get(f"{PREFIX}verdict", "") for v in _versions(client, model)
            }
            return {number: found[number] for number in sorted(found) if number}

    @property
    def _unused(self) -> bool:
        """Whether nothing was ever recorded: then nobody need wait for MLflow to say so."""
        database = self._connection.database
        return database is not None and not database.exists()

    def _experiment(self, client: "MlflowClient", model: str) -> str:
        """Return the id of the model's experiment; it bears the model's name."""
        from mlflow.exceptions import MlflowException

        found = client.get_experiment_by_name(model)
        if found is None:
            artifacts = self._connection.artifacts
            place = None if artifacts is None else (artifacts / model).as_uri()
            try:
                return client.create_experiment(model, artifact_location=place, tags=_KIND)
            except MlflowException as error:
                found = client.get_experiment_by_name(model)
                if found is None:
                    raise StoreError(
                        f"MLflow cannot make the experiment {model}: {error}"
                    ) from error
        if found.lifecycle_stage == "deleted":
            client.restore_experiment(found.experiment_id)
        return found.experiment_id

    def _fill(self, client: "MlflowClient", run: str, experiment: str, record: RunRecord) -> None:
        from mlflow.entities import LoggedModelOutput

        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            for name, data in artifacts_of(record).items():
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                (folder / name).write_bytes(data)
            client.log_artifacts(run, scratch)
        logged = self._logged_model(client, run, experiment, record)
        client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
        now = int(time.time() * 1000)
        for batch in batches(record, identifier=run, model=logged.model_id, at=now):
            client.log_batch(run, **batch)

    def _logged_model(
        self, client: "MlflowClient", run: str, experiment: str, record: RunRecord
    ) -> "LoggedModel":
        """Return MLflow's model of a bundle, made where it has none that is whole."""
        digest = record.verdict.bundle
        describe(record.bundle, digest)
        for found in client.search_logged_models(
            [experiment], filter_string=f"tags.`{PREFIX}bundle` = '{digest}'"
        ):
            if found.status == "READY":
                return found
        folder = {_FOLDER: record.bundle.resolve().as_uri()} if self._connection.artifacts else {}
        made = client.create_logged_model(
            experiment,
            name=record.model,
            source_run_id=run,
            tags={f"{PREFIX}bundle": digest, **folder},
            model_type="steelyard",
        )
        if folder:
            _link(made.artifact_location, record.bundle)
        else:
            _upload(client, made.model_id, record.bundle)
        return client.finalize_logged_model(made.model_id, "READY")

    @staticmethod
    def _give_up(client: "MlflowClient", run: str) -> None:
        from mlflow.exceptions import MlflowException

        # Where this fails too, the error that led here is the one to tell.
        with suppress(MlflowException, OSError):
            client.set_terminated(run, "FAILED")


def _link(location: str, bundle: Path) -> None:
    """Let a model's folder be the bundle in the store: MLflow reads it, and there is one copy."""
    place = Path(url2pathname(urlsplit(location).path))
    place.parent.mkdir(parents=True, exist_ok=True)
    place.symlink_to(os.path.relpath(bundle.resolve(), place.parent.resolve()))


def _upload(client: "MlflowClient", model: str, bundle: Path) -> None:
    for path in model_paths(bundle):
        inside = path.parent.relative_to(bundle).as_posix()
        client.log_model_artifact(model, str(path), None if inside == "." else inside)


def _versions(client: "MlflowClient", model: str, where: str = "") -> "list[ModelVersion]":
    found: list[ModelVersion] = []
    token = None
    while True:
        page = client.search_model_versions(
            f"name = '{model}'{where}", max_results=_PAGE, page_token=token
        )
        found += page
        token = page.token
        if not token:
            return sorted(found, key=lambda version: int(version.version))


def _version(client: "MlflowClient", version: Version) -> "ModelVersion | None":
    where = f" AND tags.`{PREFIX}version` = '{version.number}'"
    return next(iter(_versions(client, version.model, where)), None)


def _made_model(run: "Run") -> str:
    made = run.outputs.model_outputs if run.outputs else []
    if not made:
        raise StoreError(
            f"MLflow's run {run.info.run_id} has no model.", fix="Record the run again."
        )
    return made[0].model_id


def _number(version: "ModelVersion") -> int:
    """Return Steelyard's number of a version; 0 where somebody else registered it."""
    text = version.tags.get(f"{PREFIX}version", "")
    return int(text) if text.isdecimal() else 0


def _register(
    client: "MlflowClient", version: Version, run: str, logged: "LoggedModel", tags: dict[str, str]
) -> "ModelVersion":
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(version.model, tags={"steelyard": "true"})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    made = client.create_model_version(
        version.model,
        source=logged.tags.get(_FOLDER, logged.artifact_location),
        run_id=run,
        tags=tags,
        model_id=logged.model_id,
    )
    # The page of a model links to its versions by this tag of MLflow's own.
    listed = json.loads(logged.tags.get(_VERSIONS_TAG, "[]"))
    listed.append({"name": made.name, "version": str(made.version)})
    client.set_logged_model_tags(logged.model_id, {_VERSIONS_TAG: json.dumps(listed)})
    return made


def _renew(client: "MlflowClient", known: "ModelVersion", tags: dict[str, str]) -> None:
    """Bring a version's tags up to date; a newer verdict may differ in all that it says."""
    for name in known.tags:
        if name.startswith(PREFIX) and name not in tags:
            client.delete_model_version_tag(known.name, known.version, name)
    for name, value in tags.items():
        if known.tags.get(name) != value:
            client.set_model_version_tag(known.name, known.version, name, value)
