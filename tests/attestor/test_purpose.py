"""What a real process asks for, by way of a real attestor: what it is told, and what it gets."""

import os
from collections.abc import Callable, Iterator

import pytest

from credential import local, wit
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.puppets import LocalPuppet, reasons
from tests.attestor.world import AUDIENCE, NODE, World, open_world, workload

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]

PROCESS, SIBLING = "the process itself", "a sibling process"
ACCESS, IDENTITY = "the access", "the identity"
OTHER = "https://archive.example.org"
ID = "spiffe://example.org/agent"


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm(), user_requests_per_minute=6000) as one:
        yield one


@pytest.fixture
def puppet(world: World) -> Iterator[LocalPuppet]:
    with world.start_puppet() as one:
        yield one


def put(world: World, *lines: str, uses: str = "") -> None:
    head, usual = workload(ID).split("[[use]]")
    text = "\n".join((head, *lines, uses or f"[[use]]{usual}"))
    world.operator("put", kind="workload", text=text)


def use(*scopes: str, more: str = "", audience: str = AUDIENCE) -> str:
    listed = ", ".join(f'"{one}"' for one in scopes)
    return f'[[use]]\naudience = "{audience}"\nscopes = [{listed}]\n{more}\n'


def granted(answer: local.Message | None) -> wit.Procseal:
    assert isinstance(answer, local.Credential), answer
    return wit.read_unverified(answer.token).procseal


def test_what_it_names_is_what_it_gets(world: World, puppet: LocalPuppet) -> None:
    put(world, uses=use("post", "read") + use("read", audience=OTHER))
    assert reasons(puppet.obtain(world.socket, ID)) == ["use.more-than-one"]
    found = granted(puppet.obtain(world.socket, ID, audience=AUDIENCE, scope=("read",)))
    assert (found.audiences, found.scopes) == ((AUDIENCE,), ("read",))
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)
    assert reasons(puppet.prove(OTHER)) == ["local.audience-not-allowed"]


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_what_it_names_and_may_not(world: World, puppet: LocalPuppet) -> None:
    put(world, uses=use("post"))
    for wanted, reason in (
        ({"audience": OTHER}, "use.audience-not-the-workloads"),
        ({"scope": ("read",)}, "use.scope-not-the-workloads"),
        ({"context": ("session=1",)}, "use.context-not-the-workloads"),
    ):
        assert reasons(puppet.obtain(world.socket, ID, **wanted)) == [reason]


@pytest.mark.attack(number=118, attacker=PROCESS, asset=ACCESS)
def test_118_after_its_grant_is_closed(world: World, puppet: LocalPuppet) -> None:
    put(world, uses=use("close-year", more='grant = "approval"'))
    answer = puppet.obtain(world.socket, ID)
    assert isinstance(answer, local.Refusal)
    [waiting] = world.operator("grant_list")
    [finding] = answer.findings
    assert finding.reason == "use.grant-missing"
    assert finding.expected == f"verifier grant approve {waiting['grant']}"
    assert (waiting["node"], waiting["pid"]) == (NODE, puppet.pid)
    world.operator("grant_approve", grant=waiting["grant"], seconds=600)
    assert granted(puppet.obtain(world.socket, ID)).grant == waiting["grant"]
    assert isinstance(puppet.prove(AUDIENCE), local.Proof)
    world.operator("grant_close", grant=waiting["grant"])
    world.wait_until(
        lambda: isinstance(puppet.prove(AUDIENCE), local.Refusal), "the attestor to hear of it"
    )
    assert reasons(puppet.obtain(world.socket, ID)) == ["use.grant-missing"]


@pytest.mark.attack(number=116, attacker=SIBLING, asset=ACCESS)
def test_116_each_session_has_a_token_of_its_own(world: World, puppet: LocalPuppet) -> None:
    """The sibling is the same program: its proofs are for its own token, whatever it wants."""
    put(world, 'context = ["session"]')
    assert granted(puppet.obtain(world.socket, ID, context=("session=a b",))).context == {
        "session": "a b"
    }
    with world.start_puppet() as sibling:
        granted(sibling.obtain(world.socket, ID, context=("session=2",)))
        mine, its = puppet.prove(AUDIENCE), sibling.prove(AUDIENCE)
    assert isinstance(mine, local.Proof)
    assert isinstance(its, local.Proof)
    first, second = wit.read_unverified(mine.token), wit.read_unverified(its.token)
    assert first.use_key != second.use_key
    assert second.procseal.context == {"session": "2"}


@pytest.mark.attack(number=118, attacker="another node", asset=IDENTITY)
def test_118_a_node_that_is_elsewhere(world: World, puppet: LocalPuppet) -> None:
    put(world, 'network = ["10.1.0.0/16"]', 'nodes = { zone = "eu-1" }')
    assert reasons(puppet.obtain(world.socket, ID)) == [
        "process.node-labels-not-the-workloads",
        "process.network-not-the-workloads",
    ]
    put(world, 'network = ["127.0.0.0/8", "::1/128"]', 'nodes = { zone = "eu-1" }')
    world.operator("node_label", node=NODE, labels=["zone=eu-1"])
    assert granted(puppet.obtain(world.socket, ID)).labels == {"zone": "eu-1"}
