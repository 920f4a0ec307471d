"""The classes of what was published against other model servers, tried widely against this one.

Files read by paths in a request, addresses that the server fetches, bodies that are unpickled by their
declared type, administration without a key, pages of other sites. `test_published.py` beside this tries
what was published as it was published; `tests/unit/bundle/test_hostile.py` a pickle inside a bundle.
"""

import json
import pickle
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

JSON = {"Content-Type": "application/json"}
POSTS = [
    "/predict/price", "/v2/models/price/infer", "/v2/models/price/versions/1/infer",
    "/v1/models/price:predict", "/invocations", "/v1/endpoints/1/deployedModels/2:predict",
]  # fmt: skip
CANARY = "the-canary-in-the-state-folder"
BENIGN = re.compile(r"^4\d\d$")


@pytest.fixture
def server(run, tmp_path, monkeypatch) -> Any:
    state = tmp_path / "state"
    state.mkdir()
    for place in (state / "secret.json", tmp_path / "secret.json"):
        place.write_text(CANARY)
    monkeypatch.chdir(state)
    return run()


def raw(server: Any, head: str, body: bytes = b"") -> tuple[int, bytes]:
    status, data = server.raw(head, body)
    return status, data


# Paths.

PREFIXES = [
    "/", "/docs/", "/predict/", "/predict/price/", "/v1/models/", "/v2/models/", "/v2/models/price/versions/",
    "/health/", "/metrics/", "/openapi.json/", "/static/", "/static-files/", "/admin/", "/files?path=",
    "/get-artifact?path=", "/model-versions/get-artifact?name=price&version=1&path=",
    "/ajax-api/2.0/mlflow/get-artifact?path=", "/api/2.0/mlflow-artifacts/artifacts/",
    "/api/2.0/mlflow/model-versions/create?source=", "/docs?file=",
]  # fmt: skip
PLACES = [
    "../secret.json", "../../secret.json", "..%2f..%2fsecret.json", "%2e%2e/%2e%2e/secret.json",
    "%252e%252e%252fsecret.json", "..\\..\\secret.json", "..%5csecret.json", "....//....//secret.json",
    "%c0%ae%c0%ae/secret.json", "secret.json", "secret.json%00", "secret.json%00.html", "/etc/passwd",
    "//etc/passwd", "../../../../../../../../etc/passwd", "..%2f..%2f..%2f..%2f..%2fetc%2fpasswd",
    "file:///etc/passwd", "file://localhost/etc/passwd", "x#../../../../../etc/passwd",
    "http:///#/../../../../../etc/passwd", "x?/../../../../../etc/passwd", "~root/.bashrc",
    "/proc/self/environ", "%2fproc%2fself%2fcmdline", "keys.json", "../keys.json", "audit/events.jsonl",
]  # fmt: skip


def test_no_path_of_a_request_reaches_a_file(server):
    before = sorted(server.state.rglob("*"))
    for prefix in PREFIXES:
        for place in PLACES:
            status, data = raw(server, f"GET {prefix}{place} HTTP/1.1")
            ours = status == 200 and prefix in ("/docs?file=",)  # a query that nothing reads
            assert ours or BENIGN.match(str(status)), (prefix, place, status)
            assert CANARY.encode() not in data
            assert b"root:" not in data
    for place in PLACES:
        for head in (f"POST /predict/{place} HTTP/1.1", f"PUT /{place} HTTP/1.1",
                     f"DELETE /{place} HTTP/1.1", f"MOVE /{place} HTTP/1.1"):  # fmt: skip
            status, data = raw(server, head, b"{}")
            assert BENIGN.match(str(status)), head
    assert sorted(server.state.rglob("*")) == before


def test_no_header_reaches_a_file(server, house):
    before = sorted(server.state.rglob("*"))
    body = json.dumps(house).encode()
    names = ["x-original-url", "x-rewrite-url", "x-forwarded-prefix", "x-forwarded-path", "referer", "cookie",
             "x-sendfile", "x-accel-redirect", "traceparent", "idempotency-key", "x-model-name",
             "inference-header-content-length", "x-request-id", "accept", "accept-language"]  # fmt: skip
    for name in names:
        for place in PLACES[:6] + PLACES[12:18]:
            head = (
                f"POST /predict/price HTTP/1.1\r\ncontent-type: application/json\r\n{name}: {place}"
            )
            status, data = raw(server, head, body)
            assert status in (200, 400, 406, 422), (name, place, status)
            assert CANARY.encode() not in data
    changed = set(server.state.rglob("*")) - set(before)
    assert {path.suffix for path in changed} <= {".log", ".seg", ""}
    assert all(path.is_relative_to(server.state / "log") for path in changed), changed


