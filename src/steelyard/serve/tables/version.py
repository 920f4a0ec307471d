"""The tables of one version: read and checked, packed for its graph, and its answers written."""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from steelyard.core.json_text import BODY, check_row_count, refuse
from steelyard.errors import InputError
from steelyard.features.columns import column
from steelyard.serve.answer.endpoint import LISTED, Checks, Steps
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.several import Pace, Several
from steelyard.serve.answer.version import LoadedVersion
from steelyard.serve.tables.answers import END, AnswerWriter
from steelyard.serve.tables.checked import Checked, TableChecks
from steelyard.serve.tables.flatbuffer import BrokenError
from steelyard.serve.tables.forms import Form
from steelyard.serve.tables.stored import TooLargeError
from steelyard.serve.tables.stream import CompressedError, read_stream

__all__ = ["VersionTables"]

Array = npt.NDArray[Any]
Feeds = dict[str, Array]

_ROWS_AT_ONCE: Final = 512
_WRITTEN_AT_ONCE: Final = 1_024
_WHAT: Final = {Form.ARROW: "an Arrow IPC stream", Form.PARQUET: "Parquet"}


class VersionTables:
    """Reads tables for one version, and writes its answers as one."""

    def __init__(self, loaded: LoadedVersion) -> None:
        self._predictor = loaded.predictor
        self._checks = TableChecks(loaded.decoder)
        self._writer = AnswerWriter(loaded.predictor, loaded.served.version)
        self._fields = {field.name: field for field in loaded.predictor.fields}

    def read(self, body: bytes | Exception, given: Form, limits: Limits) -> Steps[Checks]:
        """Return what each row of a body holds, or what is wrong with it, in steps.

        `body` may be what went wrong where it was unpacked. Raises InputError, RowLimitError,
        CompressedError, TooLargeError.
        """
        try:
            if isinstance(body, Exception):
                raise body
            if given is Form.JSON:
                found = self._checks.decoder.decode(body, max_rows=limits.rows)
                return found if isinstance(found, list) else [found], None
            return (yield from self._table(body, limits))
        except CompressedError:
            raise
        except BrokenError as error:
            refuse(BODY, f"expected {_WHAT[given]}: {error}", None)

    def written(self, several: Several) -> Steps[bytes]:
        """Return answers as an Arrow IPC stream, in steps."""
        parts, pace = [self._writer.head], Pace()
        for start in range(0, len(several.answers), _WRITTEN_AT_ONCE):
            parts.append(self._writer.batch(several, start, start + _WRITTEN_AT_ONCE))
            if pace.due:
                yield None
        return b"".join([*parts, END])

    def _table(self, body: bytes, limits: Limits) -> Steps[Checks]:
        schema, batches = yield from read_stream(body, limits.body_bytes)
        check_row_count(sum(batch.rows for batch in batches), limits.rows)
        check, pace = self._checks.of(schema), Pace()
        rows: list[tuple[Any, ...] | InputError] = []
        feeds: list[Feeds] = []
        listed = 0
        for batch in batches:
            for start in range(0, batch.rows, _ROWS_AT_ONCE):
                found, columns = check.rows(batch, start, min(start + _ROWS_AT_ONCE, batch.rows))
                if check.nbytes > limits.body_bytes:
                    raise TooLargeError
                rows += found
                if columns is not None:
                    feeds.append(self._packed(columns, len(found)))
                else:
                    bad = [one for one in found if isinstance(one, InputError)]
                    listed += sum(len(error.errors) for error in bad)
                    if not bad:
                        feeds.append(self._predictor.pack(found))  # type: ignore[arg-type]
                if listed > LISTED:
                    return rows, None  # no more is said, whatever follows
                if pace.due:
                    yield None
        if listed or not feeds:
            return rows, None
        names = feeds[0]
        return rows, {name: np.concatenate([one[name] for one in feeds]) for name in names}

    def _packed(self, columns: Mapping[str, Checked], rows: int) -> Feeds:
        """Return checked columns as the graph takes them."""
        arrays: Feeds = {}
        codes: Feeds = {}
        for name in self._predictor.inputs:
            checked = columns[name]
            code = self._predictor.code_of(name)
            if checked.wire is not None:
                arrays[name] = checked.wire
            elif code is None:
                arrays[name] = column(self._fields[name], checked.values)
            elif checked.part is None or checked.part.words is None:
                codes[name] = np.fromiter(map(code, checked.values), np.float64, rows)
            else:
                words, key = checked.part.words, (self, name)
                table = words.notes.get(key)
                if table is None:
                    table = words.notes[key] = np.array([code(word) for word in words.texts])
                codes[name] = table[checked.part.codes]
        return self._predictor.pack_columns(arrays, codes)
