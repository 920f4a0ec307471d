"""The ledger under several real processes, and under processes that die at any line."""

import json
import random
import shutil
import signal
from pathlib import Path

import pytest

from steelyard.core.reference import Reference
from steelyard.registry.audit import audit
from steelyard.registry.ledger import Ledger
from steelyard.registry.store import FolderStore

KILLS = 50


def finished(processes):
    """Let waiting writers go at the same moment; return what each acknowledged."""
    for process in processes:
        assert process.stdout.readline() == '"ready"\n', process.stderr.read()
    told = []
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert process.returncode == 0, err
        told.append([json.loads(line) for line in out.splitlines()][:-1])
    return told


def promotion(ref, reason):
    return {"do": "promote", "ref": ref, "reason": reason}


@pytest.mark.parametrize("writers", [2, 8])
def test_concurrent_promotions_end_in_one_order(store, ledger, candidate, start_writer, writers):
    for content in range(1, 5):
        candidate(content).register(ledger)
    processes = [
        start_writer(
            store.root,
            [promotion(f"churn@{(w + k) % 4 + 1}", f"{w}/{k}") for k in range(6)],
            kill_at=-1,
        )
        for w in range(writers)
    ]
    answers = [answer for told in finished(processes) for answer in told]
    moved = [answer for answer in answers if answer["moved"]]
    events = [e for e in Ledger(store).history("churn") if e["kind"] == "alias"]
    # Each acknowledged move is there once, and each starts where the one before it ended.
    assert sorted(e["reason"] for e in events) == sorted(a["reason"] for a in moved)
    assert {(e["reason"], e["from"], e["to"]) for e in events} == {
        (a["reason"], a["from"], a["to"]) for a in moved
    }
    assert [e["from"] for e in events] == [None, *[e["to"] for e in events[:-1]]]
    for told in finished_order(events):
        assert told == sorted(told)
    assert audit(Ledger(store)) == []


def finished_order(events):
    """Return, a writer at a time, the order in which its moves stand in the ledger."""
    writers = {event["reason"].split("/")[0] for event in events}
    return [
        [int(e["reason"].split("/")[1]) for e in events if e["reason"].split("/")[0] == writer]
        for writer in writers
    ]


@pytest.mark.parametrize("writers", [2, 8])
def test_concurrent_registrations_get_dense_numbers(store, candidate, start_writer, writers):
    shared = candidate(1, made=999).operation()
    processes = [
        start_writer(
            store.root,
            [candidate(w % 3, made=100 * w + k).operation() for k in range(3)] + [shared],
            kill_at=-1,
        )
        for w in range(writers)
    ]
    numbers = [[answer["number"] for answer in told] for told in finished(processes)]
    own = [number for told in numbers for number in told[:-1]]
    common = {told[-1] for told in numbers}
    assert len(common) == 1
    assert sorted([*own, *common]) == list(range(1, 3 * writers + 2))
    assert [v.number for v in Ledger(store).versions("churn")] == sorted([*own, *common])
    assert audit(Ledger(store)) == []


def base_of(folder: Path, candidate) -> Path:
    ledger = Ledger(FolderStore(folder))
    candidate(1).register(ledger)
    candidate(2).register(ledger)
    ledger.promote(Reference.parse("churn@1"), reason="first", by="ann")
    return folder


def killed_at(start_writer, root, operation, line):
    """Run one operation in a process that dies before that line; return what it acknowledged."""
    process = start_writer(root, [operation], kill_at=line)
    assert process.stdout.readline() == '"ready"\n'
    out, err = process.communicate("go\n", timeout=60)
    answers = [json.loads(text) for text in out.splitlines()]
    if line:
        assert process.returncode in (-signal.SIGKILL, 0), err
        return answers, process.returncode == -signal.SIGKILL
    assert process.returncode == 0, err
    return answers, False


def lines_to_die_at(start_writer, base, tmp_path, operation, count):
    root = shutil.copytree(base, tmp_path / "counted")
    answers, _ = killed_at(start_writer, root, operation, 0)
    return sorted(random.Random(0).sample(range(1, answers[-1]["lines"] + 1), count))


