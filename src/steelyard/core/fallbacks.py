"""What answers where the model does not: a constant, a rule, or the champion before."""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from steelyard.errors import DefinitionError

__all__ = ["Constant", "Fallback", "PreviousChampion", "Rule"]

Label = str | int | bool
_SUM_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Constant:
    """The fallback that answers every row alike.

    For a regression, a number; for a binary model, the probability of `positive`; otherwise a label,
    or a probability for each label.
    """

    value: float | Label | Mapping[Label, float]

    def __post_init__(self) -> None:
        given: Any = self.value
        if isinstance(given, Mapping):
            shares = list(given.values())
            numbers = all(type(share) in (int, float) and 0 <= share <= 1 for share in shares)
            if not numbers or abs(sum(shares) - 1) > _SUM_TOLERANCE:
                raise DefinitionError(
                    f"expected probabilities that sum to 1; got {given!r:.80}.",
                    field="fallback",
                    fix='Write, for example, sy.Constant({"low": 0.7, "high": 0.3}).',
                )
        elif not isinstance(given, (int, float, str)) or (
            isinstance(given, float) and not math.isfinite(given)
        ):
            raise DefinitionError(
                f"expected a number, a label or probabilities; got {given!r:.80}.",
                field="fallback",
                fix="Write, for example, sy.Constant(0.3).",
            )


@dataclass(frozen=True, slots=True)
class Rule:
    """The fallback that answers by a function `f(xp, columns)` of the row, as row features are.

    It returns an array: the number, or the probability of `positive`; or `{label: array}` with a
    probability for each label. It is traced once into the bundle, and runs nowhere else.

    >>> Rule(lambda xp, c: xp.where(c.tenure < 6, 0.6, 0.2)).function.__name__
    '<lambda>'
    """

    function: Callable[[Any, Any], Any]

    def __post_init__(self) -> None:
        given: Any = self.function
        if not callable(given) or len(inspect.signature(given).parameters) != 2:
            raise DefinitionError(
                "a rule is a function of two arguments, the array namespace and the columns; got "
                f"{getattr(given, '__name__', given)!r:.80}.",
                field="fallback",
                fix="Write def rule(xp, c): return xp.where(c.tenure < 6, 0.6, 0.2)",
            )


@dataclass(frozen=True, slots=True)
class PreviousChampion:
    """The fallback that answers with the version that was champion before.

    Where there is none, or it cannot answer either, `otherwise` does.
    """

    otherwise: Constant | Rule | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.otherwise, (Constant, Rule, type(None))):
            raise DefinitionError(
                f"otherwise: expected a constant or a rule; got {self.otherwise!r:.80}.",
                field="fallback",
                fix="Write, for example, sy.PreviousChampion(otherwise=sy.Constant(0.3)).",
            )


Fallback = Constant | Rule | PreviousChampion
