"""Listening: by itself and by real processes that share a port, drain and end; over TLS."""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import trustme

from steelyard.bundle.predictor import Predictor
from steelyard.errors import UsageError
from steelyard.predictions import read
from steelyard.serve.answer.limits import Limits
from steelyard.serve.grpc.messages import SERVICE, message
from steelyard.serve.grpc.server import GrpcServer
from steelyard.serve.secure.tls import Tls, TlsFiles
from steelyard.serve.server import kept_port
from steelyard.testing.fuzz.cases import frames_of

INFER = f"/{SERVICE}/ModelInfer"
ALONE = [("grpc.use_local_subchannel_pool", 1)]
"""Channels of one process to one address would share a connection, and so a worker."""

SERVER = """
import sys
from pathlib import Path
from steelyard.core.ids import uuid7
from steelyard.predictions.writer import PredictionWriter
from steelyard.serve.server import Setup, kept_port
from steelyard.serve.answer.version import Served
from steelyard.serve.workers import serve

bundle, folder, log, workers = sys.argv[1:]
with kept_port("127.0.0.1", 0) as address:
    setup = Setup(
        follow=lambda: Served(1, bundle, Path(folder)),
        open_log=lambda model: PredictionWriter(Path(log), model=model),
        new_id=uuid7,
        log_problem=lambda model: "",
        workers=int(workers),
        grpc=address,
    )
    assert "grpc" not in sys.modules  # its threads would not survive the fork
    serve(setup, "127.0.0.1", 0, lambda endpoint, url: print(address, flush=True))
"""


@dataclass
class Running:
    process: subprocess.Popen[str]
    address: str
    log: Path

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def logged(self) -> Counter[str]:
        return Counter(record.prediction_id for record in read(self.log))


@pytest.fixture
def run(bundles, tmp_path) -> Iterator[Callable[..., Running]]:
    running: list[subprocess.Popen[str]] = []

    def start(workers: int) -> Running:
        served, log = bundles["price"], tmp_path / "log"
        command = [sys.executable, "-c", SERVER, served.bundle, str(served.folder), str(log),
                   str(workers)]  # fmt: skip
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        running.append(process)
        assert process.stdout is not None
        return Running(process, process.stdout.readline().strip(), log)

    yield start
    for process in running:
        process.kill()
        process.communicate()


@pytest.fixture
def request_(versions, house, request_of) -> bytes:
    data: bytes = request_of(versions["price"].predictor.fields, [house]).SerializeToString()
    return data


def asked(channel: Any, data: bytes) -> str:
    """Return the id of an answer."""
    response = message("ModelInferResponse").FromString(
        channel.unary_unary(INFER)(data, timeout=20)
    )
    found: str = response.parameters["prediction_ids"].string_param
    return found


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_share_the_port_drain_and_end_in_peace(run, request_, workers):
    server = run(workers)
    answered: list[str] = []
    codes: Counter[grpc.StatusCode] = Counter()
    stopped = threading.Event()

    def ask_on() -> None:
        while not stopped.is_set():
            try:
                with grpc.insecure_channel(server.address, ALONE) as channel:
                    for _ in range(5):
                        answered.append(asked(channel, request_))
            except grpc.RpcError as error:
                codes[error.code()] += 1
                stopped.wait(0.01)

    threads = [threading.Thread(target=ask_on) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 200 and not codes:
        stopped.wait(0.01)
    assert server.end() == 0
    stopped.set()
    for thread in threads:
        thread.join(20)
    # The server stops, or the library, which cancels what it has not handed over: no call failed.
    assert set(codes) <= {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}
    logged = server.logged()
    assert set(logged.values()) == {1}
    assert set(answered) <= set(logged)
    segments = [path for path in server.log.rglob("*.log") if path.read_bytes().count(b"\n") > 1]
    assert len(segments) == workers
    assert server.process.stderr is not None
    assert not [line for line in server.process.stderr if "Stop" not in line]


def test_a_call_under_way_is_answered_before_the_server_ends(stand, request_, monkeypatch):
    made = stand("price", Limits(timeout_ms=60_000))
    made.endpoint.calls.slow = True
    began, told = threading.Event(), threading.Event()
    real = Predictor.answer_some

    def answer(self, *given, **named):
        began.set()
        told.wait(30)
        return real(self, *given, **named)

    monkeypatch.setattr(Predictor, "answer_some", answer)

    async def work():
        server = GrpcServer(made.front, lambda: "", "127.0.0.1:0")
        port = await server.start()
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            under_way = channel.unary_unary(INFER)(request_)
            while not began.is_set():
                await asyncio.sleep(0.001)
            stopping = asyncio.ensure_future(server.stop(30))
            await asyncio.sleep(0)
            later = [await refusal(channel, request_)]
            while "stopping" in later[-1]:
                later.append(await refusal(channel, request_))
            assert not stopping.done()
            told.set()
            answered = await under_way
            await stopping
            return answered, later

    answered, later = asyncio.run(work())
    assert message("ModelInferResponse").FromString(answered).outputs
    assert later[0] == "the server is stopping; send this one again"
    assert len(made.log.lines) == 1


def test_a_taken_port_is_told_with_the_way_out():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match="--grpc-port 0"), kept_port("127.0.0.1", port):
            pass


