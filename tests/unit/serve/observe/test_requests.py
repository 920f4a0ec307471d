import asyncio
import json
import logging

import pytest

from steelyard.serve.observe.requests import AccessLog


def test_a_request_is_told_without_what_may_be_secret(stand, house, caplog):
    made = stand("price")
    client = type(made.client)(AccessLog(made.front))
    with caplog.at_level(logging.INFO):
        answer = client.call("POST", "/predict/price", house, authorization="Bearer hidden-key")
    (record,) = caplog.records
    assert record.event == "request"
    assert (record.method, record.path, record.status) == ("POST", "/predict/price", 200)
    assert record.bytes == len(answer.body)
    assert record.milliseconds > 0
    assert "hidden-key" not in str(vars(record))
    assert "north" not in str(vars(record))


def test_a_refused_request_and_one_whose_client_left_are_told_too(stand, caplog):
    made = stand("price")
    told = AccessLog(made.front)

    async def leave():
        async def receive():
            return {"type": "http.disconnect"}

        async def send(message):
            pytest.fail("nobody is there")

        scope = {"type": "http", "method": "POST", "path": "/predict/price", "headers": []}
        await told(scope, receive, send)

    with caplog.at_level(logging.INFO):
        type(made.client)(told).call("POST", "/predict/price", {"rooms": "x"})
        asyncio.run(leave())
    assert [record.status for record in caplog.records] == [422, 499]


def test_a_path_without_end_is_cut(stand, caplog):
    made = stand("price")
    with caplog.at_level(logging.INFO):
        type(made.client)(AccessLog(made.front)).call("GET", "/" + "x" * 10_000)
    assert len(json.dumps(caplog.records[-1].path)) < 300
