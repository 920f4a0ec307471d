"""What was published against MLflow and BentoML, sent as it was published, to a server, a bundle, a store.

A test is named by the CVE. `test_attacks.py` beside this tries the classes more widely.
"""

import base64
import json
import pickle
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from steelyard.bundle.format import read_verified
from steelyard.bundle.predictor import Predictor
from steelyard.core.reference import Reference
from steelyard.errors import IntegrityError, SteelyardError
from steelyard.serve.secure.keys import KeyFile

CANARY = "the-canary-in-the-state-folder"
JSON = "\r\ncontent-type: application/json"
REGISTER = "/ajax-api/2.0/mlflow/model-versions/create"
ARTIFACT = "/model-versions/get-artifact?name=price&version=1&path="
ARTIFACTS = "/api/2.0/mlflow-artifacts/artifacts/"


@pytest.fixture
def server(run, tmp_path, monkeypatch) -> Any:
    state = tmp_path / "state"
    state.mkdir()
    for place in (state / "secret.json", tmp_path / "secret.json"):
        place.write_text(CANARY)
    monkeypatch.chdir(state)
    return run()


# Paths: each is what registers a place, and what then reads or deletes it.

TRAVERSALS = {
    "CVE-2023-1177": [("POST", REGISTER, "file:///etc/"), ("GET", f"{ARTIFACT}passwd", "")],
    "CVE-2023-2780": [("POST", REGISTER, "file://localhost/..\\..\\etc"), ("GET", f"{ARTIFACT}..\\secret.json", "")],
    "CVE-2023-3765": [("GET", f"{ARTIFACT}C:/Windows/win.ini", ""), ("GET", f"{ARTIFACTS}C:/Windows/win.ini", "")],
    "CVE-2023-6753": [("PUT", f"{ARTIFACTS}..%5c..%5csecret.json", "x")],
    "CVE-2023-6831": [("DELETE", f"{ARTIFACTS}%252E%252E%252Fsecret.json", "")],
    "CVE-2023-6909": [("POST", REGISTER, "http:///#/../../../../../../../../etc/"), ("GET", f"{ARTIFACT}passwd", "")],
    "CVE-2023-6976": [("POST", "/ajax-api/2.0/mlflow/upload-artifact?run_uuid=1&path=../secret.json", "x")],
    "CVE-2024-1483": [("POST", "/ajax-api/2.0/mlflow/experiments/create", "http:///#/../../../etc/")],
    "CVE-2024-1558": [("POST", REGISTER, "models:/x/1?/../../../../etc/"), ("GET", f"{ARTIFACT}passwd", "")],
    "CVE-2024-1560": [("DELETE", f"{ARTIFACTS}%25%32%65%25%32%65%25%32%66secret.json", "")],
    "CVE-2024-1593": [("GET", f"{ARTIFACTS};/../../../../etc/passwd", ""), ("GET", "/docs;/../../secret.json", "")],
    "CVE-2024-1594": [("POST", "/ajax-api/2.0/mlflow/experiments/create", "file:///etc#x/../../")],
    "CVE-2024-2928": [("POST", REGISTER, "http:///?/#/../../../etc/"), ("GET", f"{ARTIFACT}passwd", "")],
    "CVE-2024-3573": [("POST", REGISTER, "file:etc/passwd"), ("GET", f"{ARTIFACT}passwd", "")],
    "CVE-2024-3848": [("POST", REGISTER, "http://x#/../../../../etc/"), ("GET", f"{ARTIFACT}passwd", "")],
    "CVE-2024-8859": [("GET", "/get-artifact?run_uuid=1&path=dbfs:/../../etc/passwd", "")],
    "CVE-2025-11201": [("POST", "/api/2.0/mlflow/model-versions/create", "../../../../root/.ssh")],
}  # fmt: skip


@pytest.mark.parametrize("cve", TRAVERSALS)
def test_no_path_leads_out(server, house, cve):
    for method, target, source in TRAVERSALS[cve]:
        body = {"name": "price", "source": source, "artifact_location": source, "run_id": "1"}
        status, data = server.raw(f"{method} {target} HTTP/1.1{JSON}", json.dumps(body).encode())
        assert status in (400, 404, 405), (target, status)
        assert CANARY.encode() not in data
        assert b"root:" not in data
    for folder in (server.state, server.state.parent):
        assert (folder / "secret.json").read_text() == CANARY
    assert server.ask("/predict/price", house).status == 200


