"""Routes: the messages of attestors, the verbs that answer them, and what everybody may know."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from aiohttp import web

from evidence.messages import ActivationAnswer, Enrol, SignedMessage
from evidence.shapes import Message
from verifier.bounds import demand_envelope, demand_payload
from verifier.config import Config
from verifier.conversation.activations import answer_activation, enrol
from verifier.conversation.announcements import answer_gone, answer_wanted
from verifier.conversation.challenges import make_challenge
from verifier.conversation.judgement import judge_evidence
from verifier.doors.bodies import Bodies
from verifier.doors.protection import Protection
from verifier.doors.refusals import Handler
from verifier.keys import jwks
from verifier.service import Service

CBOR = "application/cbor"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A message that comes in, and the verb that answers it."""

    path: str
    request: type[Message]
    verb: Callable[..., Message]
    protection: Protection
    is_evidence: bool = False
    """It is long, and where it comes from counts."""

    def most_bytes(self, config: Config) -> int:
        """Return the length of the longest body that is read."""
        return config.most_evidence_bytes if self.is_evidence else config.most_message_bytes


ROUTES = (
    Route(path="/v1/enrol", request=Enrol, verb=enrol, protection=Protection.TPM),
    Route(
        path="/v1/enrol/answer",
        request=ActivationAnswer,
        verb=answer_activation,
        protection=Protection.TPM,
    ),
    Route(
        path="/v1/wanted",
        request=SignedMessage,
        verb=answer_wanted,
        protection=Protection.INSTANCE,
    ),
    Route(
        path="/v1/challenge",
        request=SignedMessage,
        verb=make_challenge,
        protection=Protection.SIGNATURE,
    ),
    Route(
        path="/v1/evidence",
        request=SignedMessage,
        verb=judge_evidence,
        protection=Protection.SIGNATURE,
        is_evidence=True,
    ),
    Route(
        path="/v1/gone",
        request=SignedMessage,
        verb=answer_gone,
        protection=Protection.INSTANCE,
    ),
)

OPEN_ROUTES: dict[str, Callable[[Service], object]] = {
    "/v1/keys": lambda service: jwks(service.keys.wit),
    "/v1/trust-domain": lambda service: {
        "trust_domain": service.config.trust_domain,
        "issuer": service.config.issuer,
        "grant_keys": jwks(service.keys.grant),
    },
}
"""GET, for everybody (Protection.NOTHING)."""


def add_routes(app: web.Application, service: Service, bodies: Bodies) -> None:
    """Have the door answer attestors, and everybody about what is public."""
    for route in ROUTES:
        app.router.add_post(route.path, _message_handler(service, route, bodies))
    for path, answer in OPEN_ROUTES.items():
        app.router.add_get(path, _open_handler(service, answer))


def _message_handler(service: Service, route: Route, bodies: Bodies) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        async with bodies.read(request, CBOR, most=route.most_bytes(service.config)) as body:
            given = {"address": request.remote or ""} if route.is_evidence else {}
            answer = await asyncio.to_thread(_answer, service, route, body, **given)
        return web.Response(body=answer, content_type=CBOR)

    return handle


def _answer(service: Service, route: Route, body: bytes, **given: str) -> bytes:
    demand_envelope(body)
    request = route.request.decode(body)
    if isinstance(request, SignedMessage):
        demand_payload(request.payload)
    return route.verb(service, request, **given).encode()


def _open_handler(service: Service, answer: Callable[[Service], object]) -> Handler:
    async def handle(_request: web.Request) -> web.Response:
        return web.json_response(answer(service))

    return handle
