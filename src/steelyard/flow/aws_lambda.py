"""A proven version as an AWS Lambda function: the zip form's `handler`, and a runtime of its own.

`python -m steelyard.flow.aws_lambda` is the runtime, `steelyard.flow.aws_lambda.handler` the handler.
`STEELYARD_REF` says what to serve, as for `steelyard serve`: a reference in the store that
`STEELYARD_STORE` names, or a folder that comes with the function, a store (whose verdict is checked)
or one bundle, with a slash in it. Who may ask is what Lambda was told; keys are not asked for.

The prediction log goes to standard output, a line a record, which Lambda keeps in CloudWatch Logs;
`STEELYARD_PREDICTIONS` names a folder instead, which should lie on a file system that outlives the
function: `/tmp` does not.
"""

import json
import os
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from steelyard.core.config import Config
from steelyard.core.ids import uuid7
from steelyard.errors import SteelyardError, UsageError
from steelyard.flow.following import subject
from steelyard.predictions.lines import LineLog
from steelyard.predictions.writer import PredictionWriter
from steelyard.serve.answer.calls import Calls
from steelyard.serve.answer.endpoint import Endpoint
from steelyard.serve.answer.limits import Limits
from steelyard.serve.answer.version import Follow, load
from steelyard.serve.contracts.aws_lambda import PAYLOAD_BYTES, Function
from steelyard.serve.contracts.lambda_runtime import loop
from steelyard.serve.follower import Follower
from steelyard.serve.http.asgi import Front
from steelyard.serve.http.pages import make_pages
from steelyard.serve.observe import logs
from steelyard.serve.observe.metrics import CountedLog, Metrics

__all__ = ["make_function", "serve_lambda"]

_API: Final = "AWS_LAMBDA_RUNTIME_API"
_FOLLOW_SECONDS: Final = 60.0
_WATCH_SECONDS: Final = 0.5


def serve_lambda(ref: str, config: Config, environment: Mapping[str, str] = os.environ) -> None:
    """Serve what a reference or a folder names until Lambda ends the process.

    Raises UsageError outside of Lambda and its emulators. What is wrong with the model is told
    Lambda too, as an error of the initialisation.
    """
    address = environment.get(_API)
    if not address:
        raise UsageError(
            f"{_API} is not set: the contract lambda is answered within AWS Lambda only.",
            fix="Name this command as the image's, or start an emulator of the runtime.",
        )
    logs.set_up("json" if environment.get("AWS_LAMBDA_LOG_FORMAT") == "JSON" else "text")
    loop(address, lambda: make_function(subject(ref, config).follow, environment))


def make_function(follow: Follow, environment: Mapping[str, str] = os.environ) -> Function:
    """Verify and load the version that is wanted; return what answers events with it.

    Raises IntegrityError where its bundle is not what was sealed, LogFullError where the log cannot
    be opened.
    """
    loaded = load(follow())
    model = loaded.predictor.model
    log = _log(model, environment)
    metrics = Metrics(model, log)
    metrics.serving(loaded.served.version, loaded.served.bundle, loaded.outputs)
    endpoint = Endpoint(loaded, log, metrics, uuid7, Limits(body_bytes=PAYLOAD_BYTES))
    logs.describe(lambda: {"model": model, "version": endpoint.loaded.served.version})
    front = Front(endpoint, metrics, lambda front: make_pages(front, lambda: ""), lambda: 1)
    threading.Thread(target=_watch, args=(endpoint.calls,), daemon=True).start()
    return Function(front, _now_and_then(Follower(endpoint, follow, metrics).step))


def _watch(calls: Calls) -> None:
    """Stop calls of the model that hang, for as long as the process lives."""
    while True:
        time.sleep(_WATCH_SECONDS)
        calls.watch()


def _log(model: str, environment: Mapping[str, str]) -> CountedLog:
    folder = environment.get("STEELYARD_PREDICTIONS")
    if not folder:
        return LineLog()
    writer = PredictionWriter(Path(folder) / model, model=model)
    writer.open()
    return writer


def _now_and_then(step: Callable[[], None]) -> Callable[[], None]:
    """Return a function that calls another at most once a minute: a thread would be frozen."""
    last = time.monotonic()

    def before() -> None:
        nonlocal last
        if time.monotonic() - last >= _FOLLOW_SECONDS:
            step()
            last = time.monotonic()

    return before


def _named(environment: Mapping[str, str]) -> str:
    """Return what the environment names. Raises UsageError where it names nothing."""
    ref = environment.get("STEELYARD_REF")
    if not ref:
        raise UsageError(
            "nothing says which model to serve.",
            fix="Set STEELYARD_REF to NAME[@...], or to the folder of a store or of a bundle.",
        )
    return ref


def _handler() -> Callable[[Any, Any], Any]:
    function = make_function(subject(_named(os.environ), Config.load()).follow)

    def handler(event: Any, context: Any) -> Any:
        """Answer an event of the zip form."""
        # As it would come over the wire: NaN stays what it is, and is refused.
        answer = function(json.dumps(event).encode(), context.get_remaining_time_in_millis())
        return json.loads(answer)

    return handler


def __getattr__(name: str) -> Any:
    """Make `handler` when Lambda looks it up, in the time that it gives to initialisation."""
    if name != "handler":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = _handler()
    return globals()[name]


def main() -> None:
    """Be an image's command: what `steelyard serve --contract lambda` does, started sooner."""
    try:
        serve_lambda(_named(os.environ), Config.load())
    except SteelyardError as error:
        sys.stderr.write(f"{error}\n")
        sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
