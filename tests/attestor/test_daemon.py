"""The daemon's life, and its commands: what an operator sees of it."""

import contextlib
import json
import os
import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from attestor.__main__ import main
from attestor.conversation import ANSWER_SECONDS
from credential import local, wit
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import reasons
from tests.attestor.world import (
    ATTACHED_ID,
    AUDIENCE,
    LAUNCHED_ID,
    NODE,
    SHORT_ID,
    SHORT_LEASE_SECONDS,
    World,
    open_world,
)

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm(), user_requests_per_minute=6000) as one:
        yield one


@pytest.fixture
def own_world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    """A world for a test that breaks it."""
    with open_world(manufacturer, make_tpm()) as one:
        yield one


POOL = 8
"""Connections to the verifier that may be open (attestor/client.py)."""


def descriptors(pid: int) -> tuple[int, int]:
    """Return how many sockets, and how many other things, a process has open."""
    names = []
    for one in Path(f"/proc/{pid}/fd").iterdir():
        # One may be closed between the listing and the reading.
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(one))  # noqa: PTH115
    sockets = sum(name.startswith("socket:") for name in names)
    return sockets, len(names) - sockets


def test_processes_that_end_at_any_moment(world: World) -> None:
    """Nothing is left of them, and others are served."""
    chance = random.Random(1)
    with world.start_puppet() as first:
        assert isinstance(first.obtain(world.socket, ATTACHED_ID), local.Credential)
        sockets, others = descriptors(world.attestor_pid)
        for _ in range(40):
            puppet = world.start_puppet()
            nonce = puppet.meet(world.socket)
            message = local.Obtain(nonce=nonce, id=ATTACHED_ID).encode().decode()
            puppet.tell(f"give {message}".replace("\n", "|"))
            time.sleep(chance.uniform(0, 0.15))
            puppet.end()

        def all_closed() -> bool:
            found = descriptors(world.attestor_pid)
            return found[0] <= sockets + POOL and found[1] <= others

        world.wait_until(all_closed, "all to be closed")
        assert isinstance(first.prove(AUDIENCE), local.Proof)
    with world.start_puppet() as last:
        assert isinstance(last.obtain(world.socket, ATTACHED_ID), local.Credential)


def test_a_launched_program_may_ask_late(world: World) -> None:
    """When it has work to do: longer after its start than a connection may be idle."""
    with world.launch_puppet() as puppet:
        time.sleep(ANSWER_SECONDS + 1)
        assert isinstance(puppet.obtain(world.socket, LAUNCHED_ID), local.Credential)


def quiet(world: World) -> dict[str, Any]:
    """Return the status once no key has been made for a round: others' processes may be ending."""
    before = world.status()
    while keys_of(after := later(world, before, rounds=1)) != keys_of(before):
        before = after
    return after


def later(world: World, before: dict[str, Any], *, rounds: int) -> dict[str, Any]:
    """Return the status after more than so many rounds."""
    world.wait_until(lambda: world.status()["rounds"] > before["rounds"] + rounds, "more rounds")
    return world.status()


def keys_of(status: dict[str, Any]) -> dict[str, int]:
    return {name: status["tpm_operations"].get(name, 0) for name in KEY_OPERATIONS}


def test_the_token_is_renewed_without_the_tpm(world: World) -> None:
    """One quote for each round, and one key for each process, whatever it does with it."""
    with world.start_puppet() as puppet:
        assert isinstance(puppet.obtain(world.socket, ATTACHED_ID), local.Credential)
        before = quiet(world)
        for _ in range(20):
            assert isinstance(puppet.prove(AUDIENCE), local.Proof)
        after = later(world, before, rounds=1)
    rounds = after["rounds"] - before["rounds"]
    done = Counter(after["tpm_operations"])
    done.subtract(before["tpm_operations"])
    assert done["create"] == done["activate_credential"] == done["certify_creation"] == 0
    assert abs(done["quote"] - rounds) <= 1  # a round counts when it is over, its quote before


KEY_OPERATIONS = ("create", "load", "certify_creation", "activate_credential")
SESSION = {
    "context_load", "context_save", "flush_context", "start_auth_session", "policy_secret",
    "policy_auth_value", "policy_command_code", "pcr_read",
}  # fmt: skip
"""What opens, loads and reads, and uses no key but the endorsement hierarchy's auth."""


def test_a_new_process_costs_three_key_operations_and_an_interval_one_quote(world: World) -> None:
    """Create with load, certify, activate; a round has one quote whatever the processes."""
    before = quiet(world)
    with ExitStack() as stack:
        puppets = [stack.enter_context(world.start_puppet()) for _ in range(5)]
        for puppet in puppets:
            assert isinstance(puppet.obtain(world.socket, ATTACHED_ID), local.Credential)
        for puppet in puppets:
            assert isinstance(puppet.prove(AUDIENCE), local.Proof)
        after = later(world, before, rounds=3)
    done = Counter(after["tpm_operations"])
    done.subtract(before["tpm_operations"])
    assert {name: done[name] for name in KEY_OPERATIONS} == dict.fromkeys(KEY_OPERATIONS, 5)
    rounds = after["rounds"] - before["rounds"]
    assert abs(done["quote"] - rounds) <= 1  # a round counts when it is over, its quote before
    assert {name for name, count in (+done).items()} == {*KEY_OPERATIONS, "quote", *SESSION}


