"""Real runtimes, our own and AWS's, behind an emulated runtime API; on a disk that is not theirs."""

import base64
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO

import pytest
from typer.testing import CliRunner

from steelyard.cli import app
from steelyard.core.config import Config
from steelyard.core.hashing import hash_json
from steelyard.core.records import Check, Verdict
from steelyard.core.reference import Reference
from steelyard.errors import UsageError
from steelyard.flow.aws_lambda import make_function
from steelyard.flow.scoring import predict_file
from steelyard.flow.stores import open_ledger
from steelyard.predictions import read
from steelyard.serve.answer.version import Served

pytest.importorskip("awslambdaric", reason="AWS's runtime client is not installed")

OWN = "from steelyard.flow.aws_lambda import main; main()"
COMMAND = """
sys.argv = ["steelyard", "serve", "--contract", "lambda"]
from steelyard.cli import main
main()
"""
AWS = """
from awslambdaric import bootstrap
from awslambdaric.lambda_runtime_client import LambdaRuntimeClient
client = LambdaRuntimeClient(__import__("os").environ["AWS_LAMBDA_RUNTIME_API"])
bootstrap.run("steelyard.flow.aws_lambda.handler", client)
"""
ANY = pytest.mark.parametrize(
    "script", [OWN, COMMAND, AWS], ids=["own runtime", "command line", "awslambdaric"]
)
BOTH = pytest.mark.parametrize("script", [OWN, AWS], ids=["own runtime", "awslambdaric"])
# Lambda's disk is read-only but for /tmp, where nothing lasts. Whoever runs the tests may write
# anywhere, so that the interpreter is made to refuse it, outside of one folder.
READ_ONLY = """
import os, sys
ALLOWED = ("/dev/", os.environ.get("WRITABLE", "/dev/"))
def refuse(event, args):
    if event == "open" and isinstance(args[0], str) and isinstance(args[2], int):
        writes = args[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
    else:
        writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.truncate")
    if writes and not os.fspath(args[0]).startswith(ALLOWED):
        raise OSError(30, "Read-only file system", args[0])
sys.addaudithook(refuse)
"""


@dataclass
class Runtime:
    process: subprocess.Popen
    stdout: IO[bytes]
    """A file: a pipe would fill up, since nobody reads it as Lambda does."""

    def lines(self):
        self.stdout.seek(0)
        return self.stdout.read().splitlines()

    def ended(self):
        """Return the exit code and what was said on standard error."""
        code = self.process.wait(30)
        return code, self.process.stderr.read().decode()


@contextmanager
def runtime(emulated, script, **environment):
    """Run a runtime against the emulation."""
    with tempfile.TemporaryFile() as stdout:
        process = subprocess.Popen(
            [sys.executable, "-B", "-c", READ_ONLY + script],
            env={
                **os.environ,
                "AWS_LAMBDA_RUNTIME_API": emulated.address,
                "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
                **environment,
            },
            stdout=stdout,
            stderr=subprocess.PIPE,
        )
        try:
            yield Runtime(process, stdout)
        finally:
            process.kill()
            process.wait()
            process.stderr.close()


@pytest.fixture(scope="module")
def many():
    """A thousand rows that no model has seen."""
    draw = random.Random(7)
    return [
        {
            "tenure": draw.randint(0, 100),
            "charge": round(draw.uniform(0.01, 100), 3),
            "total": draw.choice([None, round(draw.uniform(0, 300), 2)]),
            "plan": draw.choice(["basic", "pro"]),
            "since": f"20{draw.randint(20, 24)}-{draw.randint(1, 12):02d}-{draw.randint(1, 28):02d}",
            "active": draw.random() < 0.5,
        }
        for _ in range(1_000)
    ]


@pytest.fixture(scope="module")
def offline(store, many, tmp_path_factory):
    """What `steelyard predict` answers to the thousand rows."""
    file = tmp_path_factory.mktemp("offline") / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, many)))
    return list(map(of, predict_file("churn", str(file), Config(store))))


