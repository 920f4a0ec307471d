import asyncio
import json
import math
import threading

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from steelyard.bundle.predictor import Predictor
from steelyard.serve.answer.limits import Limits
from steelyard.serve.grpc.messages import SERVICE, message
from steelyard.serve.secure.access import Access
from steelyard.serve.secure.keys import KeyFile

CODE = grpc.StatusCode


@pytest.mark.parametrize("raw", [True, False])
@pytest.mark.parametrize("name", ["churn", "price", "offer"])
def test_every_kind_of_field_is_answered_with_the_native_bits(
    stand, calling, request_of, outputs_of, customer, house, name, raw
):
    made = stand(name)
    row = customer if name == "churn" else house
    other = {**row, "tenure": 90, "total": 2.5, "at": None} if name == "churn" else {
        **house, "rooms": 7, "district": "south"
    }  # fmt: skip
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        alone = [
            await caller.call("ModelInfer", request_of(fields, [one], raw=raw, model=name, id=i))
            for one in (row, other)
            for i in ("", "first", "again")
        ]
        together = request_of(fields, [row, other], raw=raw, model=name)
        return alone, await caller.call("ModelInfer", together)

    alone, together = calling(made, work)
    loaded = made.endpoint.loaded
    values = [loaded.decoder.check_one(one) for one in (row, other)]
    expected = loaded.predictor.predict_many(values)
    for response, (prediction, scores) in zip(
        alone, [e for e in expected for _ in range(3)], strict=True
    ):
        found = outputs_of(response)
        assert found["prediction"] == [prediction]
        assert found.get("probabilities") == scores
        assert bool(response.raw_output_contents) == raw
    assert [response.id for response in alone[:3]] == ["", "first", "again"]
    assert {response.model_version for response in alone} == {str(loaded.served.version)}
    found = outputs_of(together)
    assert found["prediction"] == [prediction for prediction, _ in expected]
    scores = [score for _, given_ in expected for score in given_ or ()]
    assert found.get("probabilities", []) == scores
    ids = [response.parameters["prediction_ids"].string_param for response in alone]
    ids += together.parameters["prediction_ids"].string_param.split(",")
    assert [record["prediction_id"] for record in made.log.records] == ids
    logged = [record["row"] for record in made.log.records]
    assert logged[:3] == [logged[0]] * 3
    native = made.client.call("POST", f"/predict/{name}", row)
    assert native.document["prediction"] == expected[0][0]
    assert made.log.records[-1]["row"] == logged[0]


def test_calls_are_counted_by_status_and_time(stand, calling, request_of, house):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        await caller.call("ModelInfer", request_of(fields, [house]))
        await caller.refused(request_of(fields, [{**house, "rooms": 0}]))
        await caller.refused(request_of(fields, [house], model="prise"))

    calling(made, work)
    responses = {k: n for k, n in made.counted("responses").items() if k[0] == "grpc"}
    assert responses == {("grpc", "200"): 1, ("grpc", "400"): 1, ("grpc", "404"): 1}
    assert made.counted("request_seconds")["grpc",] == 3
    assert made.counted("refusals") == {("rooms",): 1}


def test_only_the_outputs_that_are_asked_for_are_sent(
    stand, calling, request_of, outputs_of, house
):
    made = stand("offer")
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        request = request_of(fields, [house], model="offer")
        request.outputs.add(name="probabilities")
        first = await caller.call("ModelInfer", request)
        again = await caller.call("ModelInfer", request)
        return (
            first,
            again,
            await caller.call("ModelInfer", request_of(fields, [house], model="offer")),
        )

    first, again, all_ = calling(made, work)
    for response in (first, again):
        assert [(o.name, list(o.shape)) for o in response.outputs] == [("probabilities", [1, 3])]
    assert outputs_of(first) == outputs_of(again)
    assert list(outputs_of(all_)) == ["prediction", "probabilities"]


def test_health_and_metadata(stand, calling):
    made = stand("churn")

    async def work(caller):
        live = await caller.call("ServerLive", message("ServerLiveRequest")())
        about = await caller.call("ServerMetadata", message("ServerMetadataRequest")())
        asked = message("ModelMetadataRequest")(name="churn", version="1")
        metadata = await caller.call("ModelMetadata", asked)
        states = []
        for problem in ([], ["the disk is full"]):
            made.log_problem[:] = problem
            server = await caller.call("ServerReady", message("ServerReadyRequest")())
            model = await caller.call("ModelReady", message("ModelReadyRequest")(name="churn"))
            states.append((server.ready, model.ready))
        no_version = message("ModelReadyRequest")(name="churn", version="9")
        error = await caller.refused(no_version, "ModelReady")
        return live, about, metadata, states, error

    live, about, metadata, states, error = calling(made, work)
    assert live.live
    assert about.name == "steelyard"
    rest = made.client.call("GET", "/v2/models/churn").document
    tensors = [
        {"name": t.name, "datatype": t.datatype, "shape": list(t.shape)} for t in metadata.inputs
    ]
    assert tensors == rest["inputs"]
    assert [t.name for t in metadata.outputs] == ["prediction", "probabilities"]
    assert (metadata.name, list(metadata.versions)) == ("churn", ["1"])
    assert states == [(True, True), (False, False)]
    assert error.code() is CODE.NOT_FOUND
    assert "version 9 of churn is not served; 1 is." in error.details()


