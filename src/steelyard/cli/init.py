"""`steelyard init`: a project that runs at once."""

import random
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from steelyard.cli.output import Json, console, print_json
from steelyard.core.files import atomic_write
from steelyard.errors import UsageError

__all__ = ["init"]

_PLANS = ("monthly", "yearly", "two_years")
_ROWS = 4_000


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    as_json: Json = False,
) -> None:
    """Write a small project: a definition, its data, a README and a CI workflow."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UsageError(
            f"{folder} exists and is not an empty folder.",
            fix="Name a new folder: steelyard init churn-model",
        )
    written = []
    templates = files("steelyard.cli") / "scaffold"
    for source, target in (
        ("churn.py.txt", "churn.py"),
        ("test_churn.py.txt", "test_churn.py"),
        ("README.md.txt", "README.md"),
        ("requirements.txt", "requirements.txt"),
        ("gitignore.txt", ".gitignore"),
        ("workflow.yml.txt", ".github/workflows/model.yml"),
    ):
        atomic_write(folder / target, (templates / source).read_bytes())
        written.append(target)
    atomic_write(folder / "data" / "customers.csv", _customers().encode())
    written.append("data/customers.csv")
    if as_json:
        print_json({"folder": str(folder), "files": written})
        return
    for name in written:
        console.print(f"[green]✓[/] {folder / name}")
    console.print(f"[dim]→[/] cd {folder} && steelyard run churn.py")


def _customers() -> str:
    """Return an invented table of customers, the same every time."""
    draw = random.Random(7)  # example data, nothing secret
    lines = ["customer_id,tenure,monthly_charge,plan,support_calls,joined,churned"]
    for number in range(_ROWS):
        tenure = draw.randint(0, 72)
        plan = draw.choices(_PLANS, (5, 3, 2))[0]
        charge = round(draw.uniform(15, 120), 2)
        calls = min(9, int(draw.expovariate(0.8)))
        known = "" if draw.random() < 0.03 else str(calls)
        odds = -2.2 + 0.02 * charge - 0.04 * tenure + 0.45 * calls - 1.3 * _PLANS.index(plan)
        churned = "yes" if draw.gauss(odds, 1.2) > 0 else "no"
        joined = f"20{draw.randint(18, 24)}-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
        lines.append(f"C{number:05},{tenure},{charge},{plan},{known},{joined},{churned}")
    return "\n".join(lines) + "\n"
