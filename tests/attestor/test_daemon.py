"""The daemon from the outside: processes that obtain, prove, change and end."""

import os
from collections.abc import Callable, Iterator

import pytest

from credential import local
from swtpm import Manufacturer, SoftwareTpm
from tests.attestor.world import ATTACHED_ID, AUDIENCE, World, open_world

pytestmark = [
    pytest.mark.swtpm,
    pytest.mark.skipif(os.geteuid() != 0, reason="looks at other users' processes"),
]


@pytest.fixture(scope="module")
def world(manufacturer: Manufacturer, make_tpm: Callable[[], SoftwareTpm]) -> Iterator[World]:
    with open_world(manufacturer, make_tpm()) as one:
        yield one


def test_a_process_obtains_and_proves(world: World) -> None:
    with world.start_puppet() as puppet:
        credential = puppet.obtain(world.socket, ATTACHED_ID)
        assert isinstance(credential, local.Credential), (credential, world.log())
        assert (credential.id, credential.level) == (ATTACHED_ID, "lab")
        proof = puppet.prove(AUDIENCE)
        assert isinstance(proof, local.Proof)
        assert proof.token == credential.token
