"""How often the collapse alarm is false, and how late a true one is, over simulated answers.

    python bench/collapse.py [--repeats 1000] [--answers 200000] [--json]

Healthy streams are watched at the default limit; at the worst rate that still counts as healthy also
at low limits, where false alarms can be counted and held against the bound. A collapse begins after
a healthy stretch; its delay is counted in answers, and so is the time to clear once it is over. The
cost of watching is measured on the real `Collapse`.
"""

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter, thread_time
from typing import Any

import numpy as np
import numpy.typing as npt

from steelyard.serve.answer.collapse import ARL, Chart, Collapse, evidence, limit

Rng = np.random.Generator
Stream = Callable[[Rng, int], tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]
"""Labels [N] and whole answers [N], as whole numbers."""

_MANY = 1_000_000


@dataclass(frozen=True)
class Scene:
    """A model on held-out rows: its labels' shares, its commonest answer's; what it answers now."""

    name: str
    shares: tuple[float, ...]
    commonest: float
    stream: Stream

    def evidence(self, labels: Any, answers: Any) -> tuple[Any, Any]:
        """Return the evidence [N - 1] of labels and of whole answers."""
        bets = np.array([evidence(share) for share in self.shares])[labels[:-1]]
        by_label = np.where(labels[1:] == labels[:-1], bets[:, 0], bets[:, 1])
        by_answer = np.where(answers[1:] == answers[:-1], *evidence(self.commonest))
        return by_label, by_answer


def distinct(rng: Rng, n: int) -> npt.NDArray[np.int64]:
    return rng.integers(0, _MANY, n)


def labels_at(rng: Rng, n: int, positive: Any) -> npt.NDArray[np.int64]:
    return (rng.random(n) < positive).astype(np.int64)


def iid(positive: float) -> Stream:
    return lambda rng, n: (labels_at(rng, n, positive), distinct(rng, n))


def seasonal(rng: Rng, n: int) -> tuple[Any, Any]:
    """The odds of a positive swing between a third and three times those before."""
    turn = np.sin(np.arange(n) * 2 * np.pi / 20_000 + rng.uniform(0, 2 * np.pi))
    odds = 0.1 / 0.9 * 3**turn
    return labels_at(rng, n, odds / (1 + odds)), distinct(rng, n)


def bursts(rng: Rng, n: int) -> tuple[Any, Any]:
    """Half of the rows are the last one again, which not every caller can leave out."""
    place = np.maximum.accumulate(np.where(rng.random(n) < 0.5, 0, np.arange(n)))
    return labels_at(rng, n, 0.5)[place], distinct(rng, n)[place]


def numbers(rng: Rng, n: int) -> tuple[Any, Any]:
    return np.zeros(n, dtype=np.int64), distinct(rng, n)


def leaves(rng: Rng, n: int) -> tuple[Any, Any]:
    """A regression tree with few leaves, the largest of which takes four rows in ten."""
    return np.zeros(n, dtype=np.int64), rng.choice(6, n, p=[0.4, 0.2, 0.1, 0.1, 0.1, 0.1])


HEALTHY = [
    Scene("balanced, 50 : 50", (0.5, 0.5), 0.01, iid(0.5)),
    Scene("99 : 1", (0.99, 0.01), 0.01, iid(0.01)),
    Scene("999 : 1", (0.999, 0.001), 0.01, iid(0.001)),
    Scene("90 : 10, seasons of 3 times the odds", (0.9, 0.1), 0.01, seasonal),
    Scene("90 : 10, drifted to 97 : 3", (0.9, 0.1), 0.01, iid(0.03)),
    Scene("10 labels", (0.1,) * 10, 0.01, lambda rng, n: (rng.integers(0, 10, n), distinct(rng, n))),
    Scene("50 : 50, half of the rows asked again", (0.5, 0.5), 0.01, bursts),
    Scene("regression, all answers differ", (0.5,), 1e-4, numbers),
    Scene("regression tree of 6 leaves", (0.5,), 0.4, leaves),
]  # fmt: skip


def false_alarms(scene: Scene, rng: Rng, repeats: int, n: int) -> int:
    """Return how many of the streams of n answers raise an alarm."""
    alarms = 0
    for _ in range(repeats):
        by_label, by_answer = scene.evidence(*scene.stream(rng, n))
        # A regression has one label here, which does not count.
        found = [by_answer, by_label][: len(scene.shares)]
        alarms += any(Chart(limit(ARL)).advance(some) for some in found)
    return alarms


def at_the_edge(rng: Rng, share: float, arl: float, repeats: int) -> dict[str, float]:
    """Return the mean number of answers to a false alarm where every bet is as good as it may be."""
    found = evidence(share)
    others = (1 - share) / (1 - share + 4 * share)
    times = []
    for _ in range(repeats):
        chart, n = Chart(math.log(arl)), 0
        while True:
            steps = np.where(rng.random(1_000) >= others, *found)
            if at := chart.advance(steps):
                times.append(n + at[0] + 1)
                break
            n += 1_000
    error = float(np.std(times) / math.sqrt(repeats))
    return {"share": share, "bound": arl, "mean": float(np.mean(times)), "error": error}


def stuck(label: int, others: float = 0.0) -> Stream:
    """One answer to nearly everything; the others are as they were, at even chances."""

    def stream(rng: Rng, n: int) -> tuple[Any, Any]:
        other = rng.random(n) < others
        labels = np.where(other, rng.integers(0, 2, n), label)
        return labels, np.where(other, distinct(rng, n), -1)

    return stream


def one_label(label: int, others: float = 0.0) -> Stream:
    """One label to nearly everything, with numbers that go on varying."""
    return lambda rng, n: (
        np.where(rng.random(n) < others, 1 - label, label),
        distinct(rng, n),
    )


