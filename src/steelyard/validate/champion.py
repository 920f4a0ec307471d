"""Gate champion: the model is as good as the one that answers now, on rows new to both.

- Answers that mean something else (another label, other classes) cannot be compared, nor can a
  champion that cannot answer these rows. Then the check fails, and a waiver says that it is meant.
- Where fewer than fifty held-out rows are new to the champion, it is compared on all of them, which
  favours the champion. Who is not worse even so, passes. Who is, passes flagged: nothing is proven
  either way, and failing would block every later version of a table that does not grow.
"""

from collections.abc import Iterator
from typing import Any, Final

import numpy as np

from steelyard.core.records import Check
from steelyard.core.splits import GroupSplit
from steelyard.features.parts import Scores
from steelyard.validate.candidate import Candidate, ChampionEvidence
from steelyard.validate.evidence import found
from steelyard.validate.resampling import compare_scores
from steelyard.validate.rows import take_scores
from steelyard.validate.settings import Settings

__all__ = ["check_champion"]

_ENOUGH: Final = 50
_NAME: Final = "not worse than champion"


def check_champion(candidate: Candidate) -> Iterator[Check]:
    """Judge against the champion on held-out rows that neither learned from."""
    champion = candidate.champion
    if champion is None:
        yield found("champion", _NAME, True, "This is the first version: there is no champion.")
        return
    version = champion.version
    if champion.incompatible:
        told = (
            f"{champion.incompatible}, so its answers mean something else than those of {version}. "
            'Give the model another name, or write waive("champion", reason=...).'
        )
        yield found("champion", _NAME, False, told, champion=version)
        return
    if champion.predict is None:
        told = (
            f"{version} cannot answer these rows: {champion.reason or 'no reason was given'}. "
            'Where that is meant, write waive("champion", reason=...).'
        )
        yield found("champion", _NAME, False, told, champion=version)
        return
    yield _compare(candidate, champion)


def _compare(candidate: Candidate, champion: ChampionEvidence) -> Check:
    settings = Settings.of(candidate.definition).champion
    test = candidate.test
    new = ~champion.seen(test)
    enough = int(new.sum()) >= _ENOUGH
    used = np.flatnonzero(new) if enough else np.arange(len(test))
    part = test.take(used)
    assert champion.predict is not None
    rival = _aligned(champion.predict(part.columns), candidate.scores)
    difference = compare_scores(
        part,
        take_scores(candidate.scores, used),
        rival,
        metric=settings.metric,
        train_rows=len(candidate.train),
        grouped=isinstance(candidate.definition.split, GroupSplit),
    )
    worse = difference.low > settings.tolerance
    told = (
        f"{difference.metric} {difference.first:.5g} against {difference.second:.5g} of "
        f"{champion.version} on {len(used)} held-out rows"
    )
    if enough:
        told += " that neither learned from"
    ending = ": not worse."
    if worse and enough:
        ending = ": worse. Improve the model, or accept a difference with Champion(tolerance=...)."
    elif not enough:
        ending = f", of which {len(test) - int(new.sum())} are known to {champion.version}"
        ending += ": not worse even so." if not worse else ": nothing is proven. Hold out new rows."
    evidence: dict[str, Any] = {"champion": champion.version, "new_rows": int(new.sum())}
    return found(
        "champion",
        _NAME,
        not (worse and enough),
        told + ending,
        value=difference.first,
        threshold=difference.second,
        flagged=worse and not enough,
        tolerance=settings.tolerance,
        **evidence,
        **difference.document(),
    )


def _aligned(answered: Scores, own: Scores) -> Scores:
    """Return answers with their classes in the candidate's order."""
    if own.classes is None or answered.classes is None or answered.probabilities is None:
        return answered
    order = [answered.classes.index(label) for label in own.classes]
    return Scores(answered.prediction, answered.probabilities[:, order], own.classes)
