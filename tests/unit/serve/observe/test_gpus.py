import os

import pytest

from steelyard.serve.observe import exposition, gpus
from steelyard.serve.observe.gpus import Gpu, Gpus


@pytest.fixture
def tool(tmp_path, monkeypatch):
    """Put a tool on the path that says what the driver's own one would."""

    def put(script):
        path = tmp_path / "nvidia-smi"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
        exposition._cards.cache_clear()

    yield put
    exposition._cards.cache_clear()


def read(cards):
    cards._begun -= 60
    cards.latest()
    cards._reading.join()
    return cards.latest()


TWO = """
[ "$1" = --query-gpu=index,name,memory.used,memory.total,utilization.gpu ] || exit 2
[ "$2" = --format=csv,noheader,nounits ] || exit 2
echo '0, NVIDIA H100 80GB HBM3, 1024, 81559, 37'
echo '1, NVIDIA H100 80GB HBM3, 0, 81559, [N/A]'
"""


def test_memory_and_load_of_each_card_are_read(tool):
    tool(TWO)
    name = "NVIDIA H100 80GB HBM3"
    assert read(Gpus()) == (
        Gpu("0", name, 1024 * 2**20, 81559 * 2**20, 0.37),
        Gpu("1", name, 0.0, 81559 * 2**20, None),
    )


def test_a_scrape_tells_what_was_read_before_and_waits_for_nothing(tool, stand):
    tool(TWO + "sleep 1")
    metrics = stand("price").metrics
    text, _ = exposition.exposition(metrics)
    assert b"gpu" not in text
    exposition._cards()._reading.join()
    text, _ = exposition.exposition(metrics)
    assert b'steelyard_gpu_memory_used_bytes{gpu="0",name="NVIDIA H100 80GB HBM3"} 1.07' in text
    assert b'steelyard_gpu_busy_ratio{gpu="0",name="NVIDIA H100 80GB HBM3"} 0.37' in text
    assert b'steelyard_gpu_busy_ratio{gpu="1"' not in text


@pytest.mark.parametrize("script", ["exit 9", "echo nonsense", "echo No devices were found"])
def test_a_driver_that_is_away_is_no_card(tool, script):
    tool(TWO)
    cards = Gpus()
    assert len(read(cards)) == 2
    tool(script)
    assert read(cards) == ()


def test_one_that_hangs_is_left(tool, monkeypatch):
    monkeypatch.setattr(gpus, "_PATIENCE_SECONDS", 0.1)
    tool("exec sleep 60")
    assert read(Gpus()) == ()


def test_a_reading_that_is_fresh_is_not_made_again(tool):
    tool(TWO)
    cards = Gpus()
    read(cards)
    before = cards._reading
    cards.latest()
    assert cards._reading is before


def test_where_there_is_no_tool_there_is_no_card(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    cards = Gpus()
    assert cards.latest() == ()
    assert cards._reading is None
