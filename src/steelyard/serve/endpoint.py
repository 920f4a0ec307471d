"""The core: decode, validate, predict, log, encode. No framework, no data frame, no user code."""

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from steelyard.bundle.predictor import Answer, Predictor
from steelyard.core.answers import class_keys
from steelyard.core.ports import LogWriter
from steelyard.core.validation import RowDecoder
from steelyard.errors import InputError, SteelyardError
from steelyard.serve.metrics import Metrics

__all__ = [
    "Endpoint",
    "Follower",
    "LoadedVersion",
    "NotFiniteError",
    "Served",
    "load",
]

_MICROSECOND: Final = 1_000


@dataclass(frozen=True, slots=True)
class Served:
    """The version that an endpoint is to serve: its number, and where its bundle lies."""

    version: int
    bundle: str
    folder: Path


class Follow(Protocol):
    """Says which version an endpoint is to serve now; cheap enough to be asked all the time."""

    def __call__(self) -> Served: ...


class NotFiniteError(SteelyardError):
    """The model's answer is no finite number."""


class LoadedVersion:
    """A verified version and the texts of its answers, made ready once.

    An answer is a template filled with the numbers' shortest decimal forms, which read back as the
    same bits.
    """

    def __init__(self, served: Served, predictor: Predictor) -> None:
        self.served = served
        self.predictor = predictor
        self.decoder: RowDecoder = predictor.decoder
        encode = msgspec.json.encode
        self._names = [field.name for field in predictor.fields]
        self._public = [
            (i, field.name) for i, field in enumerate(predictor.fields) if not field.private
        ]
        # The request's own bytes are the logged row where nothing has to be taken out or filled in.
        self._verbatim = len(self._public) == len(predictor.fields) and not (
            predictor.allow_unknown or any(not field.required for field in predictor.fields)
        )
        self._labels: dict[Any, str] = {
            label: encode(label).decode() for label in predictor.classes or ()
        }
        name = encode(predictor.model).decode()
        probabilities = ""
        if predictor.classes is not None:
            keys = [
                encode(key).decode().replace("%", "%%") for key in class_keys(predictor.classes)
            ]
            probabilities = ',"probabilities":{' + ",".join(f"{key}:%r" for key in keys) + "}"
        tail = f'"model":{name},"version":{served.version},"source":"model"'.replace("%", "%%")
        self._answer = '{"prediction":%s' + probabilities + ',"prediction_id":"%s",' + tail + "}"
        self._record = (
            '{"prediction_id":"%s","time":"%s",' + tail + f',"bundle":"{served.bundle}"'
            ',"outputs":[{"name":"prediction","value":%s}],"prediction":%s' + probabilities
            + ',"latency_us":%d,"row":'
        )  # fmt: skip

    def _texts(self, answer: Answer) -> tuple[str, Sequence[float]]:
        prediction, scores = answer
        numbers: Sequence[float] = [prediction] if scores is None else scores  # type: ignore[list-item]
        if not math.isfinite(math.fsum(numbers)):
            raise NotFiniteError("the model's answer is not finite")
        return (repr(prediction), ()) if scores is None else (self._labels[prediction], scores)

    def encode(self, answer: Answer, prediction_id: str) -> bytes:
        """Return an answer's JSON."""
        text, scores = self._texts(answer)
        return (self._answer % (text, *scores, prediction_id)).encode()

    def record(
        self, answer: Answer, prediction_id: str, at: str, microseconds: int, row: bytes
    ) -> bytes:
        """Return the log's record of an answer, as JSON."""
        text, scores = self._texts(answer)
        head = self._record % (prediction_id, at, text, text, *scores, microseconds)
        return head.encode() + row + b"}"

    def logged_row(self, values: Sequence[Any], body: bytes | None) -> bytes:
        """Return a row as it is logged: without private fields, on one line."""
        if body is not None and self._verbatim and b"\n" not in body:
            return body.strip()
        return msgspec.json.encode({name: values[i] for i, name in self._public})


def load(served: Served) -> LoadedVersion:
    """Verify a version's bundle, files and golden rows, and make it ready."""
    return LoadedVersion(served, Predictor.load(served.folder, expected=served.bundle))


class _Clock:
    """RFC 3339 times in UTC with microseconds; the seconds' text is made once a second."""

    def __init__(self) -> None:
        self._second = -1
        self._text = ""

    def now(self) -> str:
        second, nanosecond = divmod(time.time_ns(), 1_000_000_000)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = second
        return f"{self._text}.{nanosecond // _MICROSECOND:06d}Z"