@pytest.mark.parametrize("cve", TRAVERSALS)
def test_no_reference_of_a_store_leads_out(cve, tmp_path):
    """What names a version is a name, an alias, a number or a hash; a place is none of them."""
    for _, target, source in TRAVERSALS[cve]:
        for place in (target, source or target, f"../{source}"):
            for text in (place, f"churn@{place}", f"churn@sha256:{place}"):
                if place != "x":
                    with pytest.raises(SteelyardError):
                        Reference.parse(text)


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
                came.append(address)
                connection.close()

        thread = threading.Thread(target=accept)
        thread.start()
        yield f"127.0.0.1:{listening.getsockname()[1]}", came
        ended.set()
        thread.join()


def fetched(cve: str, url: str) -> list[tuple[str, bytes]]:
    """Return heads and bodies that made another server fetch an address."""
    form = f'--b\r\nContent-Disposition: form-data; name="image"\r\n\r\n{url}\r\n--b--\r\n'.encode()
    paths = ("/predict/price", "/invocations", "/v2/models/price/infer", "/v1/models/price:predict")
    return {
        # A model's source at an address of the attacker's.
        "CVE-2023-6974": [(f"POST {REGISTER} HTTP/1.1{JSON}", json.dumps({"name": "a", "source": url}).encode()),
                          (f"GET /get-artifact?path={url} HTTP/1.1", b"")],
        # The gateway's proxy, by GET and POST.
        "CVE-2025-52967": [(f"GET /ajax-api/2.0/mlflow/gateway-proxy?gateway_path={url} HTTP/1.1", b""),
                           (f"POST /ajax-api/2.0/mlflow/gateway-proxy HTTP/1.1{JSON}",
                            json.dumps({"gateway_path": url, "json_data": {}}).encode())],
        # A file that is given as a URL, in a form or in JSON.
        "CVE-2025-54381": [
            *[(f"POST {path} HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b", form)
              for path in paths],
            *[(f"POST {path} HTTP/1.1{JSON}", json.dumps({"image": url, "file": url}).encode())
              for path in paths],
        ],
    }[cve]  # fmt: skip


@pytest.mark.parametrize("cve", ["CVE-2023-6974", "CVE-2025-52967", "CVE-2025-54381"])
def test_no_address_is_fetched(server, house, trap, cve):
    address, came = trap
    for scheme in ("http", "https", "file"):
        for head, body in fetched(cve, f"{scheme}://{address}/latest/meta-data"):
            assert 400 <= server.raw(head, body)[0] < 500
    assert server.ask("/predict/price", house).status == 200
    assert came == []


# Pickles.


class Bomb:
    """A pickle that leaves a mark where it is read."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> object:
        return (Path.touch, (self.mark,))


BENTOML = {
    # serde chosen by the declared type.
    "CVE-2024-2912": "content-type: application/vnd.bentoml+pickle",
    "CVE-2025-27520": "content-type: application/vnd.bentoml+pickle\r\npayload-container: DefaultContainer",
    # The runner's own headers, trusted wherever they came from.
    "CVE-2025-32375": "content-type: application/vnd.bentoml.v1+pickle\r\nargs-number: 1\r\n"
    'payload-container: NdarrayContainer\r\npayload-meta: {"format": "default"}\r\nbatch-size: -1',
    "CVE-2024-9070": "content-type: application/vnd.bentoml.pickled\r\nargs-number: 2\r\n"
    "payload-container: PandasDataFrameContainer\r\npayload-meta: {}",
}


@pytest.mark.parametrize("cve", BENTOML)
def test_no_body_is_unpickled(server, house, tmp_path, cve):
    mark = tmp_path / "mark"
    body = pickle.dumps(Bomb(mark))
    for path in ("/predict/price", "/invocations", "/v2/models/price/infer", "/predict", "/"):
        status, _ = server.raw(f"POST {path} HTTP/1.1\r\n{BENTOML[cve]}", body)
        assert status in (404, 405, 415), (path, status)
    assert server.ask("/predict/price", house).status == 200
    assert not mark.exists()


MLFLOW = {
    "CVE-2024-37052": ("mlflow.sklearn", "model.pkl"),
    "CVE-2024-37053": ("mlflow.sklearn", "model.cloudpickle"),
    "CVE-2024-37054": ("mlflow.pyfunc.model", "python_model.pkl"),
    "CVE-2024-37055": ("mlflow.pmdarima", "model.pmd"),
    "CVE-2024-37056": ("mlflow.lightgbm", "model.pkl"),
    "CVE-2024-37057": ("mlflow.tensorflow", "custom_objects.cloudpickle"),
    "CVE-2024-37058": ("mlflow.langchain", "model.pkl"),
    "CVE-2024-37059": ("mlflow.pytorch", "model.pth"),
    "CVE-2024-37060": ("recipe", "card.pkl"),
}


@pytest.mark.parametrize("cve", MLFLOW)
def test_no_model_is_unpickled_or_imported(bundles, tmp_path, cve):
    """A folder of MLflow's is no bundle, and beside one its files are not looked at."""
    loader, name = MLFLOW[cve]
    mark = tmp_path / "mark"
    good = bundles["price"].folder
    for folder, files in (("alone", []), ("beside", list(good.iterdir()))):
        place = tmp_path / folder
        (place / "code").mkdir(parents=True)
        for path in files:
            (place / path.name).write_bytes(path.read_bytes())
        (place / name).write_bytes(pickle.dumps(Bomb(mark)))
        (place / "MLmodel").write_text(
            f"flavors:\n  python_function:\n    loader_module: {loader}\n    code: code\n"
            f"    python_model: {name}\n    model_path: {name}\n"
        )
        (place / "code" / "__init__.py").write_text(f"open({str(mark)!r}, 'w')")
        if files:
            assert Predictor.load(place, expected=bundles["price"].bundle).model == "price"
        else:
            with pytest.raises(IntegrityError):
                read_verified(place)
            with pytest.raises(IntegrityError):
                Predictor.load(place, expected=bundles["price"].bundle)
        assert not mark.exists()


