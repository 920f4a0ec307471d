"""A campaign: cases on and on, good requests in between, and what the server takes meanwhile."""

import asyncio
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import count
from typing import Any, Final

from steelyard.testing.fuzz.cases import Case, call_case, frames_case, http_case
from steelyard.testing.fuzz.exchanges import Outcome, exchanged
from steelyard.testing.fuzz.processes import Use, slope_of, use_of
from steelyard.testing.fuzz.targets import Target, ask, called, learn_controls, opened

__all__ = ["Finding", "Report", "campaign", "rerun"]

_CLIENTS: Final = 64
_EACH: Final = 20
"""A round of a client: cases, and then a good request."""
_CALLS: Final = 2
_FRAMES: Final = 1
"""How many cases of such a round go to gRPC, where it is spoken."""
_PATIENCE_SECONDS: Final = 100.0
"""Longer than a server may keep a connection open on which nothing comes."""
_PATIENT: Final = 100
_KEPT: Final = 20
_LOOK_SECONDS: Final = 1.0
_RETRIES: Final = 240
"""Seconds in which a server may say that it is busy, before it is one that does not answer."""
_BUSY: Final = (503, "UNAVAILABLE", "CANCELLED")
"""What says that a request is to be sent again."""
_BLAMED: Final = frozenset(["INTERNAL", "UNKNOWN", "DATA_LOSS", "DEADLINE_EXCEEDED"])


@dataclass(frozen=True, slots=True)
class Finding:
    """What a server did that none may do; `data` were sent over one connection, or as one message."""

    target: str
    number: int
    kind: str
    what: str
    data: bytes
    came: bytes = b""

    def __str__(self) -> str:
        return (
            f"case {self.number} ({self.kind}) of {self.target}: {self.what}\n"
            f"  sent {self.data[:2_000]!r}{'...' if len(self.data) > 2_000 else ''}\n"
            f"  came {self.came!r}"
        )


@dataclass(slots=True)
class Report:
    """What a campaign did: cases by what was answered, good requests, findings, memory and files."""

    seed: int
    seconds: float = 0.0
    cases: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    controls: int = 0
    findings: list[Finding] = field(default_factory=list)
    uses: dict[str, list[Use]] = field(default_factory=dict)

    @property
    def classes(self) -> dict[str, int]:
        """The statuses of HTTP by their first digit, those of gRPC as they are."""
        found: Counter[str] = Counter()
        for status, number in self.statuses.items():
            found[f"{status[0]}xx" if status.isdigit() else status] += number
        return dict(sorted(found.items()))

    def document(self) -> dict[str, Any]:
        """Return the report as JSON holds it."""
        return {
            "seed": self.seed,
            "seconds": round(self.seconds, 1),
            "cases": dict(self.cases),
            "classes": self.classes,
            "statuses": dict(sorted(self.statuses.items())),
            "controls": self.controls,
            "findings": [
                {**asdict(one), "data": one.data.hex(), "came": one.came.hex()}
                for one in self.findings
            ],
            "processes": {
                name: {"start": asdict(uses[0]), "end": asdict(uses[-1]), "slope": slope_of(uses)}
                for name, uses in self.uses.items()
            },
        }


def campaign(
    targets: Sequence[Target], seconds: float, *, seed: int, clients: int = _CLIENTS
) -> Report:
    """Fuzz servers for some seconds. Raises OSError where one does not answer good requests at first.

    Cases follow from `seed` alone, and each from its number: `rerun` sends one again.
    """
    return asyncio.run(_Campaign(targets, seed).run(seconds, clients))


def rerun(targets: Sequence[Target], seed: int, number: int) -> Report:
    """Send one case of a campaign again."""
    return asyncio.run(_Campaign(targets, seed).run_one(number))