def register_dies(candidate, start_writer, tmp_path, count):
    base = base_of(tmp_path / "base", candidate)
    given = candidate(3)
    before = Ledger(FolderStore(base)).versions("churn")
    seen = set()
    for line in lines_to_die_at(start_writer, base, tmp_path, given.operation(), count):
        root = shutil.copytree(base, tmp_path / "store")
        answers, died = killed_at(start_writer, root, given.operation(), line)
        ledger = Ledger(FolderStore(root))
        findings = audit(ledger)
        assert [f for f in findings if f.state == "error"] == []
        versions = ledger.versions("churn")
        assert versions[:2] == before
        assert len(versions) == 3 or (len(versions) == 2 and not answers and died)
        if len(versions) == 3:
            assert ledger.verdict(versions[2]) == given.verdict
        seen.add(len(versions))
        # The same again ends as if nothing had happened, with no rest.
        assert given.register(ledger).number == 3
        assert audit(ledger) == []
        assert dict(ledger.aliases("churn")) == {"champion": 1}
        assert list(root.rglob(".aside-*")) == []
        shutil.rmtree(root)
    return seen


def promote_dies(candidate, start_writer, tmp_path, count):
    base = base_of(tmp_path / "base", candidate)
    operation = promotion("churn@2", "second")
    seen = set()
    for line in lines_to_die_at(start_writer, base, tmp_path, operation, count):
        root = shutil.copytree(base, tmp_path / "store")
        answers, died = killed_at(start_writer, root, operation, line)
        ledger = Ledger(FolderStore(root))
        assert [f for f in audit(ledger) if f.state == "error"] == []
        holder = ledger.resolve(Reference.parse("churn")).number
        assert holder == 2 or (holder == 1 and not answers and died)
        seen.add(holder)
        move = ledger.promote(Reference.parse("churn@2"), reason="second", by="ann")
        assert move.moved is (holder == 1)
        events = [e["reason"] for e in ledger.history("churn") if e["kind"] == "alias"]
        assert events == ["first", "second"]
        assert audit(ledger) == []
        assert list(root.rglob(".aside-*")) == []
        shutil.rmtree(root)
    return seen


def test_a_registration_that_dies_leaves_all_or_nothing(candidate, start_writer, tmp_path):
    register_dies(candidate, start_writer, tmp_path, 6)


def test_a_promotion_that_dies_leaves_all_or_nothing(candidate, start_writer, tmp_path):
    promote_dies(candidate, start_writer, tmp_path, 6)


@pytest.mark.long
def test_fifty_registrations_that_die(candidate, start_writer, tmp_path):
    assert register_dies(candidate, start_writer, tmp_path, KILLS) == {2, 3}


@pytest.mark.long
def test_fifty_promotions_that_die(candidate, start_writer, tmp_path):
    assert promote_dies(candidate, start_writer, tmp_path, KILLS) == {1, 2}


def test_one_of_several_writers_dies(store, ledger, candidate, start_writer):
    for content in range(1, 5):
        candidate(content).register(ledger)
    processes = [
        start_writer(
            store.root,
            [promotion(f"churn@{(w + k) % 4 + 1}", f"{w}/{k}") for k in range(6)],
            kill_at=0 if w else 900,
        )
        for w in range(3)
    ]
    for process in processes:
        assert process.stdout.readline() == '"ready"\n'
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [-signal.SIGKILL, 0, 0]
    acknowledged = {
        answer["reason"]
        for out in outs
        for answer in map(json.loads, out.splitlines())
        if answer.get("moved")
    }
    kept = [e["reason"] for e in Ledger(store).history("churn") if e["kind"] == "alias"]
    # The one that died may have moved once more than it could tell.
    assert acknowledged <= set(kept)
    assert len(set(kept) - acknowledged) <= 1
    assert len(kept) == len(set(kept))
    assert [f for f in audit(Ledger(store)) if f.state == "error"] == []
