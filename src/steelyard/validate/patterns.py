"""Makes up a string that a regular expression finds, for fields of which no example is at hand."""

import importlib
import re
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["example_of"]

_LETTERS: Final = "a1A0 -_.,:/+@#xZ9"
_CATEGORIES: Final = {
    "CATEGORY_DIGIT": "0",
    "CATEGORY_WORD": "a",
    "CATEGORY_SPACE": " ",
    "CATEGORY_NOT_DIGIT": "a",
    "CATEGORY_NOT_WORD": "-",
    "CATEGORY_NOT_SPACE": "a",
}
_EXTRA: Final = 64


def example_of(pattern: str, least: int = 0, most: int | None = None) -> str | None:
    r"""Return a string of `least` to `most` characters that `pattern` finds; None where none is made.

    >>> example_of(r"^[A-Z]{2}-\d{4}$")
    'AA-0000'
    """
    # Python's own parser of regular expressions: it has no public door, so its absence is no error.
    try:
        parsed = importlib.import_module("re._parser").parse(pattern)
    except (ImportError, AttributeError):
        return None
    for extra in (*range(_EXTRA), least):
        made = _Maker(extra).text(parsed)
        for text in (made, made.ljust(least, "x"), made.rjust(least, "x")):
            fitting = least <= len(text) and (most is None or len(text) <= most)
            if fitting and re.search(pattern, text):
                return text
    return None


class _Maker:
    """Walks a parsed expression; repetitions take `extra` more than they must."""

    def __init__(self, extra: int) -> None:
        self._extra = extra
        self._groups: dict[int | None, str] = {}

    def text(self, parsed: Iterable[tuple[Any, Any]]) -> str:
        return "".join(self._one(str(code), argument) for code, argument in parsed)

    def _one(self, code: str, argument: Any) -> str:
        made = ""  # anchors and assertions take no characters; the search has the last word
        match code:
            case "LITERAL":
                made = chr(argument)
            case "NOT_LITERAL":
                made = next(c for c in _LETTERS if ord(c) != argument)
            case "ANY":
                made = "a"
            case "IN":
                made = self._member(argument)
            case "BRANCH":
                made = self.text(argument[1][0])
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT":
                low, high, inner = argument
                times = min(int(high), int(low) + self._extra)
                made = "".join(self.text(inner) for _ in range(times))
            case "SUBPATTERN":
                made = self.text(argument[-1])
                self._groups[argument[0]] = made
            case "ATOMIC_GROUP":
                made = self.text(argument)
            case "GROUPREF":
                made = self._groups.get(argument, "")
        return made

    def _member(self, members: list[tuple[Any, Any]]) -> str:
        if str(members[0][0]) != "NEGATE":
            code, argument = members[0]
            if str(code) == "RANGE":
                return chr(argument[0])
            return _CATEGORIES[str(argument)] if str(code) == "CATEGORY" else chr(argument)
        return next((c for c in _LETTERS if not self._within(members[1:], c)), "~")

    def _within(self, members: list[tuple[Any, Any]], letter: str) -> bool:
        for code, argument in members:
            match str(code):
                case "LITERAL":
                    inside = ord(letter) == argument
                case "RANGE":
                    inside = argument[0] <= ord(letter) <= argument[1]
                case _:
                    kinds = {"D": str.isdigit, "S": str.isspace}
                    name = str(argument).removeprefix("CATEGORY_")
                    plain = kinds.get(name.removeprefix("NOT_")[0])
                    found = plain(letter) if plain else letter.isalnum() or letter == "_"
                    inside = found != name.startswith("NOT_")
            if inside:
                return True
        return False
