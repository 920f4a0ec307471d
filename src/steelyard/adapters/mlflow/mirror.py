"""Brings MLflow up to date with the ledger, after it was down or somebody changed it by hand."""

from collections.abc import Callable, Mapping, Sequence

from steelyard.adapters.mlflow.tracker import MlflowTracker
from steelyard.core.ports import RunRecord
from steelyard.core.records import Version

__all__ = ["mirror"]


def mirror(
    tracker: MlflowTracker,
    versions: Sequence[tuple[Version, Callable[[], RunRecord]]],
    aliases: Mapping[str, int],
) -> list[str]:
    """Make MLflow's versions and aliases of one model those of the ledger; return what was done.

    `versions` are all that the ledger has, each with what makes its run's record again, called
    only where MLflow lacks the version or its newest verdict. `aliases` maps each alias to the
    number of its version. A second call does nothing. Raises StoreError where MLflow refuses;
    what was brought up to date by then stays.
    """
    if not versions:
        return []
    done = []
    by_number = {version.number: (version, record) for version, record in versions}
    model = versions[0][0].model
    there = tracker.versions(model)
    for number in sorted(by_number):
        version, record = by_number[number]
        if there.get(number) != version.verdict:
            tracker.record_version(tracker.record_run(record()), version)
            done.append(f"recorded {version.reference}")
    before = tracker.aliases(model)
    for alias, number in sorted(aliases.items()):
        if before.get(alias) != number:
            tracker.set_alias(by_number[number][0], alias)
            done.append(f"moved {model}@{alias} to {number}")
    for alias in sorted(set(before) - set(aliases)):
        tracker.drop_alias(model, alias)
        done.append(f"removed {model}@{alias}")
    return done
