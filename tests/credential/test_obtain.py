"""The client for Python programs, against real sockets."""

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypedDict

import pytest

from credential import (
    DPoP,
    Finding,
    Malformed,
    Nonces,
    Refused,
    Seen,
    base64url,
    check,
    crypto,
    local,
    obtain,
)
from credential.local import Credential, Message, Nonce, Obtain, Prove, Refusal, Token
from tests.credential import fake_attestor
from tests.credential.fake_attestor import FakeAttestor
from tests.credential.world import AUDIENCE, ID, KEYS, URL, make_token, reasons

Start = Callable[..., FakeAttestor]
CHANGED = Finding(reason="process.changed", what="/usr/bin/payments", expected="a", found="b")


class Request(TypedDict):
    audience: str
    method: str
    url: str


def request(url: str = URL) -> Request:
    return {"audience": AUDIENCE, "method": "POST", "url": url}


def to_token(token: str) -> Message:
    return Credential(token=token, expires=0, id=ID, level="lab")


def is_accepted(token: str, proof: str | DPoP, url: str = URL) -> bool:
    claims = check(
        token, proof, keys=KEYS, method="POST", url=url, now=datetime.now(UTC), seen=Seen(),
        audience=AUDIENCE, minimum="lab", allow_lab=True,
        status="unchecked",
    )  # fmt: skip
    return claims.id == ID


async def test_a_process_obtains_and_proves(attestor: FakeAttestor) -> None:
    async with obtain(path=attestor.path) as identity:
        assert (identity.id, identity.level) == (ID, "lab")
        assert identity.expires > datetime.now(UTC)
        assert is_accepted(*await identity.prove(**request()))
        assert await identity.token() == fake_attestor.token()
    assert [type(message) for message in attestor.heard] == [Obtain, Prove, Token]


async def test_the_identity_wanted_is_named(attestor: FakeAttestor) -> None:
    async with obtain(id=ID, path=attestor.path):
        pass
    assert isinstance(attestor.heard[0], Obtain)
    assert attestor.heard[0].id == ID


async def test_a_process_with_a_key_of_its_own_proves_by_itself(start_attestor: Start) -> None:
    """The attestor is asked for the token, and for nothing else."""
    granted: list[str] = []

    def to_obtain(asked: Obtain) -> Message:
        point, signature = (base64url.decode(one) for one in (asked.use_key, asked.signature))
        assert asked.proof_key == "process"
        assert crypto.is_signed(point, local.use_key_statement(asked.nonce), signature)
        now = datetime.now(UTC)
        token = make_token(
            level="lab", issued=now, expires=now + timedelta(minutes=5), use_key=point,
            proof_key="process",
        )  # fmt: skip
        granted.append(token)
        return Credential(token=token, expires=int(now.timestamp()) + 300, id=ID, level="lab")

    attestor = start_attestor(to_obtain=to_obtain, to_token=lambda: to_token(granted[0]))
    async with obtain(path=attestor.path, proof_key="process") as identity:
        assert is_accepted(*await identity.prove(**request()))
        nonces = Nonces(bytes(32))
        dpop = await identity.prove(**request(), kind="dpop", nonce=nonces.at(datetime.now(UTC)))
        assert is_accepted(dpop.token, DPoP(proof=dpop.proof, nonces=nonces))
    assert [type(message) for message in attestor.heard] == [Obtain, Token, Token]


async def test_the_tpm_is_asked_for(attestor: FakeAttestor) -> None:
    async with obtain(path=attestor.path, proof_key="tpm"):
        pass
    assert isinstance(attestor.heard[0], Obtain)
    assert (attestor.heard[0].proof_key, attestor.heard[0].use_key) == ("tpm", "")


async def test_a_launched_process_uses_its_channel_once(
    attestor: FakeAttestor, monkeypatch: pytest.MonkeyPatch
) -> None:
    channel = attestor.socket_pair()
    os.set_inheritable(channel.fileno(), True)  # noqa: FBT003
    monkeypatch.setenv("PROCSEAL_FD", str(channel.detach()))
    async with obtain(path="/nonexistent") as identity:
        assert is_accepted(*await identity.prove(**request()))
        assert "PROCSEAL_FD" not in os.environ
    with pytest.raises(FileNotFoundError):
        async with obtain(path="/nonexistent"):
            pass


