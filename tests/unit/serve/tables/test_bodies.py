import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
PATH = {name: f"/predict/{name}" for name in ("churn", "price", "offer")}


def stream(table, **options):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table)
    return sink.getvalue()


def parquet(table, **options):
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def told(answer):
    """The answers of a response in any form, without what differs from request to request."""
    kind = answer.headers["content-type"]
    if kind == ARROW:
        rows = pa.ipc.open_stream(answer.body).read_all().to_pylist()
    elif kind == PARQUET:
        rows = pq.read_table(io.BytesIO(answer.body)).to_pylist()
    else:
        rows = answer.document["predictions"]
    return [
        {k: v for k, v in row.items() if v is not None and k != "prediction_id"} for row in rows
    ]


def houses(count):
    return [
        {"rooms": 1 + i % 7, "area": 20 + i * 1.1, "district": ("north", "south")[i % 2]}
        for i in range(count)
    ]


@pytest.mark.parametrize("name", ["price", "offer"])
@pytest.mark.parametrize("wanted", ["application/json", ARROW, PARQUET])
@pytest.mark.parametrize("given", ["application/json", ARROW, PARQUET])
def test_rows_in_any_form_get_the_same_answers_in_any_form(stand, name, given, wanted):
    made = stand(name)
    rows = houses(70)
    table = pa.Table.from_pylist(rows)
    bodies = {"application/json": {"rows": rows}, ARROW: stream(table), PARQUET: parquet(table)}
    expected = made.client.call("POST", PATH[name], {"rows": rows})
    answer = made.client.call("POST", PATH[name], bodies[given], content_type=given, accept=wanted)
    assert answer.status == 200, answer.body
    assert answer.headers["content-type"] == wanted
    assert told(answer) == told(expected)
    first, second = made.log.records[:70], made.log.records[70:]
    assert [r["row"] for r in first] == [r["row"] for r in second] == rows