def of(document):
    return document["prediction"], document["probabilities"]


def http_event(body, **more):
    context = {"http": {"method": "POST", "path": "/"}, "stage": "$default"}
    return {
        "version": "2.0",
        "rawPath": "/",
        "headers": {"content-type": "application/json"},
        "requestContext": context,
        "body": body,
        "isBase64Encoded": False,
        **more,
    }


@ANY
def test_every_runtime_answers_as_predict_does(script, aws_lambda, bundle, many, offline):
    with runtime(aws_lambda, script, STEELYARD_REF=str(bundle)) as started:
        for row, wanted in zip(many[:200], offline, strict=False):
            alone = aws_lambda.invoke(row)
            assert not alone.failed, alone.answer
            assert of(json.loads(alone.answer)) == wanted
            assert json.loads(alone.answer)["version"] == 0
        together = json.loads(aws_lambda.invoke({"rows": many}).answer)["predictions"]
        assert list(map(of, together)) == offline
        body = base64.b64encode(json.dumps(many[0]).encode()).decode()
        response = json.loads(aws_lambda.invoke(http_event(body, isBase64Encoded=True)).answer)
        assert response["statusCode"] == 200
        assert of(json.loads(response["body"])) == offline[0]
        # What is refused is an error to whoever sent rows, and a response to whoever sent HTTP.
        refused = aws_lambda.invoke(many[0] | {"tenure": "5"})
        assert refused.failed
        error = json.loads(refused.answer)
        assert error["errorType"] == "InputError"
        assert "tenure" in error["errorMessage"]
        response = json.loads(aws_lambda.invoke(http_event('{"tenure": "5"}')).answer)
        assert response["statusCode"] == 422
        # The log: a line an answer, on standard output, between what the runtime says there.
        lines = started.lines()
    records = [json.loads(line) for line in lines if line.startswith(b'{"prediction_id"')]
    asked = [*many[:200], *many, many[0]]
    assert [record["row"]["tenure"] for record in records] == [row["tenure"] for row in asked]
    assert {record["version"] for record in records} == {0}


def test_the_log_may_go_to_a_folder_that_outlives_the_function(aws_lambda, bundle, rows, tmp_path):
    folder = tmp_path / "kept"
    folder.mkdir()
    environment = {"STEELYARD_REF": str(bundle), "STEELYARD_PREDICTIONS": str(folder)}
    with runtime(aws_lambda, OWN, **environment, WRITABLE=str(folder)) as started:
        ids = [json.loads(aws_lambda.invoke(row).answer)["prediction_id"] for row in rows]
        assert started.lines() == []
    assert [record.prediction_id for record in read(folder / "churn")] == ids


def test_a_log_that_cannot_be_opened_is_an_error_of_the_initialisation(
    aws_lambda, bundle, tmp_path
):
    environment = {"STEELYARD_REF": str(bundle), "STEELYARD_PREDICTIONS": str(tmp_path)}
    with runtime(aws_lambda, OWN, **environment) as started:  # its disk is read-only
        assert started.ended()[0] == 1
    assert "Read-only file system" in aws_lambda.init_errors[0]["errorMessage"]


# What to serve.


@pytest.fixture(scope="module")
def store(bundle, tmp_path_factory):
    """A working folder whose champion is the bundle."""
    state = tmp_path_factory.mktemp("packed") / "state"
    ledger = open_ledger(Config(state))
    digest = bundle.name
    for passed in (True, False):
        provenance = {"passed": passed}
        checks = (Check("schema", "rows", passed),)
        ledger.register(
            "churn",
            bundle=bundle,
            bundle_hash=digest,
            provenance=provenance,
            verdict=Verdict(digest, hash_json(provenance), checks),
            documents={},
            by="test",
        )
    ledger.promote(Reference("churn", version=1), alias="champion", reason="", by="test")
    return state