def _raw(i, value):
    return lambda r: r.raw_input_contents.__setitem__(i, value)


def _drop(r):
    del r.inputs[-1], r.raw_input_contents[-1]


def _shape(*sizes):
    def change(r):
        del r.inputs[0].shape[:]
        r.inputs[0].shape.extend(sizes)

    return change


def _parameter(where, name):
    def change(r):
        found = r.outputs.add(name="prediction") if where == "outputs" else r.inputs[0]
        found.parameters[name].string_param = "x"

    return change


WRONG = [
    (lambda r: setattr(r.inputs[0], "name", "rooom"), "Did you mean rooms?"),
    (lambda r: setattr(r.inputs[0], "name", "area"), "area is given twice"),
    (lambda r: setattr(r.inputs[0], "datatype", "BYTES"), "input rooms: expected INT64, got BYTES"),
    (lambda r: setattr(r.inputs[0], "datatype", ""), "input rooms: expected INT64"),
    (lambda r: setattr(r.inputs[0], "datatype", "INT32"), "input rooms: 8 bytes do not hold"),
    (_shape(2), "input rooms: 8 bytes do not hold 2 values"),
    (_shape(2**40), "input rooms: 8 bytes do not hold"),
    (_shape(-1), "input rooms: expected the shape"),
    (_shape(1, 2), "input rooms: expected the shape"),
    (_shape(), "input rooms: expected the shape"),
    (_raw(0, b""), "input rooms: 0 bytes do not hold"),
    (_raw(0, bytes(7)), "input rooms: 7 bytes do not hold"),
    (_raw(2, b"\5\0\0\0nort"), "input district: its 8 bytes do not hold"),
    (_raw(2, b"\5\0\0"), "input district: its 3 bytes do not hold"),
    (_raw(2, b"\1\0\0\0\xff"), "input district: value 0 is not text in UTF-8"),
    (_raw(2, b"\4\0\0\0west"), "rows.0.district: expected one of"),
    (_raw(0, bytes(8)), "rows.0.rooms: expected an integer >= 1"),
    (_raw(1, b"\0\0\0\0\0\0\xf8\x7f"), "rows.0.area: expected a number"),
    (_raw(1, b"\0\0\0\0\0\0\xf0\x7f"), "rows.0.area: expected a number"),
    (_drop, "rows.0.district: expected one of"),
    (lambda r: r.raw_input_contents.pop(), "expected raw_input_contents of 3 inputs, got 2"),
    (lambda r: r.raw_input_contents.append(b""), "expected raw_input_contents of 3 inputs, got 4"),
    (
        lambda r: r.inputs[0].contents.int64_contents.append(4),
        "input rooms: expected its values in",
    ),
    (lambda r: (r.ClearField("inputs"), r.ClearField("raw_input_contents")), "expected inputs"),
    (lambda r: r.outputs.add(name="score"), "no output 'score'"),
    (_parameter("inputs", "shared_memory_region"), "input rooms: there is no shared_memory_region"),
    (_parameter("outputs", "classification"), "output prediction: there is no classification"),
]


def test_what_does_not_fit_is_refused_in_words_that_name_it(stand, calling, request_of, house):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        errors = []
        for planned in (False, True):
            for change, _ in WRONG:
                request = request_of(fields, [house])
                change(request)
                errors.append(await caller.refused(request))
            if not planned:
                # From now on the same kinds of requests are known.
                await caller.call("ModelInfer", request_of(fields, [house]))
        return errors

    for error, (_, says) in zip(calling(made, work), WRONG * 2, strict=True):
        assert error.code() is CODE.INVALID_ARGUMENT
        assert says in error.details()
    assert len(made.log.lines) == 1