def test_status(world: World) -> None:
    with world.start_puppet() as puppet:
        assert isinstance(puppet.obtain(world.socket, ATTACHED_ID), local.Credential)
        found = world.status()
        assert (found["node"], found["accepted"], found["findings"]) == (NODE, True, [])
        (mine,) = [one for one in found["yours"] if one["pid"] == puppet.pid]
        assert (mine["id"], mine["level"], mine["binding"]) == (ATTACHED_ID, "lab", "attached")
        assert 200 < mine["lease_seconds"] <= 300  # renewed by each round
        assert found["verifier"] == f"https://127.0.0.1:{world.port}"
        assert found["next_round_seconds"] <= 1
        age = datetime.now(UTC) - datetime.fromisoformat(found["last_answer"])
        assert age < timedelta(seconds=30)
        told = world.attestor("status", "--json", user=1)
        assert json.loads(told.stdout)["yours"] == []
        assert "eyJ" not in told.stdout
        assert NODE in world.attestor("status").stdout


def test_it_keeps_one_capability_and_hides_its_memory(world: World) -> None:
    says = Path(f"/proc/{world.attestor_pid}/status").read_text()
    assert f"CapEff:\t{1 << 2:016x}" in says
    maps = ["/usr/bin/cat", f"/proc/{world.attestor_pid}/maps"]
    told = subprocess.run(maps, user=1, check=False, capture_output=True)
    assert told.returncode == 1


def test_another_attestor_beside_it(world: World) -> None:
    """The register says that one has started; and the first goes on."""
    told = world.attestor("serve", check=False)
    assert told.returncode in (1, 3)  # swtpm serves one connection, a TPM more
    with world.start_puppet() as puppet:
        assert isinstance(puppet.obtain(world.socket, ATTACHED_ID), local.Credential)


@pytest.mark.attack(number=129, attacker="the network", asset="the access")
def test_the_lease_ends_while_the_verifier_is_away(own_world: World) -> None:
    world = own_world
    with world.start_puppet() as puppet:
        started = time.monotonic()
        credential = puppet.obtain(world.socket, SHORT_ID)
        assert isinstance(credential, local.Credential)
        world.stop_verifier()
        world.wait_until(lambda: not isinstance(puppet.prove(AUDIENCE), local.Proof), "its end")
        assert time.monotonic() - started > SHORT_LEASE_SECONDS - 1  # whole seconds are granted
        assert reasons(puppet.prove(AUDIENCE)) == ["local.lease-ended"]
        first = world.status()
        (mine,) = first["yours"]
        assert (mine["lease_seconds"], mine["id"]) == (0, SHORT_ID)
        world.wait_until(lambda: world.status()["rounds"] > first["rounds"], "another try")
        later = world.status()
        assert later["last_answer"] == first["last_answer"] != ""
        assert 0 <= later["next_round_seconds"] <= 10
        with world.running("verifier"):
            world.wait_until(
                lambda: isinstance(puppet.prove(AUDIENCE), local.Proof), "a lease again"
            )


@pytest.mark.attack(number=122, attacker="whoever starts a second attestor", asset="the node")
def test_a_second_start_in_one_boot(own_world: World) -> None:
    world = own_world
    with world.start_puppet() as puppet:
        credential = puppet.obtain(world.socket, ATTACHED_ID)
        assert isinstance(credential, local.Credential)
        world.stop_attestor()
        assert puppet.receive() is None
        jti = wit.read_unverified(credential.token).jti
        (ended,) = [one for one in world.credentials() if one["jti"] == jti]
        assert ended["cause"] == "process.exited"  # said on leaving
    told = world.attestor("serve", check=False)
    assert told.returncode == 1
    assert "--second-start" in told.stderr
    with world.running("attestor", "--second-start"), world.start_puppet() as puppet:
        world.wait_until(world.socket.exists, "the second start")
        refused = puppet.obtain(world.socket, ATTACHED_ID)
        assert reasons(refused) == ["instance.second-start-not-approved"]


@pytest.mark.attack(number=122, attacker="whoever can open the TPM", asset="the node")
def test_somebody_else_has_extended_the_register(
    manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]
) -> None:
    with pytest.raises(AssertionError, match="not on record"):  # noqa: SIM117
        with open_world(manufacturer, make_tpm(), extended=b"x" * 32):
            pass


def test_commands_that_need_no_daemon(own_world: World, capsys: pytest.CaptureFixture[str]) -> None:
    world = own_world
    world.stop_attestor()
    config = ["--config", str(world.config)]
    assert main(["check-config", *config]) == 0
    assert main(["ek", "--json", *config]) == 0
    told = capsys.readouterr().out
    found = json.loads(told[told.index("{") :])
    assert found["allow_list_line"] == f"{found['ek_hash']} {NODE}"
    assert (world.directory / "allow-list").read_text().startswith(found["ek_hash"])
    assert main(["enrol", *config]) in (0, 1)
    assert main(["check-node", "--json", *config]) == 1  # this machine's kernel measures nothing
    told = capsys.readouterr().out
    checks = json.loads(told[told.index("[") :])
    assert all(one["next"] for one in checks if not one["is_good"])
    assert main(["status", *config]) == 3
    assert main(["run", *config, "--", "/usr/bin/true"]) == 3


def test_a_configuration_that_cannot_be_used(tmp_path: Path) -> None:
    path = tmp_path / "attestor.toml"
    for text in ("", "node = 1", 'node = "n"\nverifier = "https://v"\nunknown = 1', "node ="):
        path.write_text(text)
        assert main(["check-config", "--config", str(path)]) == 2
    path.write_text('node = "n"\nverifier = "https://v"\n')
    assert main(["check-config", "--config", str(path)]) == 2  # no CA