def test_a_reference_is_resolved_in_the_store_that_is_packed_with_the_function(
    aws_lambda, store, many, offline
):
    with runtime(aws_lambda, OWN, STEELYARD_STATE=str(store), STEELYARD_REF="churn"):
        document = json.loads(aws_lambda.invoke(many[0]).answer)
    assert of(document) == offline[0]
    assert document["version"] == 1


def test_a_store_may_be_named_by_its_folder(aws_lambda, store, many, offline):
    with runtime(aws_lambda, OWN, STEELYARD_REF=f"{store}/store"):
        document = json.loads(aws_lambda.invoke(many[0]).answer)
    assert of(document) == offline[0]
    assert document["version"] == 1


@BOTH
@pytest.mark.parametrize(
    ("reference", "kind", "said"),
    [
        ("churn@2", "RefusedError", "2"),
        ("chrun", "NotFoundError", "Did you mean churn?"),
    ],
)
def test_what_cannot_be_served_is_an_error_of_the_initialisation(
    aws_lambda, store, script, reference, kind, said
):
    environment = {"STEELYARD_STATE": str(store), "STEELYARD_REF": reference}
    with runtime(aws_lambda, script, **environment) as started:
        assert started.ended()[0] != 0
    (error,) = aws_lambda.init_errors
    assert error["errorType"] == kind
    assert error["kind"].endswith(kind)
    assert said in error["errorMessage"]


def test_a_flipped_byte_is_an_error_of_the_initialisation(aws_lambda, bundle, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(bundle, copy)
    data = (copy / "packed.onnx").read_bytes()
    (copy / "packed.onnx").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with runtime(aws_lambda, OWN, STEELYARD_REF=str(copy)) as started:
        code, text = started.ended()
    assert code == 1
    assert "Traceback" not in text
    assert "packed.onnx" in aws_lambda.init_errors[0]["errorMessage"]


def test_an_answer_that_the_runtime_api_does_not_take_is_told_the_invoker(aws_lambda, bundle, rows):
    aws_lambda.most_bytes = 1_000
    with runtime(aws_lambda, OWN, STEELYARD_REF=str(bundle)):
        found = aws_lambda.invoke({"rows": rows * 10})
        assert found.failed
        assert "takes no answer" in json.loads(found.answer)["errorMessage"]
        assert not aws_lambda.invoke(rows[0]).failed


def test_the_champion_is_followed_now_and_then(bundle, rows, monkeypatch):
    monkeypatch.setattr("steelyard.flow.aws_lambda._FOLLOW_SECONDS", 0)
    wanted = [Served(1, bundle.name, bundle)]
    environment = {"STEELYARD_PREDICTIONS": "", "PATH": ""}
    function = make_function(lambda: wanted[0], environment)
    body = json.dumps(rows[0]).encode()
    assert json.loads(function(body))["version"] == 1
    wanted[0] = Served(2, bundle.name, bundle)
    assert json.loads(function(body))["version"] == 2
    function.close()


def test_outside_of_lambda_it_says_what_it_needs(bundle):
    done = CliRunner().invoke(app, ["serve", str(bundle), "--contract", "lambda"])
    assert isinstance(done.exception, UsageError)
    assert "AWS_LAMBDA_RUNTIME_API is not set" in str(done.exception)


@BOTH
def test_a_model_that_nobody_named_is_asked_for(aws_lambda, script):
    with runtime(aws_lambda, script) as started:
        code, text = started.ended()
    assert code != 0
    assert "nothing says which model to serve" in text + str(aws_lambda.init_errors)


def test_a_cold_start_loads_nothing_that_an_answer_does_not_need():
    script = "import steelyard.flow.aws_lambda, sys; print(*sys.modules)"
    ended = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    loaded = {name.partition(".")[0] for name in ended.stdout.split()}
    assert "onnxruntime" in loaded
    assert not loaded & {
        "httptools", "obstore", "polars", "prometheus_client", "pydantic", "rich", "sklearn",
        "starlette", "typer", "uvicorn", "uvloop",
    }  # fmt: skip
