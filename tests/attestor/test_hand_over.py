"""An attestor that is started anew, with its own word for its successor."""

import hashlib
import json
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import pytest

from attestor import instance
from attestor.failed import NotFirst
from attestor.hand_over import command_line, tell_systemd
from attestor.tpm import Tpm
from credential import crypto, local
from evidence.messages import HandOver, SignedMessage
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import LocalPuppet, reasons
from tests.attestor.world import ATTACHED_ID, AUDIENCE, NOBODY, World, open_world
from verifier.ledger import Cause

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

BOOT = "41c0d9a2-0000-4000-8000-000000000001"


@pytest.fixture
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    """A world whose attestors, later ones too, end with the test."""
    with open_world(manufacturer, make_tpm()) as one:
        first = one.attestor_pid
        try:
            yield one
        finally:
            if one.attestor_pid != first:
                end(one.attestor_pid)


def end(pid: int) -> None:
    """End a process that is not our child."""
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + 60
    while is_running(pid):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_running(pid: int) -> bool:
    try:
        return " Z " not in Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False


def restart(world: World) -> str:
    """Have the attestor hand over; return its successor's instance."""
    earlier = world.attestor_pid
    told = world.attestor("restart", "--json", check=False)
    assert told.returncode == 0, told.stdout + world.log()
    found = json.loads(told.stdout)
    world.attestor_pid = found["pid"]
    world.wait_until(lambda: not is_running(earlier), "the end of the one before")
    return str(found["instance"])


def obtained(puppet: LocalPuppet, world: World) -> local.Credential:
    answer = puppet.obtain(world.socket, ATTACHED_ID)
    assert isinstance(answer, local.Credential), answer
    return answer


def test_a_successor_speaks_and_processes_obtain_again(world: World) -> None:
    """Twice in a row. Nobody is asked; what the one before had been given ends."""
    with world.start_puppet() as puppet:
        for starts in (2, 3):
            obtained(puppet, world)
            (held,) = [one for one in world.credentials() if one["status"] == "valid"]
            later = restart(world)
            assert puppet.receive() is None  # it hangs up
            with world.start_puppet() as other:
                obtained(other, world)
                ended = {one["jti"]: one.get("cause") for one in world.credentials()}
                assert ended[held["jti"]] == Cause.INSTANCE_REPLACED
            status = world.status()
            assert (status["instances"], status["accepted"]) == (starts, True)
            assert world.operator("node_list")[0]["instance"] == later


def test_a_signal_does_the_same(world: World) -> None:
    for starts in (2, 3):
        earlier = world.attestor_pid
        os.kill(earlier, signal.SIGHUP)
        world.attestor_pid = 0
        world.wait_until(lambda pid=earlier: not is_running(pid), "the end of the one before")
        status = world.status()
        assert status["instances"] == starts
        world.attestor_pid = status["pid"]
    world.wait_until(lambda: world.status()["accepted"], "its node's acceptance")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        pytest.param("nonsense = 1\n", "has ended", id="a configuration that cannot be used"),
        pytest.param('node = "another"\n', "of node another", id="another node"),
        pytest.param('tcti = "swtpm:port=1"\n', "no TPM at", id="no TPM"),
    ],
)
def test_a_successor_that_does_not_start_loses_nothing(
    world: World, change: str, told: str
) -> None:
    """The one that runs goes on, with all that it had."""
    with world.start_puppet() as puppet:
        obtained(puppet, world)
        before = world.config.read_text()
        name = change.partition(" ")[0]
        kept = [line for line in before.splitlines(keepends=True) if not line.startswith(name)]
        world.config.write_text("".join(kept) + change)
        answer = world.attestor("restart", "--socket", str(world.socket), "--json", check=False)
        (finding,) = json.loads(answer.stdout)["findings"]
        assert finding["reason"] == "local.successor-does-not-start"
        assert told in finding["found"]
        world.config.write_text(before)
        rounds = world.status()["rounds"]
        world.wait_until(lambda: world.status()["rounds"] > rounds + 1, "two more rounds")
        assert world.status()["accepted"]
        assert isinstance(puppet.prove(AUDIENCE), local.Proof)
        with world.start_puppet() as other:
            obtained(other, world)


