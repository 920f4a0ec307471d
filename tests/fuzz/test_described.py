"""What the OpenAPI documents of real servers say, held to by schemathesis: both ways, on every operation."""

import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(1_200)

CONFIG = Path(__file__).with_name("schemathesis.toml")


def held_to(url: str, folder: Path, examples: int, *headers: str) -> None:
    """Run every check over every operation; a case is as likely to be valid as not."""
    done = subprocess.run(
        [Path(sys.executable).with_name("schemathesis"), "--config-file", CONFIG, "run",
         f"{url}/openapi.json", "--phases", "examples,coverage,fuzzing",
         "--max-examples", str(examples), "--generation-deterministic", "--no-color",
         "--continue-on-failure", *[word for line in headers for word in ("--header", line)]],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    shown = "\n".join(line[:500] for line in done.stdout.splitlines())
    assert done.returncode == 0, shown + done.stderr
    given = dict(line.split(": ") for line in headers)
    with urllib.request.urlopen(
        urllib.request.Request(f"{url}/openapi.json", headers=given), timeout=20
    ) as answer:
        document = json.load(answer)
    count = sum(len(operations) for operations in document["paths"].values())
    assert re.search(rf"Tested: {count}$", done.stdout, re.MULTILINE)
    assert count > 10


@pytest.mark.long
@pytest.mark.parametrize("examples", [3, 500])
def test_the_usual_contracts_are_as_described(usual, tmp_path, examples):
    held_to(usual.url, tmp_path, examples)
    assert usual.errors() == []


@pytest.mark.long
@pytest.mark.parametrize("examples", [200])
def test_the_other_contracts_are_as_described_where_keys_are_asked_for(keyed, tmp_path, examples):
    held_to(keyed.server.url, tmp_path, examples, f"X-API-Key: {keyed.predict_key}")
    assert keyed.server.errors() == []