@pytest.mark.parametrize("value", ["three", "-1", "3 ", "\u0663"])
async def test_a_channel_that_is_no_number(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PROCSEAL_FD", value)
    with pytest.raises(ValueError, match="PROCSEAL_FD"):
        async with obtain():
            pass


async def test_what_the_token_is_for_is_said(start_attestor: Start) -> None:
    attestor = start_attestor()
    context = {"ticket": "a b", "session": "4711"}
    wanted = {"audience": "https://ledger.example.org", "scopes": ["post"], "context": context}
    async with obtain(path=attestor.path, **wanted):  # type: ignore[arg-type]
        pass
    asked = attestor.heard[0]
    assert isinstance(asked, Obtain)
    assert (asked.audience, asked.scope) == ("https://ledger.example.org", ("post",))
    assert asked.context == ("session=4711", "ticket=a b")


@pytest.mark.parametrize(
    "wanted",
    [
        {"scopes": ["po st"]},
        {"audience": "led ger"},
        {"context": {"Session": "1"}},
        {"context": {"session": ""}},
        {"context": {"session": "a\nid: x"}},
    ],
)
async def test_what_could_not_be_read_is_not_sent(
    wanted: dict[str, Any], start_attestor: Start
) -> None:
    attestor = start_attestor()
    with pytest.raises(Malformed):
        async with obtain(path=attestor.path, **wanted):
            pass


async def test_no_attestor(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        async with obtain(path=tmp_path / "nobody.sock"):
            pass


@pytest.mark.parametrize("answer", ["nonce", "to_obtain"])
async def test_a_refusal_says_why(answer: str, start_attestor: Start) -> None:
    attestor = start_attestor(**{answer: lambda *_: Refusal.of((CHANGED,))})
    with pytest.raises(Refused) as refusal:
        async with obtain(path=attestor.path):
            pass
    assert refusal.value.findings == (CHANGED,)


async def test_a_refused_proof_does_not_end_the_connection(start_attestor: Start) -> None:
    answers: list[Any] = [Refusal.of((CHANGED,)), None]

    def to_prove(asked: Prove) -> Message:
        return answers.pop(0) or fake_attestor.to_prove(asked)

    attestor = start_attestor(to_prove=to_prove)
    async with obtain(path=attestor.path) as identity:
        with pytest.raises(Refused) as refusal:
            await identity.prove(**request())
        assert reasons(refusal.value) == ["process.changed"]
        assert is_accepted(*await identity.prove(**request()))


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        pytest.param(Nonce(nonce="0f" * 32), ConnectionError, id="another message"),
        pytest.param(b"procseal/1 proof\n", Malformed, id="half a message"),
        pytest.param(b"x" * 65537, Malformed, id="too long a message"),
        pytest.param(b"\xff", Malformed, id="no text"),
    ],
)
async def test_an_attestor_that_makes_no_sense(
    answer: Message | bytes, error: type[Exception], start_attestor: Start
) -> None:
    attestor = start_attestor(to_prove=lambda _: answer)
    async with obtain(path=attestor.path) as identity:
        with pytest.raises(error):
            await identity.prove(**request())


async def test_an_attestor_that_goes_away(start_attestor: Start) -> None:
    def go_away(_asked: Obtain) -> Message:
        raise ConnectionResetError

    attestor = start_attestor(to_obtain=go_away)
    with pytest.raises(ConnectionError):
        async with obtain(path=attestor.path):
            pass


async def test_its_last_words_are_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    monkeypatch.setenv("PROCSEAL_FD", str(other.detach()))
    with own:
        own.send(Nonce(nonce="0f" * 32).encode())
        own.send(fake_attestor.to_obtain(Obtain(nonce="")).encode())  # type: ignore[union-attr]
        async with obtain() as identity:
            own.recv(65536)
            own.send(Refusal.of((CHANGED,)).encode())
            own.close()
            with pytest.raises(Refused):
                await identity.prove(**request())
            with pytest.raises(ConnectionError):
                await identity.prove(**request())


async def test_many_at_once_get_their_own_answers(attestor: FakeAttestor) -> None:
    urls = [f"{AUDIENCE}/{number}" for number in range(20)]
    async with obtain(path=attestor.path) as identity:
        proven = await asyncio.gather(*(identity.prove(**request(url)) for url in urls))
    assert all(is_accepted(*one, url) for one, url in zip(proven, urls, strict=True))


async def test_a_caller_who_gives_up_leaves_no_answer_behind(start_attestor: Start) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def to_prove(asked: Prove) -> Message:
        is_asked.set()
        may_answer.wait()
        return fake_attestor.to_prove(asked)

    attestor = start_attestor(to_prove=to_prove)
    async with obtain(path=attestor.path) as identity:
        impatient = asyncio.create_task(identity.prove(**request(URL + "/first")))
        await asyncio.to_thread(is_asked.wait)
        impatient.cancel()
        with pytest.raises(asyncio.CancelledError):
            await impatient
        may_answer.set()
        assert is_accepted(*await identity.prove(**request(URL + "/second")), URL + "/second")