def test_no_port_is_no_grpc():
    with kept_port("127.0.0.1", None) as address:
        assert address == ""
    with kept_port("127.0.0.1", 0) as address:
        assert re.fullmatch(r"127\.0\.0\.1:\d+", address)


def files_of(folder: Path, authority: trustme.CA) -> TlsFiles:
    made = authority.issue_cert("localhost", "127.0.0.1")
    made.cert_chain_pems[0].write_to_path(folder / "cert.pem")
    made.private_key_pem.write_to_path(folder / "key.pem")
    authority.cert_pem.write_to_path(folder / "ca.pem")
    return TlsFiles(folder / "cert.pem", folder / "key.pem")


async def refusal(channel: Any, data: bytes) -> str:
    """Return what a call is told that cannot be answered now; nothing of one that is answered."""
    try:
        await channel.unary_unary(INFER)(data, timeout=20)
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return str(error.details())
    return ""


def test_tls_is_spoken_and_renewed_files_are_taken_over(stand, request_, tmp_path):
    made, old, new = stand("price"), trustme.CA(), trustme.CA()
    tls = Tls(files_of(tmp_path, old))

    async def work():
        server = GrpcServer(made.front, lambda: "", "127.0.0.1:0", tls)
        address = f"127.0.0.1:{await server.start()}"

        async def trusted(authority):
            credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes())
            async with grpc.aio.secure_channel(address, credentials, ALONE) as channel:
                return not await refusal(channel, request_)

        async def in_the_clear():
            async with grpc.aio.insecure_channel(address, ALONE) as channel:
                return not await refusal(channel, request_)

        before = [await trusted(old), await trusted(new), await in_the_clear()]
        files_of(tmp_path, new)
        renewed = [await trusted(old), await trusted(new)]
        (tmp_path / "key.pem").write_text("half a ")
        broken = await trusted(new)
        await server.stop(5)
        return before, renewed, broken

    before, renewed, broken = asyncio.run(work())
    assert before == [True, False, False]
    assert renewed == [False, True]
    assert broken


def test_a_call_whose_path_is_no_text_ends_no_server(stand, request_, caplog):
    """The library raises at such a path and stops by itself; the port comes back, and ends in peace."""
    made = stand("price")

    async def work():
        server = GrpcServer(made.front, lambda: "", "127.0.0.1:0")
        port = await server.start()
        for times, method in enumerate(("ServerL\udcffve", "\udcff\udcfe\udcff"), 1):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(frames(method))
            async with asyncio.timeout(20):
                while caplog.text.count("gRPC listens again") < times:
                    await asyncio.sleep(0.01)
            writer.transport.abort()
            async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", ALONE) as channel:
                call = channel.unary_unary(INFER)(request_, timeout=20, wait_for_ready=True)
                assert await call
        await server.stop(5)
        with pytest.raises(OSError, match="Connect call failed"):
            await asyncio.open_connection("127.0.0.1", port)

    asyncio.run(work())


def frames(method: str) -> bytes:
    """Return a call as it goes over a connection, of a method that no client's library would name."""
    name = "x" * len(method)
    return frames_of(name, b"").replace(name.encode(), method.encode("utf-8", "surrogateescape"), 1)


def test_clients_show_certificates_where_an_authority_is_named(stand, request_, tmp_path):
    made, authority = stand("price"), trustme.CA()
    files = files_of(tmp_path, authority)
    tls = Tls(TlsFiles(files.cert, files.key, tmp_path / "ca.pem"))

    def credentials(signed_by: trustme.CA | None) -> Any:
        chain = key = None
        if signed_by is not None:
            made_cert = signed_by.issue_cert("client@example.org")
            chain = made_cert.cert_chain_pems[0].bytes()
            key = made_cert.private_key_pem.bytes()
        return grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)

    async def work():
        server = GrpcServer(made.front, lambda: "", "127.0.0.1:0", tls)
        address = f"127.0.0.1:{await server.start()}"
        found = []
        for who in (authority, None, trustme.CA()):
            async with grpc.aio.secure_channel(address, credentials(who), ALONE) as channel:
                found.append(not await refusal(channel, request_))
        await server.stop(5)
        return found

    assert asyncio.run(work()) == [True, False, False]
