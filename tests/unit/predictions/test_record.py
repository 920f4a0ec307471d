"""A record is what CONTRACT's keys say, and nothing breaks on keys of a newer server."""

import json
from datetime import UTC, datetime

import msgspec
import pytest

from steelyard.core.answers import Flag
from steelyard.predictions import Output, Record
from steelyard.predictions.record import decode_record


def test_a_record_reads_what_the_server_wrote(make_payload) -> None:
    moment = datetime(2026, 11, 24, 15, 4, 5, 123456, tzinfo=UTC)
    flag = {"field": "Contract", "rule": "unseen", "message": "expected another", "later": 1}
    record = decode_record(make_payload(time=moment, latency_us=181, flags=[flag]))
    assert record.time == moment
    assert (record.model, record.version, record.source) == ("churn", 3, "model")
    assert record.outputs == [Output("prediction", "Yes")]
    assert (record.prediction, record.probabilities) == ("Yes", {"No": 0.25, "Yes": 0.75})
    flags = [Flag("Contract", "unseen", "expected another")]
    assert (record.latency_us, record.flags, record.key) == (181, flags, None)


def test_what_is_absent_stays_absent(make_payload) -> None:
    payload = make_payload()
    assert json.loads(msgspec.json.encode(decode_record(payload))) == json.loads(payload)


def test_unknown_keys_are_no_error(make_payload) -> None:
    assert isinstance(decode_record(make_payload(shadow={"of": 4})), Record)


@pytest.mark.parametrize("change", [{"time": "2026-11-24T15:04:05"}, {"version": "3"}, {"row": 1}])
def test_other_types_are_refused(make_payload, change) -> None:
    with pytest.raises(msgspec.ValidationError):
        decode_record(make_payload(**change))