@pytest.mark.attack(number=122, attacker="an ordinary user", asset="the node")
def test_122_a_user_restarts_the_attestor(world: World) -> None:
    """Neither by its socket nor by a signal."""
    with world.start_puppet(uid=NOBODY) as puppet:
        puppet.meet(world.socket)
        puppet.do("send procseal/1 restart|")
        refusal = puppet.expect(local.Refusal)
        assert reasons(refusal) == ["local.user-not-allowed"]
    pid = os.fork()
    if pid == 0:
        os.setuid(NOBODY)
        try:
            os.kill(world.attestor_pid, signal.SIGHUP)
        except PermissionError:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0
    assert world.status()["instances"] == 1


# The parts


def signed(key: crypto.PrivateKey, **changes: str | bytes) -> SignedMessage:
    fields = {"node": "build-7", "boot": BOOT, "earlier": b"", "later": b""}
    payload = HandOver(**(fields | changes)).encode()  # type: ignore[arg-type]
    return SignedMessage(
        payload=payload, key=crypto.point_of(key), signature=crypto.sign(key, payload)
    )


def digest_of(key: crypto.PrivateKey) -> bytes:
    return hashlib.sha256(crypto.point_of(key)).digest()


def test_hand_overs_are_on_record(tpm: Tpm, tmp_path: Path) -> None:
    """So that one that was never heard of does not break the chain."""
    keys = [crypto.generate() for _ in range(3)]
    first = instance.start(tpm, directory=tmp_path, boot=BOOT, key=keys[0], is_second_start=False)
    assert first.hand_overs == ()
    words = []
    for earlier, later in pairwise(keys):
        word = signed(earlier, earlier=digest_of(earlier), later=digest_of(later))
        words.append(word)
        own = instance.start(
            tpm, directory=tmp_path, boot=BOOT, key=later, is_second_start=False, hand_over=word
        )
        assert own.hand_overs == tuple(words)
    assert own.history == tuple(map(digest_of, keys))
    assert tpm.read_registers()[15] == instance.fold(own.history)


@pytest.mark.attack(number=122, attacker="whoever starts a second attestor", asset="the node")
@pytest.mark.parametrize("part", ["earlier", "later"])
def test_122_a_word_of_somebody_elses(tpm: Tpm, tmp_path: Path, part: str) -> None:
    """Whoever has a channel to a successor and is not the attestor that ran last."""
    first, second = crypto.generate(), crypto.generate()
    instance.start(tpm, directory=tmp_path, boot=BOOT, key=first, is_second_start=False)
    before = tpm.read_registers()[15]
    true = {"earlier": digest_of(first), "later": digest_of(second)}
    word = signed(first, **(true | {part: bytes(32)}))
    with pytest.raises(NotFirst):
        instance.start(
            tpm, directory=tmp_path, boot=BOOT, key=second, is_second_start=False, hand_over=word
        )
    assert tpm.read_registers()[15] == before


def test_a_tpm_that_was_let_go(tpm: Tpm) -> None:
    quoted = tpm.quote(bytes(32))
    tpm.esys.close()
    with pytest.raises(Exception, match="another attestor takes over"):
        tpm.quote(bytes(32))
    tpm.esys.open()
    assert tpm.quote(bytes(32)).attest[:50] == quoted.attest[:50]
    assert tpm.esys.count_handles() == 0


def test_the_command_line_is_the_one_of_now(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["python3", "-I", "/usr/bin/attestor", "serve", "--second-start"]
    monkeypatch.setattr("sys.orig_argv", [*words, "--successor", "7", "--quiet"])
    assert command_line()[1:] == ["-I", "/usr/bin/attestor", "serve", "--quiet"]


def test_systemd_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    tell_systemd("READY=1")
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(path)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        tell_systemd("MAINPID=7")
        assert manager.recv(100) == b"MAINPID=7"
    tell_systemd("READY=1")  # it has gone away