TYPED_WRONG = [
    (
        lambda r: setattr(r.inputs[0], "datatype", "INT32"),
        "INT32 in int_contents, got int64_contents",
    ),
    (lambda r: r.inputs[0].contents.fp64_contents.append(4), "INT64 in int64_contents, got fp64"),
    (lambda r: r.inputs[0].contents.int64_contents.append(4), "shape [1] does not hold 2 values"),
    (lambda r: r.inputs[0].ClearField("contents"), "shape [1] does not hold 0 values"),
    (lambda r: setattr(r.inputs[1], "datatype", "FP16"), "input area: expected FP16 in raw_input"),
    (lambda r: setattr(r.inputs[1], "datatype", "BF16"), "input area: expected FP64, got BF16"),
    (
        lambda r: r.inputs[2].contents.bytes_contents.__setitem__(0, b"\xff"),
        "input district: expected text in UTF-8",
    ),
]


def test_typed_contents_that_do_not_fit_are_refused(stand, calling, request_of, house):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        errors = []
        for change, _ in TYPED_WRONG:
            request = request_of(fields, [house], raw=False)
            change(request)
            errors.append(await caller.refused(request))
        return errors

    for error, (_, says) in zip(calling(made, work), TYPED_WRONG, strict=True):
        assert error.code() is CODE.INVALID_ARGUMENT
        assert says in error.details()


@pytest.mark.parametrize(
    ("datatype", "field", "kind"),
    [("INT8", "int_contents", int), ("UINT16", "uint_contents", int), ("UINT64", "uint64_contents", int),
     ("FP32", "fp32_contents", float)],
)  # fmt: skip
def test_other_datatypes_of_a_number_are_taken(
    stand, calling, request_of, outputs_of, house, datatype, field, kind
):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields
    place = 0 if kind is int else 1

    async def work(caller):
        usual = await caller.call("ModelInfer", request_of(fields, [house], raw=False))
        request = request_of(fields, [house], raw=False)
        tensor = request.inputs[place]
        tensor.datatype = datatype
        tensor.ClearField("contents")
        getattr(tensor.contents, field).append(4 if kind is int else 81.5)
        return usual, await caller.call("ModelInfer", request)

    usual, other = calling(made, work)
    assert outputs_of(usual) == outputs_of(other)


@given(st.binary(max_size=60))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_no_bytes_crash_a_call(stand, calling, data):
    made = stand("price")

    async def work(caller):
        return await caller.refused(data)

    error = calling(made, work)
    assert error.code() in (CODE.INVALID_ARGUMENT, CODE.NOT_FOUND)


def test_changed_bytes_of_a_good_request_crash_nothing(stand, calling, request_of, house):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields
    good = request_of(fields, [house]).SerializeToString()

    async def work(caller):
        await caller.call("ModelInfer", good)
        codes = set()
        for place in range(len(good)):
            for value in (0, 1, 0x7F, 0xFF, good[place] ^ 1):
                changed = good[:place] + bytes([value]) + good[place + 1 :]
                try:
                    await caller.call("ModelInfer", changed)
                except grpc.aio.AioRpcError as error:
                    codes.add(error.code())
        return codes

    assert calling(made, work) == {CODE.INVALID_ARGUMENT, CODE.NOT_FOUND}


def test_limits_hold_here_too(stand, calling, request_of, house):
    made = stand("price", Limits(body_bytes=2_000, rows=2))
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        await caller.call("ModelInfer", request_of(fields, [house] * 2))
        rows = await caller.refused(request_of(fields, [house] * 3))
        size = await caller.refused(request_of(fields, [house] * 200))
        made.log.full = True
        return rows, size, await caller.refused(request_of(fields, [house]))

    rows, size, full = calling(made, work)
    assert (rows.code(), size.code()) == (CODE.RESOURCE_EXHAUSTED, CODE.RESOURCE_EXHAUSTED)
    assert "2 rows" in rows.details()
    assert full.code() is CODE.UNAVAILABLE
    assert dict(full.trailing_metadata())["grpc-retry-pushback-ms"] == "1000"


def test_more_rows_than_may_wait_are_to_be_sent_again(stand, calling, request_of, house):
    made = stand("price", Limits(waiting_rows=0))
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        return await caller.refused(request_of(fields, [house]))

    error = calling(made, work)
    assert error.code() is CODE.UNAVAILABLE
    assert "send this one again" in error.details()


@pytest.fixture
def before_model(monkeypatch):
    """Return a function that lets something happen whenever the model is called."""
    real = Predictor.answer_some

    def change(happens):
        def answer(self, *given, **named):
            happens()
            return real(self, *given, **named)

        monkeypatch.setattr(Predictor, "answer_some", answer)

    return change


def test_a_model_that_fails_is_internal_and_says_no_more_than_that(
    stand, calling, request_of, house, before_model, caplog
):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields

    def fail():
        raise RuntimeError("secret")

    async def work(caller):
        before_model(fail)
        return await caller.refused(request_of(fields, [house]))

    error = calling(made, work)
    assert error.code() is CODE.INTERNAL
    assert "secret" not in error.details()
    assert made.counted("responses") == {("grpc", "500"): 1}


