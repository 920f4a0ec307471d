"""What is sent to each kind of server, and how its answers are read.

A form names both: how rows become a body, and where an answer holds the probability of "Yes" for
each of them. `load.py` reads answers by it too, so what costs to import is imported where it is used.
"""

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

Row = dict[str, Any]
JSON = {"Content-Type": "application/json"}
_ARROW = {"Content-Type": "application/vnd.apache.arrow.stream"}


class Form(NamedTuple):
    body: Callable[[list[Row]], tuple[bytes, dict[str, str]]]
    scores: Callable[[bytes], list[float]]


def _of(document: Any) -> tuple[bytes, dict[str, str]]:
    return json.dumps(document).encode(), JSON


def _second(body: bytes, member: str) -> list[float]:
    return [pair[1] for pair in json.loads(body)[member]]


def _prediction(answer: Row) -> float:
    """Return the probability, where the prediction is the one that it stands for."""
    yes: float = answer["probabilities"]["Yes"]
    if answer["prediction"] != ("Yes" if yes >= 0.5 else "No"):
        raise ValueError(f"prediction and probabilities differ: {answer}")
    return yes


def _native(rows: list[Row]) -> tuple[bytes, dict[str, str]]:
    return _of(rows[0] if len(rows) == 1 else {"rows": rows})


def _native_scores(body: bytes) -> list[float]:
    answer = json.loads(body)
    return [_prediction(one) for one in answer.get("predictions", [answer])]


def _arrow(rows: list[Row]) -> tuple[bytes, dict[str, str]]:
    import io

    import polars as pl

    stream = io.BytesIO()
    pl.DataFrame(rows).write_ipc_stream(stream, compression="uncompressed")
    return stream.getvalue(), _ARROW


def _arrow_scores(body: bytes) -> list[float]:
    import polars as pl

    return [_prediction(one) for one in pl.read_ipc_stream(body).to_dicts()]


def _split(rows: list[Row]) -> tuple[bytes, dict[str, str]]:
    """MLflow's form that is documented first, and the shorter one."""
    values = [list(row.values()) for row in rows]
    return _of({"dataframe_split": {"columns": list(rows[0]), "data": values}})


def _v2(rows: list[Row]) -> tuple[bytes, dict[str, str]]:
    """A tensor a column; `pd` and the output are what MLServer's scikit-learn runtime asks for."""
    inputs = []
    for name, value in rows[0].items():
        text = isinstance(value, str)
        kind = "BYTES" if text else "INT64" if isinstance(value, int) else "FP64"
        tensor = {"name": name, "datatype": kind, "shape": [len(rows), 1]}
        inputs.append({**tensor, "data": [row[name] for row in rows]})
        if text:
            inputs[-1]["parameters"] = {"content_type": "str"}
    return _of(
        {
            "parameters": {"content_type": "pd"},
            "inputs": inputs,
            "outputs": [{"name": "predict_proba"}],
        }
    )


def _v2_scores(body: bytes) -> list[float]:
    scores: list[float] = json.loads(body)["outputs"][0]["data"]
    return scores[1::2]


def _tensors(rows: list[Row]) -> tuple[bytes, dict[str, str]]:
    """v2 with Triton's raw tensors, numbers and strings; what tritonclient sends by default."""
    import struct

    numbers = [value for row in rows for value in row.values() if not isinstance(value, str)]
    texts = [value.encode() for row in rows for value in row.values() if isinstance(value, str)]
    raw = {
        "numbers": struct.pack(f"<{len(numbers)}f", *numbers),
        "strings": b"".join(struct.pack("<I", len(text)) + text for text in texts),
    }
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": name,
                    "datatype": kind,
                    "shape": [len(rows), len(values) // len(rows)],
                    "parameters": {"binary_data_size": len(raw[name])},
                }
                for name, kind, values in (
                    ("numbers", "FP32", numbers),
                    ("strings", "BYTES", texts),
                )
            ],
            "outputs": [{"name": "probabilities", "parameters": {"binary_data": True}}],
        }
    ).encode()
    headers = {
        "Content-Type": "application/octet-stream",
        "Inference-Header-Content-Length": str(len(head)),
    }
    return head + raw["numbers"] + raw["strings"], headers


def _tensor_scores(body: bytes) -> list[float]:
    import struct

    head, end = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    size = head["outputs"][0]["parameters"]["binary_data_size"]
    return list(struct.unpack(f"<{size // 4}f", body[end : end + size]))[1::2]


def _no_scores(body: bytes) -> list[float]:
    return []


def _rows(rows: list[Row]) -> tuple[bytes, dict[str, str]]:
    return _of({"rows": rows})


FORMS = {
    "native": Form(_native, _native_scores),
    "arrow": Form(_arrow, _arrow_scores),
    "split": Form(_split, lambda body: _second(body, "predictions")),
    "v2": Form(_v2, _v2_scores),
    "tensors": Form(_tensors, _tensor_scores),
    "rows": Form(_rows, lambda body: _second(body, "probabilities")),
    "echo": Form(_native, _no_scores),
}


def write(
    path: Path, form: str, route: str, parts: list[list[Row]], expected: list[list[float]]
) -> None:
    """Write a file of requests for load.py: a body for each part, and what answers it rightly."""
    made = [FORMS[form].body(part) for part in parts]
    # Headers differ where one tells a length, so each body has its own.
    requests = [
        {"headers": headers, "body": base64.b64encode(body).decode()} for body, headers in made
    ]
    path.write_text(
        json.dumps({"form": form, "route": route, "requests": requests, "expected": expected})
    )


def problem(form: str, answer: bytes, expected: list[float]) -> str:
    """Return what is wrong with an answer, if anything; one in 100,000 is what float32 may differ."""
    try:
        found = FORMS[form].scores(answer)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        return f"no answer in the form {form!r} ({error!r}): {answer[:300]!r}"
    if form == "echo" or (
        len(found) == len(expected)
        and all(abs(a - b) <= 1e-5 for a, b in zip(found, expected, strict=True))
    ):
        return ""
    return f"expected {expected[:5]}, got {found[:5]}"