async def test_an_identity_ends_while_somebody_waits(start_attestor: Start) -> None:
    is_asked, may_answer = threading.Event(), threading.Event()

    def to_prove(asked: Prove) -> Message:
        is_asked.set()
        may_answer.wait()
        return fake_attestor.to_prove(asked)

    attestor = start_attestor(to_prove=to_prove)
    async with obtain(path=attestor.path) as identity:
        waiting = asyncio.create_task(identity.prove(**request()))
        await asyncio.to_thread(is_asked.wait)
    with pytest.raises(asyncio.CancelledError):
        await waiting
    may_answer.set()


async def test_a_full_queue_is_waited_for(start_attestor: Start) -> None:
    attestor = start_attestor(backlog=0)
    waiting = []
    while True:
        channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel.settimeout(0)
        waiting.append(channel)
        try:
            channel.connect(str(attestor.path))
        except BlockingIOError:
            break

    async def use() -> bool:
        async with obtain(path=attestor.path) as identity:
            return is_accepted(*await identity.prove(**request()))

    using = asyncio.create_task(use())
    await asyncio.sleep(0)  # it has tried once
    for channel in waiting:
        channel.close()
    attestor.start()
    assert await using


async def test_no_descriptor_of_the_process_is_left_open(attestor: FakeAttestor) -> None:
    before = os.listdir("/proc/self/fd")  # noqa: PTH208
    for _ in range(3):
        async with obtain(path=attestor.path):
            pass
    assert len(os.listdir("/proc/self/fd")) <= len(before) + 3  # noqa: PTH208  (the fake's)


def test_the_fake_attestor_wants_a_descriptor(attestor: FakeAttestor) -> None:
    """What other tests rest on: a messenger that only copies bytes gets nothing."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as channel:
        channel.connect(str(attestor.path))
        nonce = Nonce.decode(channel.recv(65536)).nonce
        channel.send(Obtain(nonce=nonce).encode())
        assert Refusal.decode(channel.recv(65536)).findings[0].reason == "local.malformed"


# Jobs

SHOWN = "import os; os.write(int(os.environ['PROCSEAL_JOB_FD']), b'it is here')"


async def test_a_job_is_given_to_a_program(attestor: FakeAttestor) -> None:
    async with obtain(path=attestor.path) as identity, identity.job("build-17") as job:
        assert job.name == "build-17"
        assert not os.get_inheritable(job.fd)
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", SHOWN, pass_fds=[job.fd], env={**os.environ, **job.environment}
        )
        assert await process.wait() == 0
        assert attestor.jobs[0].recv(100) == b"it is here"
        assert is_accepted(*await identity.prove(**request()))


async def test_a_job_ends_with_its_block_whoever_holds_it(attestor: FakeAttestor) -> None:
    async with obtain(path=attestor.path) as identity:
        async with identity.job("build-17") as job:
            kept = os.dup(job.fd)
            with pytest.raises(BlockingIOError):
                attestor.jobs[0].recv(1, socket.MSG_DONTWAIT)
        assert attestor.jobs[0].recv(1, socket.MSG_DONTWAIT) == b""
        with pytest.raises(OSError, match="descriptor"):
            os.fstat(job.fd)
        os.close(kept)


async def test_a_job_that_is_over_already(attestor: FakeAttestor) -> None:
    async with obtain(path=attestor.path) as identity, identity.job("build-17"):
        attestor.jobs[0].close()


async def test_a_job_that_comes_without_a_descriptor(attestor: FakeAttestor) -> None:
    attestor.opens_jobs = False
    async with obtain(path=attestor.path) as identity:
        with pytest.raises(ConnectionError, match="descriptor"):
            async with identity.job("build-17"):
                pass
        assert is_accepted(*await identity.prove(**request()))


async def test_whoever_opens_a_job_and_is_cancelled_leaves_no_descriptor(
    attestor: FakeAttestor,
) -> None:
    async def open_job() -> None:
        async with identity.job("build-17"):
            raise AssertionError("cancelled before")

    async with obtain(path=attestor.path) as identity:
        opening = asyncio.create_task(open_job())
        await asyncio.sleep(0)  # its message is on its way
        await asyncio.sleep(0)
        opening.cancel()
        await asyncio.gather(opening, return_exceptions=True)
        assert is_accepted(*await identity.prove(**request()))  # and its answer is not ours
        assert attestor.jobs[0].recv(1, socket.MSG_DONTWAIT) == b""