@dataclass(frozen=True)
class Ending:
    """A healthy scene, the collapse that it ends in, and the chart that tells first."""

    name: str
    scene: Scene
    collapsed: Stream
    by_answer: bool = False
    label: int = 0

    @property
    def formula(self) -> int:
        share = self.scene.commonest if self.by_answer else self.scene.shares[self.label]
        return evidence(share).fewest


_BALANCED, _HUNDRED, _THOUSAND = HEALTHY[:3]
ENDINGS = [
    Ending("one answer, 50 : 50", _BALANCED, stuck(0), by_answer=True),
    Ending("one answer but for 1 %, 50 : 50", _BALANCED, stuck(0, 0.01), by_answer=True),
    Ending("one answer, 999 : 1", _THOUSAND, stuck(0), by_answer=True),
    Ending("one answer, tree of 6 leaves", HEALTHY[8], stuck(0), by_answer=True),
    Ending("one label, 50 : 50", _BALANCED, one_label(0)),
    Ending("one label but for 1 %, 50 : 50", _BALANCED, one_label(0, 0.01)),
    Ending("the commoner label, 90 : 10", Scene("", (0.9, 0.1), 0.01, iid(0.1)), one_label(0)),
    Ending("the commoner label, 99 : 1", _HUNDRED, one_label(0)),
    Ending("the commoner label, 999 : 1", _THOUSAND, one_label(0)),
    Ending("the rarer label, 999 : 1", _THOUSAND, one_label(1), label=1),
]
_BEFORE = 2_000


def delays(ending: Ending, rng: Rng, repeats: int) -> dict[str, Any]:
    """Return how many answers it takes to alarm, and then to clear, over repeats."""
    late, back = [], []
    for _ in range(repeats):
        late.append(_turn(ending, rng, (ending.scene.stream, ending.collapsed), 1.0))
        # What clears an alarm is the same chart over the opposite evidence.
        back.append(_turn(ending, rng, (ending.collapsed, ending.scene.stream), -1.0))
    return {
        "ending": ending.name,
        "formula": ending.formula,
        "delay": _summary(late),
        "clears": _summary(back),
    }


def _turn(ending: Ending, rng: Rng, streams: tuple[Stream, Stream], sign: float) -> int:
    before = streams[0](rng, _BEFORE)
    n = 3 * ending.formula + 2_000
    while True:
        after = streams[1](rng, n)
        joined = [np.concatenate(pair) for pair in zip(before, after, strict=True)]
        found = ending.scene.evidence(*joined)[ending.by_answer]
        if at := Chart(limit(ARL)).advance(sign * found):
            return max(at[0] - _BEFORE + 2, 0)
        n *= 2


def _summary(found: list[int]) -> dict[str, float]:
    median, high = np.quantile(found, [0.5, 0.95])
    return {"median": float(median), "p95": float(high)}


def cost(rows: int = 256, rounds: int = 200) -> dict[str, float]:
    """Return the nanoseconds of processor that watching takes an answer, in the quickest batch.

    Batches are as large as a server's; rows have twenty values.
    """
    rng = np.random.default_rng(0)
    found = {}
    for name, shares in (("binary", {False: 0.5, True: 0.5}), ("regression", {})):
        watch = Collapse(shares, 0.01)
        times = []
        for _ in range(rounds):
            answers: list[Any] = [(x, None) for x in rng.random(rows).tolist()]
            if shares:
                answers = [(x > 0.5, [1 - x, x]) for x in rng.random(rows).tolist()]
            asked = [tuple(row) for row in rng.random((rows, 20)).tolist()]
            started = thread_time()
            watch.observe(answers, asked)
            times.append(thread_time() - started)
        found[name] = min(times) / rows * 1e9
    return found


def measure(repeats: int, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(7)
    return {
        "repeats": repeats,
        "answers": n,
        "healthy": {scene.name: false_alarms(scene, rng, repeats, n) for scene in HEALTHY},
        "edge": [
            at_the_edge(rng, share, arl, repeats)
            for share in (0.5, 0.9, 0.99)
            for arl in (10.0, 100.0, 1_000.0)
        ],
        "endings": [delays(ending, rng, repeats) for ending in ENDINGS],
        "cost_ns": cost(),
    }


def show(found: dict[str, Any]) -> None:
    print(
        f"| healthy stream, {found['answers']:,} answers | streams with a false alarm |\n|---|---|"
    )
    for name, alarms in found["healthy"].items():
        print(f"| {name} | {alarms} of {found['repeats']:,} |")
    print("\n| share before | bound | answers to a false alarm at the edge |\n|---|---|---|")
    for one in found["edge"]:
        print(
            f"| {one['share']:g} | {one['bound']:,.0f} | {one['mean']:,.0f} ± {one['error']:,.0f} |"
        )
    print(
        "\n| collapse | formula | delay, median | 95 of 100 | clears, median | 95 of 100 |\n"
        "|---|---|---|---|---|---|"
    )
    for one in found["endings"]:
        numbers = [one["formula"], *one["delay"].values(), *one["clears"].values()]
        print(f"| {one['ending']} | " + " | ".join(f"{x:,.0f}" for x in numbers) + " |")
    costs = ", ".join(f"{kind} {ns:.0f}" for kind, ns in found["cost_ns"].items())
    print(f"\nNanoseconds an answer, in batches of 256: {costs}.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=1_000)
    parser.add_argument("--answers", type=int, default=200_000)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    started = perf_counter()
    found = measure(given.repeats, given.answers)
    found["seconds"] = perf_counter() - started
    if given.json:
        print(json.dumps(found, indent=1))
    else:
        show(found)


if __name__ == "__main__":
    main()