def test_the_deadline_of_a_call_is_that_of_its_answer(
    stand, calling, request_of, house, before_model
):
    made = stand("price", Limits(timeout_ms=60_000))
    fields = made.endpoint.loaded.predictor.fields
    made.endpoint.calls.slow = True
    told = threading.Event()

    async def work(caller):
        before_model(lambda: told.wait(30))
        error = await caller.refused(request_of(fields, [house]), timeout=0.5)
        told.set()
        await caller.call("ModelInfer", request_of(fields, [house]))
        return error

    error = calling(made, work)
    # The server says so before the client's own clock does.
    assert error.code() is CODE.DEADLINE_EXCEEDED
    assert "the model did not answer in time" in error.details()
    assert made.counted("responses") == {("grpc", "504"): 1, ("grpc", "200"): 1}


def test_a_client_that_goes_away_harms_nobody(stand, calling, request_of, house, before_model):
    made = stand("price", Limits(timeout_ms=60_000))
    fields = made.endpoint.loaded.predictor.fields
    made.endpoint.calls.slow = True
    began, gone = threading.Event(), threading.Event()

    async def work(caller):
        def wait():
            began.set()
            gone.wait(30)

        before_model(wait)
        data = request_of(fields, [house]).SerializeToString()
        call = caller.channel.unary_unary(f"/{SERVICE}/ModelInfer")(data)
        while not began.is_set():
            await asyncio.sleep(0.001)
        call.cancel()
        while made.counted("responses") != {("grpc", "499"): 1}:
            await asyncio.sleep(0.001)
        gone.set()
        return await caller.call("ModelInfer", data)

    assert calling(made, work).outputs
    assert len(made.log.lines) == 2


def test_keys_are_asked_for_where_rest_asks_for_them(stand, calling, request_of, house, tmp_path):
    made = stand("price")
    file = KeyFile(tmp_path / "keys.json")
    _, key = file.create("client")
    _, other = file.create("scraper", scopes=["metrics"])
    access = Access(file)
    access.load()
    made.front.access = access
    fields = made.endpoint.loaded.predictor.fields
    request = request_of(fields, [house])

    async def work(caller):
        bearer = {"metadata": [("authorization", f"Bearer {key}")]}
        await caller.call("ModelInfer", request, **bearer)
        await caller.call("ModelInfer", request, metadata=[("x-api-key", key)])
        await caller.call("ServerReady", message("ServerReadyRequest")())
        await caller.call("ModelReady", message("ModelReadyRequest")(name="price"))
        return [
            await caller.refused(request),
            await caller.refused(request, metadata=[("x-api-key", "sy_wrong")]),
            await caller.refused(message("ServerMetadataRequest")(), "ServerMetadata"),
            await caller.refused(request, metadata=[("x-api-key", other)]),
        ]

    errors = calling(made, work)
    assert [error.code() for error in errors[:3]] == [CODE.UNAUTHENTICATED] * 3
    assert errors[3].code() is CODE.PERMISSION_DENIED
    assert {failure.client for failure in access.failures()} == {"127.0.0.1"}
    assert len(made.log.lines) == 2


def test_an_error_of_any_length_and_language_reaches_the_client(stand, calling, request_of, house):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields

    async def work(caller):
        request = request_of(fields, [house])
        request.inputs[0].name = "字" * 5_000
        return await caller.refused(request)

    error = calling(made, work)
    assert error.code() is CODE.INVALID_ARGUMENT
    assert error.details().startswith("no input '字字")


def test_an_unknown_method_is_unimplemented(stand, calling):
    made = stand("price")

    async def work(caller):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await caller.channel.unary_unary(f"/{SERVICE}/ModelStreamInfer")(b"")
        return caught.value

    assert calling(made, work).code() is CODE.UNIMPLEMENTED


def test_rows_of_calls_at_once_are_all_answered_each_with_its_own(
    stand, calling, request_of, outputs_of, house
):
    made = stand("price")
    fields = made.endpoint.loaded.predictor.fields
    rows = [{**house, "area": 20.0 + i} for i in range(64)]

    async def work(caller):
        calls = [caller.call("ModelInfer", request_of(fields, [row], id=str(i)))
                 for i, row in enumerate(rows)]  # fmt: skip
        return await asyncio.gather(*calls)

    responses = calling(made, work)
    numbers = [outputs_of(response)["prediction"][0] for response in responses]
    assert numbers == sorted(numbers)
    assert len(set(numbers)) == 64
    assert [response.id for response in responses] == [str(i) for i in range(64)]
    logged = {json.dumps(record["row"]) for record in made.log.records}
    assert logged == {json.dumps(row) for row in rows}
    assert math.isfinite(sum(numbers))
