"""The command line. Each command imports its story when it runs, so that help is instant."""

import sys

import typer

from steelyard.cli import (
    conform,
    dashboards,
    fuzz,
    init,
    keys,
    log,
    predict,
    run,
    serve,
    sign,
    versions,
)
from steelyard.cli.output import fail
from steelyard.errors import SteelyardError

__all__ = ["app", "main"]

app = typer.Typer(
    name="steelyard",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="One definition per model, one compiled artifact, nothing unproven in production.",
)
app.command("init")(init.init)
app.command("run")(run.run)
app.command("predict")(predict.predict)
app.command("serve")(serve.serve)
app.command("dashboards")(dashboards.dashboards)
app.command("conform")(conform.conform)
app.command("fuzz")(fuzz.fuzz)
app.command("models")(versions.models)
app.command("show")(versions.show)
app.command("sign")(sign.sign)
app.command("verify")(versions.verify)
app.command("reproduce")(versions.reproduce)
app.command("diff")(versions.diff)
app.command("promote")(versions.promote)
app.command("rollback")(versions.rollback)
app.command("log")(log.log)
app.command("doctor")(versions.doctor)
app.add_typer(keys.app, name="keys")


def main() -> None:
    """Run the command line; a mistake of the user ends in a message, never in a traceback."""
    try:
        app()
    except SteelyardError as error:
        fail(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