def test_no_request_is_sent_elsewhere(server):
    for path in (
        "/docs/",
        "/health/live/",
        "/v2/",
        "/metrics//",
        "//evil.example/",
        "/\\evil.example",
    ):
        status, data = raw(server, f"GET {path} HTTP/1.1\r\nx-forwarded-host: evil.example")
        assert status == 404
        assert b"location:" not in data.lower()


def test_a_value_that_looks_like_a_path_is_a_value(server, house):
    for place in PLACES:
        answer = server.ask("/predict/price", {**house, "district": place})
        assert answer.status == 422
        assert CANARY not in json.dumps(answer.document)


# Addresses.


@pytest.fixture
def trap() -> Iterator[tuple[str, list[object]]]:
    """A listener that nobody should come to: its address, and who came."""
    came: list[object] = []
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        listening.settimeout(0.1)
        ended = threading.Event()

        def accept() -> None:
            while not ended.is_set():
                try:
                    connection, address = listening.accept()
                except TimeoutError:
                    continue
                came.append(address)  # before the other side can see that it was noticed
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", came
        ended.set()
        thread.join()


def test_nothing_in_a_request_is_fetched(server, house, trap):
    address, came = trap
    for scheme in ("http", "https", "ftp", "file", "s3", "gopher", "dict"):
        url = f"{scheme}://{address}/x.json"
        bodies: list[Any] = [
            {**house, "district": url},
            {"rows": [{**house, "district": url}]},
            {"rows": url},
            {"url": url, "source": url, "model_uri": url, "callback": url},
            {"inputs": [{"name": "district", "shape": [1], "datatype": "BYTES", "data": [url],
                         "parameters": {"shared_memory_region": url}}],
             "parameters": {"binary_data_output": url}},
            {"instances": [{**house, "district": url}], "parameters": {"uri": url}},
            {"dataframe_split": {"columns": list(house), "data": [[4, 81.5, url]]},
             "params": {"artifact": url}},
            {"$ref": url},
        ]  # fmt: skip
        for path in POSTS:
            for body in bodies:
                asked = f"{path}?url={url}&model_uri={url}"
                assert 400 <= server.ask(asked, body).status < 500
        form = f'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n{url}\r\n--b--\r\n'
        for kind in (
            "multipart/form-data; boundary=b",
            "application/x-www-form-urlencoded",
            "text/uri-list",
        ):
            for path in POSTS:
                text = form if "multipart" in kind else f"image={url}"
                status, _ = raw(
                    server, f"POST {path} HTTP/1.1\r\ncontent-type: {kind}", text.encode()
                )
                assert status == 415, (path, kind)
        for name in ("host", "x-forwarded-host", "x-forwarded-for", "forwarded", "origin", "referer",
                     "link", "location", "x-callback-url", "ce-source"):  # fmt: skip
            raw(server, f"GET /health/ready HTTP/1.1\r\n{name}: {url}")
        raw(server, f"GET {url} HTTP/1.1")
    raw(server, f"CONNECT {address} HTTP/1.1")
    assert server.ask("/predict/price", house).status == 200
    assert came == []


def test_the_trap_would_tell(trap):
    address, came = trap
    host, port = address.split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.settimeout(5)
        assert connection.recv(1) == b""
    assert len(came) == 1


# Pickles.