def test_the_bomb_goes_off_where_it_is_read(tmp_path):
    pickle.loads(pickle.dumps(Bomb(tmp_path / "mark")))
    assert (tmp_path / "mark").exists()


# Administration without a key, and what stands for one.


@pytest.mark.parametrize("cve", ["CVE-2023-6014", "CVE-2025-11200", "CVE-2025-1474"])
def test_nothing_is_open_to_a_user_of_no_password(server, eventually, house, free_port, cve):
    KeyFile(server.state / "keys.json").create("shop")
    assert eventually(lambda: server.ask("/predict/price", house).status == 401)
    for user in (
        "admin:",
        "admin:password",
        "admin:password1234",
        ":",
        "admin",
        "shop:",
        "shop:shop",
    ):
        given = base64.b64encode(user.encode()).decode()
        head = f"POST /predict/price HTTP/1.1{JSON}\r\nauthorization: Basic {given}"
        assert server.raw(head, json.dumps(house).encode())[0] == 401
    for path in ("/api/2.0/mlflow/users/create", "/signup", "/api/2.0/mlflow/users/update-admin"):
        body = json.dumps({"username": "eve", "password": "", "is_admin": True}).encode()
        assert server.raw(f"POST {path} HTTP/1.1{JSON}", body)[0] == 401


def test_CVE_2025_14279_a_page_by_another_name_of_this_machine_has_no_key(
    server, eventually, house
):
    """By DNS that is rebound any page is of the server's own site; what it has not is a key."""
    KeyFile(server.state / "keys.json").create("shop")
    assert eventually(lambda: server.ask("/predict/price", house).status == 401)
    own = f"\r\nhost: evil.example:{server.port}\r\norigin: http://evil.example:{server.port}"
    assert (
        server.raw(f"POST /predict/price HTTP/1.1{JSON}{own}", json.dumps(house).encode())[0] == 401
    )
    assert server.raw(f"GET /metrics HTTP/1.1{own}")[0] == 401


# Pages, and bodies that cost more to read than to send.


@pytest.mark.parametrize("cve", ["CVE-2024-27132", "CVE-2024-27133"])
def test_no_text_of_a_request_becomes_a_page(server, house, cve):
    script = "<script>alert(1)</script>"
    for path in (
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/predict/%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    ):
        _, data = server.raw(f"GET {path} HTTP/1.1")
        assert b"content-type: application/json" in data.lower()
        assert b"nosniff" in data
    answer = server.ask("/predict/price", {**house, "district": script, script: 1})
    assert answer.headers["content-type"] == "application/json"
    assert script not in server.ask("/docs").document.decode()


def test_CVE_2024_9056_a_boundary_without_end_is_not_read(server, house):
    body = b"--b" + b"-" * 4_000_000
    head = "POST /predict/price HTTP/1.1\r\ncontent-type: multipart/form-data; boundary=b"
    with suppress(ConnectionError):  # it may close before it has read what it refuses
        assert server.raw(head, body)[0] == 415
    assert server.ask("/predict/price", house).status == 200