class _Campaign:
    def __init__(self, targets: Sequence[Target], seed: int) -> None:
        self._targets = targets
        self._turns = [target for target in targets for _ in range(target.weight)]
        self._steady = [target for target in targets if target.steady]
        self._report = Report(seed)
        self._numbers = count()
        self._channels: dict[str, Any] = {}
        self._patient: set[asyncio.Task[None]] = set()
        self._begun = time.monotonic()
        self._until = 0.0

    async def run(self, seconds: float, clients: int) -> Report:
        await self._open()
        for target in self._targets:
            await learn_controls(target, self._channels[target.name])
        self._begun = time.monotonic()
        self._until = self._begun + seconds
        looking = asyncio.ensure_future(self._look())
        async with asyncio.TaskGroup() as group:
            for _ in range(clients):
                group.create_task(self._client())
        await asyncio.gather(*self._patient)
        looking.cancel()
        self._note_use()
        self._report.seconds = time.monotonic() - self._begun
        await self._close()
        return self._report

    async def run_one(self, number: int) -> Report:
        await self._open()
        await self._case(number)
        await self._close()
        return self._report

    async def _open(self) -> None:
        self._channels = {target.name: opened(target) for target in self._targets}

    async def _close(self) -> None:
        for channel in self._channels.values():
            if channel is not None:
                await channel.close()

    async def _client(self) -> None:
        while time.monotonic() < self._until:
            number = next(self._numbers)
            await self._case(number)
            if number % _EACH == 0:
                await self._control(number)

    async def _case(self, number: int) -> None:
        """Send a case; which one it is, and to whom, follows from its number."""
        target = self._turns[number % len(self._turns)]
        place = number // len(self._turns) % _EACH
        seed = self._report.seed
        if target.calls and place < _CALLS:
            await self._call(target, number)
        elif target.calls and place < _CALLS + _FRAMES:
            case = frames_case(seed, number, target.calls)
            await self._send(target, case, "frames", target.grpc_address)
        else:
            case = http_case(seed, number, target.requests)
            left = self._until - time.monotonic()
            if number % _PATIENT == _PATIENT - 1 and left > _PATIENCE_SECONDS:
                sending = self._send(target, case, "http", target.address, _PATIENCE_SECONDS)
                task = asyncio.ensure_future(sending)
                self._patient.add(task)
                task.add_done_callback(self._patient.discard)
            else:
                await self._send(target, case, "http", target.address)

    async def _send(
        self, target: Target, case: Case, kind: str, address: tuple[str, int], patience: float = 0
    ) -> None:
        try:
            found = await exchanged(
                *address, case.parts, case.requests, patience, http=kind == "http"
            )
        except OSError as error:
            found = Outcome(problem=f"no connection: {error}")
        self._report.cases[kind] += 1
        for response in found.responses:
            self._report.statuses[str(response.status)] += 1
        if kind == "http" and not found.responses:
            self._report.statuses["none"] += 1
        if found.problem:
            self._found(target, case.number, kind, found.problem, case.data, found.came)

    async def _call(self, target: Target, number: int) -> None:
        method, data = call_case(self._report.seed, number, target.calls)
        code, came = await called(self._channels[target.name], method, data, target.metadata)
        self._report.cases["calls"] += 1
        self._report.statuses[code] += 1
        if code in _BLAMED:
            self._found(target, number, f"call of {method}", f"status {code}", data, came)

    async def _control(self, number: int) -> None:
        """Ask what was asked at the start, and compare."""
        turn, place = divmod(number // _EACH, max(1, len(self._steady)))
        target = self._steady[place] if self._steady else None
        if target is None or not target.controls:
            return
        control = target.controls[turn % len(target.controls)]
        what = ""
        answer: tuple[int | str, bytes] = (0, b"")
        try:
            for _ in range(_RETRIES):
                answer = await ask(target, self._channels[target.name], control.request)
                if answer[0] not in _BUSY:
                    break
                self._report.statuses[str(answer[0])] += 1
                await asyncio.sleep(1)
            if answer != control.answer:
                what = f"another answer to a good request: {answer}, not {control.answer}"
        except OSError as error:
            what = f"no answer to a good request: {type(error).__name__} {error}"
        self._report.controls += 1
        if what:
            request = control.request
            data = request[1] if isinstance(request, tuple) else request.render()
            self._found(target, number, "control", what, data)

    def _found(
        self, target: Target, number: int, kind: str, what: str, data: bytes, came: bytes = b""
    ) -> None:
        same = sum(f.what == what and f.target == target.name for f in self._report.findings)
        if same < _KEPT:
            self._report.findings.append(Finding(target.name, number, kind, what, data, came))

    async def _look(self) -> None:
        while True:
            self._note_use()
            await asyncio.sleep(_LOOK_SECONDS)

    def _note_use(self) -> None:
        requests = sum(self._report.cases.values())
        for target in self._targets:
            if target.process is not None:
                try:
                    use = use_of(target.process, time.monotonic() - self._begun, requests)
                except OSError:
                    self._found(target, -1, "process", "the server's process is no more", b"")
                    continue
                self._report.uses.setdefault(target.name, []).append(use)
