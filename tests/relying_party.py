"""A relying party that asks a running verifier what became of tokens, in both ways there are.

with open_doors(verifier.service) as door:
    party = register(verifier, door, "ledger", node.audience)
    party.state(token)                      -> "valid", "suspended" or "revoked"
"""

import base64
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from credential import Keys, status, wit
from credential.status import Status
from tests.open_doors import Door
from tests.running_verifier import Player, RunningVerifier
from tests.simulated_node import TRUST_DOMAIN
from tests.simulated_process import SimulatedProcess

VALID, REVOKED, SUSPENDED = "valid", "revoked", "suspended"
DISAGREEING = "disagreeing"
FORM = "application/x-www-form-urlencoded"
_STATES = {
    (True, Status.VALID): VALID,
    (False, Status.INVALID): REVOKED,
    (False, Status.SUSPENDED): SUSPENDED,
}


@dataclass
class Party:
    """A relying party: it asks the verifier about tokens, with its name and secret."""

    door: Door
    name: str
    secret: str

    def post(self, path: str, fields: Any, **headers: str) -> tuple[int, Any]:  # noqa: ANN401
        basic = base64.b64encode(f"{self.name}:{self.secret}".encode()).decode()
        given = {"Content_Type": FORM, "Authorization": f"Basic {basic}", **headers}
        body = fields if isinstance(fields, bytes) else urlencode(fields).encode()
        code, answer = self.door.request("POST", path, body, **given)
        return code, json.loads(answer)

    def introspect(self, token: str) -> Any:  # noqa: ANN401
        code, answer = self.post("/v1/introspect", {"token": token})
        assert code == 200
        return answer

    def list_of(self, token: str) -> status.StatusList:
        """Return the list that the token names, fetched from the path that its uri has."""
        place = wit.read(token, self.keys).status
        code, body = self.door.request("GET", urlsplit(place.uri).path)
        assert code == 200
        found = status.read(body.decode(), self.keys)
        assert found.uri == place.uri
        return found

    @property
    def keys(self) -> Keys:
        return Keys.read(self.door.request("GET", "/v1/keys")[1], trust_domain=TRUST_DOMAIN)

    def state(self, token: str) -> str:
        """Return what becomes of the token now; DISAGREEING where the two say different things."""
        told = self.list_of(token).at(wit.read(token, self.keys).status.index)
        return _STATES.get((self.introspect(token)["active"], told), DISAGREEING)


def register(
    verifier: RunningVerifier,
    door: Door,
    name: str,
    audience: str,
    **more: Any,  # noqa: ANN401
) -> Party:
    told = verifier.operators.relying_party_add(name, audience, **more)
    return Party(door, name, told["secret"])


def token_of(player: Player, process: SimulatedProcess) -> str:
    return player.tokens[process.key_name][2]
