import io
import json
import logging
import re

import pytest

from steelyard.serve.observe import logs


@pytest.fixture
def said():
    """Set up logging anew, and put everything back; give what was written."""
    root, ours = logging.getLogger(), logging.getLogger("steelyard")
    before = root.handlers[:], root.level, ours.level
    stream = io.StringIO()

    def start(form):
        logs.set_up(form, stream)
        logs.describe(lambda: {"model": "churn", "version": 3, "worker": 1})
        return stream

    yield start
    root.handlers[:], level, ours_level = before
    root.setLevel(level)
    ours.setLevel(ours_level)
    logs.describe(dict)


log = logging.getLogger("steelyard.serve.somewhere")


def lines(stream):
    return [json.loads(text) for text in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json_with_what_the_process_is(said):
    stream = said("json")
    log.warning("%s now answers", "churn", extra={"event": "swap", "bundle": "ab12", "version": 4})
    (found,) = lines(stream)
    assert re.fullmatch(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found.pop("time"))
    assert found == {
        "level": "warning",
        "event": "swap",
        "message": "churn now answers",
        "model": "churn",
        "version": 4,  # the event's own, not the one that still answers
        "worker": 1,
        "bundle": "ab12",
    }


def test_an_error_has_its_traceback_in_a_field(said):
    stream = said("json")
    try:
        raise ValueError("line one\nline two")
    except ValueError as error:
        log.error("A request could not be answered.", exc_info=error)
    (found,) = lines(stream)
    assert (found["level"], found["event"], found["error"]) == ("error", "error", "ValueError")
    assert "test_logs.py" in found["traceback"]
    assert found["traceback"].endswith("ValueError: line one\nline two\n")


def test_a_line_fits_a_pipe_whatever_it_tells(said):
    stream = said("json")
    try:
        raise ValueError("x" * 100_000)
    except ValueError as error:
        log.error("y" * 100_000, exc_info=error)
    assert len(stream.getvalue()) < 4096


def test_what_json_does_not_know_is_told_as_text(said):
    stream = said("json")
    log.info("odd", extra={"where": io.BytesIO})
    assert lines(stream)[0]["where"] == "<class '_io.BytesIO'>"


def test_a_person_reads_text_and_nobody_forges_a_line(said):
    stream = said("text")
    log.warning("no model %s", "x\n12:00:00 error   forged \x1b[31m\x07")
    log.info("Stopped.", extra={"event": "stop"})
    first, second = stream.getvalue().splitlines()
    assert re.match(r"\d\d:\d\d:\d\d warning no model x\\n12:00:00", first)
    assert "\x1b" not in first
    assert second[9:] == "info    Stopped."


def test_text_shows_the_traceback_below(said):
    stream = said("text")
    try:
        raise ValueError("wrong")
    except ValueError as error:
        log.error("It failed.", exc_info=error)
    assert stream.getvalue().splitlines()[-1] == "ValueError: wrong"


def test_lines_that_are_alike_are_counted_instead_of_written(said, monkeypatch):
    now = [1_000.0]
    monkeypatch.setattr(logs.time, "monotonic", lambda: now[0])
    stream = said("json")
    for i in range(1_000):
        log.error("request %d failed", i)
        log.error("another thing")
    assert len(lines(stream)) == 2 * logs._ALIKE
    now[0] += logs._SECONDS
    log.error("request %d failed", 1_000)
    last = lines(stream)[-1]
    assert (last["message"], last["more"]) == ("request 1000 failed", 1_000 - logs._ALIKE)


def test_lines_of_ever_new_texts_are_not_remembered_without_end(said):
    said("json")
    for i in range(5_000):
        log.error(f"request {i} failed")
    (handler,) = logging.getLogger().handlers
    (sparse,) = handler.filters
    assert len(sparse._seen) <= logs._KINDS


def test_every_request_of_the_access_log_is_told(said):
    stream = said("json")
    for i in range(100):
        log.info("request %d", i)
    assert len(lines(stream)) == 100


def test_who_is_no_part_of_the_server_speaks_only_of_trouble(said):
    stream = said("json")
    logging.getLogger("urllib3").info("chatter")
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert [found["message"] for found in lines(stream)] == ["Invalid HTTP request received."]
