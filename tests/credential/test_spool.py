"""Lines that wait on disk: in their order, bounded, and there again after whatever happens."""

import asyncio
import sqlite3
import ssl
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from credential import Caller, Refused, base64url, use
from credential.servers import reports
from credential.servers.gate import Refusal
from credential.servers.reports import Reports
from credential.servers.verifier import FIRST_PAUSE, Verifier
from credential.spool import Spool
from credential.use import Use
from tests.credential.test_gate import admit, request
from tests.credential.test_gate import make_gate as gate_of
from tests.credential.test_use import USE
from tests.credential.world import OTHER_KEY, make_proof, reasons

PATIENCE_SECONDS = 60


def one(number: int, *, is_accepted: bool = True, **changes: Any) -> Use:  # noqa: ANN401
    made = replace(USE, id=base64url.encode(number.to_bytes(16, "big")), **changes)
    if is_accepted:
        return made
    return replace(made, verdict="refused", reasons=("proof.late",))


def waiting(spool: Spool) -> list[Use]:
    batch = spool.first(most=1000, most_bytes=1 << 20)
    return [use.read(line) for line in batch.lines] if batch else []


def test_what_was_added_is_there_in_its_order_until_it_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    lines = [one(number) for number in range(5)]
    spool = Spool(path)
    for line in lines:
        spool.add(line)
    other = Spool(path)  # another process of the server's
    assert waiting(other) == lines
    batch = spool.first(most=2, most_bytes=1 << 20)
    assert batch is not None
    spool.remove(batch)
    assert waiting(other) == lines[2:]
    spool.close()
    other.close()
    again = Spool(path)
    assert waiting(again) == lines[2:]
    again.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_what_two_processes_have_sent_removes_no_line_of_later(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    spool.add(one(1))
    batch = spool.first(most=10, most_bytes=1 << 20)
    assert batch is not None
    spool.remove(batch)
    spool.add(one(2))
    spool.remove(batch)
    assert waiting(spool) == [one(2)]
    spool.close()


def test_a_batch_has_so_many_bytes_but_one_line_at_least(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool")
    for number in range(3):
        spool.add(one(number))
    size = len(use.encode(one(0))) + 1
    for most_bytes, count in ((1, 1), (2 * size, 2), (3 * size, 3)):
        batch = spool.first(most=10, most_bytes=most_bytes)
        assert batch is not None
        assert len(batch.lines) == count
    spool.close()


def test_a_full_spool_takes_nothing_and_refused_requests_fill_half_of_it(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", most=4)
    added = 0
    for number in range(9):
        with suppress(Refused):
            spool.add(one(number, is_accepted=False))
            added += 1
    assert added == 2
    spool.add(one(10, jti="a"))
    spool.add(one(11, jti="b"))
    with pytest.raises(Refused) as refused:
        spool.add(one(12, jti="c"))
    assert reasons(refused.value) == ["use.spool-full"]
    [finding] = refused.value.findings
    assert (finding.expected, finding.found) == ("fewer than 4 lines", "4 lines")
    spool.close()


def test_one_token_fills_as_much_as_it_leaves_to_all_others(tmp_path: Path) -> None:
    """One caller has half, the next a third of the rest at least; there is room for whoever comes.

    Requests that are refused are nobody's share: whoever has heard a token can make them.
    """
    spool = Spool(tmp_path / "spool", most=100)
    for number in range(20):
        spool.add(one(number, is_accepted=False, jti="loud"))
    added = {"loud": 0, "other": 0, "late": 0}
    for jti in added:
        with pytest.raises(Refused) as refused:  # noqa: PT012 - it is the last that is refused
            for number in range(200):
                spool.add(one(number, jti=jti))
                added[jti] += 1
        assert reasons(refused.value) == ["request.too-many"]
    assert added == {"loud": 40, "other": 20, "late": 10}
    spool.close()


def test_what_is_set_aside_keeps_its_room_and_waits_again_when_it_is_taken_back(
    tmp_path: Path,
) -> None:
    path = tmp_path / "spool"
    spool = Spool(path, most=4)
    for number in range(3):
        spool.add(one(number, jti=str(number)))
    batch = spool.first(most=2, most_bytes=1 << 20)
    assert batch is not None
    assert spool.set_aside(batch, "use.malformed") == 2
    assert spool.set_aside(batch, "use.malformed") == 2, "another process has done it"
    assert waiting(spool) == [one(2, jti="2")]
    spool.close()
    again = Spool(path, most=4)
    again.add(one(3, jti="3"))
    with pytest.raises(Refused) as refused:
        again.add(one(4, jti="4"))
    assert reasons(refused.value) == ["use.spool-full"]
    assert again.take_back() == 2
    assert [line.jti for line in waiting(again)] == ["2", "3", "0", "1"]
    assert again.take_back() == 0
    again.close()


def test_a_spool_of_another_format_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "spool"
    with sqlite3.connect(path) as file:
        file.execute("PRAGMA user_version=1")
    file.close()
    with pytest.raises(OSError, match="format 2, found 1"):
        Spool(path)


@dataclass
class Ledger:
    """A verifier that may be away, or answer something else."""

    status: int = 200
    answer: str | None = None
    unwanted: tuple[Use, ...] = ()
    """Lines that it will not have."""
    heard: list[list[Use]] = field(default_factory=list)
    tries: int = 0
    has_heard: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, asked: web.Request) -> web.Response:
        assert asked.headers["Authorization"].startswith("Basic ")
        batch = use.read_batch(await asked.read())
        if any(one in self.unwanted for one in batch):
            return refusal_of("relying-party.of-another-audience", status=403)
        if self.status == 200:
            self.heard.append(list(batch))
        self.tries += 1
        self.has_heard.set()
        told = self.answer or f'{{"recorded": {len(batch)}}}'
        return web.Response(status=self.status, text=told, content_type="application/json")


def refusal_of(reason: str, *, status: int) -> web.Response:
    """Return the answer that a verifier gives."""
    finding = {"reason": reason, "what": "", "expected": "", "found": "", "next": ""}
    return web.json_response({"verdict": "refused", "findings": [finding]}, status=status)


@asynccontextmanager
async def reporting(ledger: Ledger, path: Path, most: int = 100) -> AsyncIterator[Reports]:
    app = web.Application()
    app.router.add_post("/v1/uses", ledger.serve)
    async with TestServer(app) as server:
        at = str(server.make_url("/"))
        verifier = Verifier(
            "https://v.example", tls=ssl.create_default_context(), reached_at=at, name="ledger",
            secret="s",
        )  # fmt: skip
        made = Reports(verifier, path, most=most)
        async with made.open():
            yield made


async def hearing(ledger: Ledger, is_enough: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not is_enough():
            ledger.has_heard.clear()
            await ledger.has_heard.wait()


async def until(ledger: Ledger, count: int) -> list[Use]:
    """Wait until the ledger has heard so many lines."""
    await hearing(ledger, lambda: sum(map(len, ledger.heard)) >= count)
    return [line for batch in ledger.heard for line in batch]


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "GATHER_SECONDS", 0.05)
    monkeypatch.setattr(reports, "FIRST_PAUSE", FIRST_PAUSE / 20)


async def test_lines_travel_together(tmp_path: Path) -> None:
    ledger = Ledger()
    lines = [one(number) for number in range(10)]
    async with reporting(ledger, tmp_path / "spool") as made:
        await asyncio.gather(*(made.keep(line) for line in lines))
        assert sorted(await until(ledger, 10), key=lambda line: line.id) == lines
        assert len(ledger.heard) < 5


@pytest.mark.parametrize(
    ("status", "answer"),
    [
        pytest.param(503, None, id="away"),
        pytest.param(401, None, id="another secret"),
        pytest.param(200, '{"recorded": 0}', id="no receipt for all"),
        pytest.param(200, "[", id="no answer"),
        pytest.param(302, None, id="sent elsewhere"),
        pytest.param(403, "<html>no</html>", id="refused by somebody else"),
        pytest.param(403, '{"findings": []}', id="refused for no reason"),
        pytest.param(400, '{"findings": [{"reason": "malformed.message"}]}', id="too slow"),
    ],
)
async def test_what_was_not_acknowledged_is_sent_again(
    status: int, answer: str | None, tmp_path: Path
) -> None:
    ledger = Ledger(status=status, answer=answer)
    async with reporting(ledger, tmp_path / "spool") as made:
        await made.keep(one(1))
        await hearing(ledger, lambda: ledger.tries > 0)
        ledger.status, ledger.answer = 200, None
        ledger.heard.clear()
        assert await until(ledger, 1) == [one(1)]
        await made.keep(one(2))  # what was acknowledged does not come again with the next one
        assert await until(ledger, 2) == [one(1), one(2)]


async def test_a_line_that_the_verifier_will_not_have_stops_no_other(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is set aside, with a warning, and sent again when the gate is opened again."""
    path = tmp_path / "spool"
    lines = [one(number) for number in range(10)]
    unwanted = (lines[0], lines[6])
    async with reporting(Ledger(status=503), path) as away:
        for line in lines:
            await away.keep(line)
    ledger = Ledger(unwanted=unwanted)
    async with reporting(ledger, path) as made:
        await made.keep(one(10))
        wanted = [line for line in [*lines, one(10)] if line not in unwanted]
        assert await until(ledger, 9) == wanted
        spool = Spool(path)
        async with asyncio.timeout(PATIENCE_SECONDS):
            while waiting(spool):  # noqa: ASYNC110 - a file raises no event
                await asyncio.sleep(0.02)
        spool.close()
    for count in (1, 2):
        assert f"{count} lines set aside" in caplog.text
    known = Ledger()
    async with reporting(known, path):
        assert await until(known, 2) == [*unwanted]


async def test_what_was_left_is_sent_by_the_next_one(tmp_path: Path) -> None:
    away, ledger = Ledger(status=503), Ledger()
    async with reporting(away, tmp_path / "spool") as made:
        await made.keep(one(1))
    async with reporting(ledger, tmp_path / "spool"):
        assert await until(ledger, 1) == [one(1)]


async def test_only_so_many_refused_requests_are_reported_in_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reports, "MOST_REFUSED_PER_HOUR", 2)
    ledger = Ledger()
    async with reporting(ledger, tmp_path / "spool") as made:
        for number in range(5):
            await made.keep(one(number, is_accepted=False))
        await made.keep(one(10))
        found = await until(ledger, 3)
    assert [line.is_accepted for line in found] == [False, False, True]


async def test_nobody_is_let_in_whose_line_cannot_be_kept(tmp_path: Path) -> None:
    lines: list[str] = []
    async with reporting(Ledger(status=503), tmp_path / "spool", most=1) as made:
        gate = gate_of(lines.append, reports=made)
        first = await gate.admit(request())
        second = await gate.admit(request(proof=make_proof(jti=b"2" * 16)))
    assert isinstance(first, Caller)
    assert isinstance(second, Refusal)
    assert second.status == 503
    assert [use.read(line).reasons for line in lines] == [(), ("use.spool-full",)]


async def test_a_refused_request_is_answered_whether_or_not_there_is_room(tmp_path: Path) -> None:
    lines: list[str] = []
    async with reporting(Ledger(status=503), tmp_path / "spool", most=1) as made:
        gate = gate_of(lines.append, reports=made)
        refusal = await gate.admit(request(proof=make_proof(key=OTHER_KEY)))
    assert isinstance(refusal, Refusal)
    assert refusal.status == 403
    assert use.read(lines[0]).reasons == ("proof.signature-invalid",)


def test_a_gate_that_is_not_open_lets_nobody_in(tmp_path: Path) -> None:
    verifier = Verifier("https://v.example", tls=ssl.create_default_context())
    refusal, said = admit(request(), reports=Reports(verifier, tmp_path / "spool"))
    assert isinstance(refusal, Refusal)
    assert (refusal.status, said.reasons) == (503, ("use.spool-failed",))


async def test_a_disk_that_fails_lets_nobody_in(tmp_path: Path) -> None:
    lines: list[str] = []
    async with reporting(Ledger(status=503), tmp_path / "spool") as made:
        with sqlite3.connect(tmp_path / "spool") as file:
            file.execute("DROP TABLE lines")
        file.close()
        refusal = await gate_of(lines.append, reports=made).admit(request())
    assert isinstance(refusal, Refusal)
    assert (refusal.status, use.read(lines[0]).reasons) == (503, ("use.spool-failed",))
