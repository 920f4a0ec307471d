"""What is read by plan is what is read with all checks."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.errors import UsageError
from steelyard.serve.answer.answered import Answered
from steelyard.serve.contracts.tensors import (
    Tensor,
    accepted,
    output_tensors,
    raw_bytes,
    rows_of,
    wanted_outputs,
)
from steelyard.serve.grpc.messages import message
from steelyard.serve.grpc.plans import Plan, Plans
from steelyard.serve.grpc.tensors import response_of

TEXTS = ["", "basic", "pro", "Basic", "north", "Ürümqi", "2021-03-01", "\0", "a\nb"]
NUMBERS = [0, 1, -1, 2, 127, 0.5, float("nan"), float("inf"), -0.0]


def request_of(fields, datatypes):
    made = message("ModelInferRequest")()
    for field, datatype in zip(fields, datatypes, strict=True):
        made.inputs.add(name=field.name, datatype=datatype, shape=[1])
        made.raw_input_contents.append(b"?")
    return made


def encoded(draw, datatype):
    """Bytes of a tensor of one value, mostly such as they should be."""
    if not draw(st.integers(0, 19)):
        return draw(st.binary(max_size=12))
    if datatype == "BYTES":
        return raw_bytes("BYTES", [draw(st.sampled_from(TEXTS) | st.text(max_size=3))])
    if datatype == "BOOL":
        return bytes([draw(st.sampled_from([0, 0, 1, 1, 2]))])
    value = draw(st.sampled_from(NUMBERS))
    if not datatype.startswith("FP"):
        value = int(np.nan_to_num(value, nan=3, posinf=4))
        value = abs(value) if datatype.startswith("U") else value
    return raw_bytes(datatype, [value])


@given(st.data())
@settings(max_examples=500, deadline=None)
def test_a_plan_reads_what_the_checks_read_or_leaves_it_to_them(versions, data):
    loaded = versions["churn"]
    fields = loaded.predictor.fields
    datatypes = [data.draw(st.sampled_from(sorted(accepted(field)))) for field in fields]
    plan = Plan(loaded, request_of(fields, datatypes), wanted_outputs(loaded, []))
    raws = [encoded(data.draw, datatype) for datatype in datatypes]
    tensors = [
        Tensor(field.name, datatype, [1], raw)
        for field, datatype, raw in zip(fields, datatypes, raws, strict=True)
    ]
    found = plan.row(raws)
    try:
        (expected,) = rows_of(fields, tensors)
    except UsageError:
        assert found is None
        return
    if found is None:
        # What the checks read and a plan does not is refused by the row's own check.
        assert refused(loaded, expected)
    else:
        assert list(found) == list(expected)
        assert [*map(repr, found.values())] == [*map(repr, expected.values())]


def refused(loaded, row):
    try:
        loaded.decoder.check_one(row)
    except UsageError:
        return True
    return False


@pytest.mark.parametrize("name", ["churn", "price", "offer"])
@pytest.mark.parametrize("outputs", [[], ["prediction"]])
def test_a_response_by_plan_is_the_response(versions, name, outputs):
    loaded = versions[name]
    wanted = wanted_outputs(loaded, outputs)
    plan = Plan(loaded, request_of([], []), wanted)
    classes = loaded.predictor.classes
    for request_id in ("", "q1", "x" * 300):
        for label in classes or (2.5, float("-1e300")):
            scores = [1 / 3 + i for i, _ in enumerate(classes)] if classes else None
            answered = Answered(label, scores, "01936f3a-7d5c-7e2a-b4b1-0230b800b3eb")
            view = message("ModelInferView")(id=request_id, raw_input_contents=[b"?"])
            whole = response_of(loaded, view, output_tensors(wanted, [answered]), [answered])
            parse = message("ModelInferResponse").FromString
            assert parse(plan.response(request_id, answered)) == parse(whole)


def test_what_an_unusual_answer_says_besides_is_not_lost(versions):
    loaded = versions["price"]
    plan = Plan(loaded, request_of([], []), wanted_outputs(loaded, []))
    assert plan.response("", Answered(2.5, None, "a" * 36, "fallback", "late")) is None
    assert plan.response("", Answered(2.5, None, "a" * 36, flags=("odd",))) is None
    assert plan.response("", Answered(2.5, None, "a" * 35)) is None


def view_of(i):
    made = message("ModelInferView")(model_name="price", inputs=[b"%d" % i])
    made.raw_input_contents.append(struct.pack("<q", i))
    return made


def test_plans_are_of_one_version_and_of_a_bounded_number(versions):
    plans, loaded = Plans(), versions["price"]
    request = request_of([], [])
    request.raw_input_contents.append(b"?")
    wanted = wanted_outputs(loaded, [])
    for i in range(1_000):
        plans.learn(loaded, view_of(i), request, wanted)
        assert len(plans._plans) <= 64
    assert plans.find(loaded, view_of(999)) is not None
    assert plans.find(loaded, view_of(0)) is None
    assert plans.find(versions["offer"], view_of(999)) is None
    plans.learn(loaded, message("ModelInferView")(inputs=[b"x" * 70_000]), request, wanted)
    assert plans.find(loaded, message("ModelInferView")(inputs=[b"x" * 70_000])) is None