class Endpoint:
    """One model behind one name; the version that it serves may be swapped while it answers."""

    def __init__(
        self,
        loaded: LoadedVersion,
        log: LogWriter,
        metrics: Metrics,
        new_id: Callable[[], str],
        *,
        max_rows: int = 10_000,
    ) -> None:
        self.loaded = loaded
        self.model = loaded.predictor.model
        self.max_rows = max_rows
        self.problem = ""
        self._log = log
        self._metrics = metrics
        self._new_id = new_id
        self._clock = _Clock()

    def answer(self, body: bytes) -> bytes:
        """Answer a request body, one row or `{"rows": [...]}`; the answer is in the log already.

        Raises InputError with every bad field, NotFiniteError, and LogFullError
        where the log cannot take the record and its policy is to refuse.
        """
        started = time.perf_counter_ns()
        loaded = self.loaded
        try:
            found = loaded.decoder.decode(body, max_rows=self.max_rows)
            if isinstance(found, list):
                return self._answer_many(loaded, _all_good(found), started)
        except InputError as error:
            self._metrics.refused(error)
            raise
        values = found
        decoded = time.perf_counter_ns()
        answer = loaded.predictor.predict_one(values)
        predicted = time.perf_counter_ns()
        prediction_id = self._new_id()
        encoded = loaded.encode(answer, prediction_id)
        row = loaded.logged_row(values, body)
        spent = (predicted - started) // _MICROSECOND
        self._log.append(loaded.record(answer, prediction_id, self._clock.now(), spent, row))
        self._metrics.answered_one(loaded.served.version, started, decoded, predicted)
        return encoded

    def _answer_many(
        self, loaded: LoadedVersion, rows: list[tuple[Any, ...]], started: int
    ) -> bytes:
        answers, ids = self._answered(loaded, rows, started)
        encoded = [loaded.encode(a, i) for a, i in zip(answers, ids, strict=True)]
        return b'{"predictions":[' + b",".join(encoded) + b"]}"

    def answer_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[Answer]:
        """Answer rows that another protocol brought, as the native route would, log included."""
        started = time.perf_counter_ns()
        loaded = self.loaded
        checked: list[tuple[Any, ...] | InputError] = []
        for row in rows[: self.max_rows + 1]:
            try:
                checked.append(loaded.decoder.check_one(row))
            except InputError as error:
                checked.append(error)
        try:
            if len(rows) > self.max_rows:
                message = f"expected at most {self.max_rows} rows"
                raise InputError([{"field": "rows", "message": message, "got": len(rows)}])
            values = _all_good(checked)
        except InputError as error:
            self._metrics.refused(error)
            raise
        return self._answered(loaded, values, started)[0]

    def _answered(
        self, loaded: LoadedVersion, rows: list[tuple[Any, ...]], started: int
    ) -> tuple[list[Answer], list[str]]:
        """Predict and log checked rows; return the answers and their ids."""
        decoded = time.perf_counter_ns()
        answers = loaded.predictor.predict_many(rows)
        predicted = time.perf_counter_ns()
        at, spent = self._clock.now(), (predicted - started) // _MICROSECOND
        ids = [self._new_id() for _ in rows]
        records = [
            loaded.record(answer, prediction_id, at, spent, loaded.logged_row(values, None))
            for values, answer, prediction_id in zip(rows, answers, ids, strict=True)
        ]
        if records:
            self._log.append_many(records)
        self._metrics.answered_many(loaded.served.version, len(rows), started, decoded, predicted)
        return answers, ids


def _all_good(rows: Sequence[tuple[Any, ...] | InputError]) -> list[tuple[Any, ...]]:
    """Return checked rows; raise with every bad field of every row, named `rows.N.field`."""
    errors = [
        {**error, "field": f"rows.{i}.{error['field']}"}
        for i, row in enumerate(rows)
        if isinstance(row, InputError)
        for error in row.errors
    ]
    if errors:
        raise InputError(errors)
    return [row for row in rows if isinstance(row, tuple)]


class Follower(threading.Thread):
    """Asks which version to serve and swaps it in; keeps the old one where the new one is damaged."""

    def __init__(
        self,
        endpoint: Endpoint,
        follow: Follow,
        *,
        seconds: float = 0.5,
        after: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(name="follow-version", daemon=True)
        self._after = after
        self._endpoint = endpoint
        self._follow = follow
        self._seconds = seconds
        self._stopped = threading.Event()

    def run(self) -> None:
        """Follow until stopped."""
        while not self._stopped.wait(self._seconds):
            self.step()
            self._after()

    def step(self) -> None:
        """Ask once."""
        endpoint = self._endpoint
        try:
            wanted = self._follow()
            if wanted.version != endpoint.loaded.served.version:
                endpoint.loaded = load(wanted)
            endpoint.problem = ""
        except (SteelyardError, OSError) as error:
            # The version that answers now was proven; a store that is away or a damaged newer
            # version is no reason to stop answering, but it has to show.
            endpoint.problem = str(error)

    def stop(self) -> None:
        """Stop following."""
        self._stopped.set()
