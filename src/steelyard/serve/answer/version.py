"""A verified version and the texts of its answers and log records, made ready once at load."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import msgspec

from steelyard.bundle.predictor import Answer, Predictor
from steelyard.core.answers import class_keys
from steelyard.core.validation import RowDecoder
from steelyard.serve.answer.answered import PLAIN, Mark
from steelyard.serve.answer.collapse import Collapse
from steelyard.serve.answer.texts import Texts
from steelyard.serve.observe.tallies import OutputProfile

__all__ = ["Entry", "Follow", "LoadedVersion", "Served", "load"]


@dataclass(frozen=True, slots=True)
class Served:
    """The version that an endpoint is to serve: its number, and where its bundle lies.

    `previous` is the folder and hash of the champion's bundle before, where it falls back on that.
    """

    version: int
    bundle: str
    folder: Path
    previous: tuple[Path, str] | None = None


class Entry(NamedTuple):
    """What the log holds beside a prediction and its row: id, RFC 3339 time, microseconds, mark."""

    prediction_id: str
    at: str
    microseconds: int
    mark: Mark = PLAIN


class Follow(Protocol):
    """Says which version an endpoint is to serve now; cheap enough to be asked all the time."""

    def __call__(self) -> Served:
        """Return the version that is wanted now."""


class LoadedVersion:
    """A version that is ready to answer; its guards have seen to it that an answer is finite.

    Answers and records are put together from texts that are made once and from the numbers' shortest
    decimal forms, which read back as the same bits.
    """

    def __init__(self, served: Served, predictor: Predictor) -> None:
        self.served = served
        self.predictor = predictor
        self.decoder: RowDecoder = predictor.decoder
        self.fallback: Callable[[Sequence[Any]], Answer | None] | None = None
        """Answers a row's values where the model does not; None where it cannot either."""
        if predictor.fallback.kind != "none":
            self.fallback = predictor.fallback.answer_one
        self.golden_row = predictor.golden_rows()[0]
        self.golden_answer = predictor.predict_one(self.golden_row)
        self.names = frozenset(field.name for field in predictor.fields)
        public = [(i, field.name) for i, field in enumerate(predictor.fields) if not field.private]
        self._public = public
        # The request's own bytes are the logged row where nothing has to be taken out or filled in.
        self._verbatim = len(public) == len(predictor.fields) and not (
            predictor.allow_unknown or any(not field.required for field in predictor.fields)
        )
        encode = msgspec.json.encode
        self._labels: dict[Any, str] = {
            label: encode(label).decode() for label in predictor.classes or ()
        }
        self._probabilities = ""
        if predictor.classes is not None:
            keys = [encode(key).decode() for key in class_keys(predictor.classes)]
            members = ",".join(f"{key.replace('%', '%%')}:%r" for key in keys)
            self._probabilities = f',"probabilities":{{{members}}}'
        name = encode(predictor.model).decode()
        self.many = Texts(predictor, served.version)
        """Writes many answers at once."""
        self.outputs = OutputProfile.of(predictor.classes, predictor.baseline)
        self._tail = f',"model":{name},"version":{served.version}'
        self._plain = f'{self._tail},"source":"model"'
        self._outputs = f',"bundle":"{served.bundle}","outputs":[{{"name":"prediction","value":'

    def collapse(self) -> Collapse | None:
        """Return a new watch over the answers, None where the definition wants none."""
        predictor = self.predictor
        if predictor.collapse_rule.get("action") == "ignore":
            return None
        share = predictor.collapse_rule.get("share")
        return Collapse.of(predictor.classes, predictor.baseline, share)

    def texts(self, answer: Answer) -> tuple[str, str]:
        """Return a finite prediction as JSON, and its probabilities as the member that follows it."""
        prediction, scores = answer
        if scores is None:
            return repr(prediction), ""
        return self._labels[prediction], self._probabilities % tuple(scores)

    def answer(self, texts: tuple[str, str], prediction_id: str, mark: Mark = PLAIN) -> bytes:
        """Return an answer's JSON."""
        prediction, probabilities = texts
        return (
            f'{{"prediction":{prediction}{probabilities},"prediction_id":"{prediction_id}"'
            f"{self._plain if mark is PLAIN else self._marked(mark)}}}"
        ).encode()

    def record(self, texts: tuple[str, str], entry: Entry, row: bytes) -> bytes:
        """Return the log's record of an answer, as JSON on one line."""
        prediction, probabilities = texts
        prediction_id, at, microseconds, mark = entry
        head = (
            f'{{"prediction_id":"{prediction_id}","time":"{at}"'
            f"{self._plain if mark is PLAIN else self._marked(mark)}{self._outputs}{prediction}}}],"
            f'"prediction":{prediction}{probabilities},"latency_us":{microseconds},"row":'
        )
        return b"%b%b}" % (head.encode(), row)

    def _marked(self, mark: Mark) -> str:
        shown: dict[str, Any] = {"source": mark.source}
        if mark.reason:
            shown["reason"] = mark.reason
        if mark.flags:
            shown["flags"] = mark.flags
        return f"{self._tail},{msgspec.json.encode(shown).decode()[1:-1]}"

    def logged_row(self, values: Sequence[Any], body: bytes | None) -> bytes:
        """Return a row as it is logged: without private fields, on one line."""
        if body is not None and self._verbatim and b"\n" not in body:
            return body.strip()
        return msgspec.json.encode({name: values[i] for i, name in self._public})


def load(served: Served) -> LoadedVersion:
    """Verify a version's bundle, files and golden rows, and make it ready.

    Raises IntegrityError where the bundle is not what was sealed.
    """
    predictor = Predictor.load(served.folder, expected=served.bundle, previous=served.previous)
    return LoadedVersion(served, predictor)