class Bomb:
    """A pickle that leaves a mark where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return (Path.touch, (self.mark,))


KINDS = [
    "application/vnd.bentoml+pickle", "application/vnd.bentoml.pickled", "application/pickle",
    "application/x-pickle", "application/python-pickle", "application/x-python-serialize",
    "application/x-npy", "application/x-npz", "application/x-joblib", "application/vnd.python.pickle",
    "application/x-dill", "application/x-torch", "application/x-yaml", "application/msgpack",
    "application/java-serialized-object", "multipart/form-data; boundary=b", "application/zip",
    "application/json+pickle", "application/xml", "text/plain",
]  # fmt: skip


@pytest.mark.parametrize("path", POSTS)
def test_a_body_is_read_as_no_pickle_whatever_it_is_declared_to_be(server, tmp_path, path):
    mark = tmp_path / "mark"
    body = pickle.dumps(Bomb(mark))
    for kind in KINDS:
        status, _ = raw(server, f"POST {path} HTTP/1.1\r\ncontent-type: {kind}", body)
        assert status == 415, kind
    # A service behind a service was trusted with these headers; here there is none.
    for container in ("NdarrayContainer", "PandasDataFrameContainer", "DefaultContainer"):
        meta = json.dumps({"format": "pickle5", "with_buffer": True, "buffer-lengths": [len(body)]})
        for kind in (
            "application/json",
            "application/octet-stream",
            "application/vnd.bentoml+pickle",
        ):
            head = (
                f"POST {path} HTTP/1.1\r\ncontent-type: {kind}\r\npayload-container: {container}\r\n"
                f"payload-meta: {meta}\r\nbatch-size: 1\r\nargs-number: 1\r\n"
                "bento-name: x\r\nyatai-bentoml-deployment-name: x\r\naccept: application/x-pickle"
            )
            status, _ = raw(server, head, body)
            assert BENIGN.match(str(status)), (container, kind)
    assert not mark.exists()


# Administration.

ADMIN = [
    "/admin/drain", "/admin/state", "/admin", "/drain", "/shutdown", "/quit", "/stop", "/reload", "/restart",
    "/config", "/loglevel", "/debug/pprof", "/debug/vars", "/console", "/actuator", "/actuator/shutdown",
    "/models", "/models/price", "/v1/models/price/load", "/v2/repository/index",
    "/v2/repository/models/price/load", "/v2/repository/models/price/unload", "/v2/logging",
    "/v2/systemsharedmemory/region/x/register", "/v2/cudasharedmemory/region/x/register",
    "/v2/models/price/trace/setting", "/v2/trace/setting",
    "/api/2.0/mlflow/registered-models/create", "/api/2.0/mlflow/model-versions/create",
    "/api/2.0/mlflow/users/create", "/ajax-api/2.0/mlflow/gateway-proxy", "/ajax-api/2.0/mlflow/upload-artifact",
    "/keys", "/promote", "/rollback", "/exec", "/run",
]  # fmt: skip


def test_nothing_is_administered_where_predictions_are_answered(server, house):
    source = {
        "name": "price",
        "source": "../../../../etc/",
        "parameters": {},
        "log_verbose_level": 9,
    }
    for path in ADMIN:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE"):
            answer = server.ask(path, source, method=method)
            assert answer.status in (404, 405), (method, path, answer.status)
    for method in ("TRACE", "PUT", "DELETE", "PATCH", "PROPFIND"):
        status, data = raw(server, f"{method} /predict/price HTTP/1.1\r\ncookie: token=abc")
        assert status == 405
        assert b"token=abc" not in data
    assert server.ask("/health/ready").document["version"] == 1
    assert server.ask("/predict/price", house).status == 200


# Pages of other sites.


@pytest.mark.parametrize("path", POSTS)
def test_no_page_sends_a_request_that_nobody_was_asked_about(server, house, path):
    """A browser sends these for any page, and asks first only where the type is another."""
    body = json.dumps(house).encode()
    page = f"POST {path} HTTP/1.1\r\norigin: https://evil.example\r\nsec-fetch-site: cross-site"
    for kind in ("", "\r\ncontent-type: text/plain", "\r\ncontent-type: text/plain;charset=UTF-8",
                 "\r\ncontent-type: application/x-www-form-urlencoded",
                 "\r\ncontent-type: multipart/form-data; boundary=b"):  # fmt: skip
        assert raw(server, page + kind, body)[0] == 415
    status, data = raw(server, f"OPTIONS {path} HTTP/1.1\r\norigin: https://evil.example\r\n"
                       "access-control-request-method: POST")  # fmt: skip
    assert status in (404, 405)
    assert b"access-control" not in data.lower()


def test_the_docs_page_and_programs_are_answered(server, house):
    body = json.dumps(house).encode()
    own = f"POST /predict/price HTTP/1.1\r\norigin: http://127.0.0.1:{server.port}"
    assert raw(server, f"{own}\r\ncontent-type: application/json", body)[0] == 200
    assert raw(server, "POST /predict/price HTTP/1.1", body)[0] == 200
