"""Both doors of a running verifier, open in a thread; and a node's way through one of them."""

import asyncio
import http.client
import json
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any, TypeVar

from aiohttp import web

from evidence.messages import (
    Activation,
    ActivationAnswer,
    Challenge,
    Enrol,
    Enrolled,
    GoneAnswer,
    Result,
    SignedMessage,
    WantedAnswer,
)
from evidence.shapes import Message
from verifier.conversation.activations import answer_activation, enrol
from verifier.conversation.announcements import answer_gone, answer_wanted
from verifier.conversation.challenges import make_challenge
from verifier.conversation.judgement import judge_evidence
from verifier.doors.network import make_app
from verifier.doors.operators import make_operators_app, operators_socket
from verifier.service import Service

M = TypeVar("M", bound=Message)


class Refused(Exception):
    """A door's answer that is not 200."""

    def __init__(self, status: int, verdict: dict[str, Any]) -> None:
        self.status = status
        self.verdict = verdict
        self.reasons = {one["reason"] for one in verdict["findings"]}
        super().__init__(f"{status} {sorted(self.reasons)}")


@dataclass
class Door:
    """The attestors' door, from outside; its methods are what it lets through."""

    port: int
    tls: ssl.SSLContext | None = None

    def request(
        self, method: str, path: str, body: bytes = b"", **headers: str
    ) -> tuple[int, bytes]:
        """Return status and body of the answer."""
        connection = (
            http.client.HTTPSConnection("localhost", self.port, context=self.tls, timeout=30)
            if self.tls
            else http.client.HTTPConnection("localhost", self.port, timeout=30)
        )
        try:
            given = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body or None, given)
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def post(self, path: str, message: Message, answer: type[M]) -> M:
        """Return the answer to a message; raise Refused on anything else."""
        headers = {"Content_Type": "application/cbor"}
        status, body = self.request("POST", path, message.encode(), **headers)
        if status != 200:
            raise Refused(status, json.loads(body))
        return answer.decode(body)

    def enrol(self, message: Enrol) -> Activation:
        return self.post("/v1/enrol", message, Activation)

    def answer_activation(self, message: ActivationAnswer) -> Enrolled:
        return self.post("/v1/enrol/answer", message, Enrolled)

    def wanted(self, message: SignedMessage) -> WantedAnswer:
        return self.post("/v1/wanted", message, WantedAnswer)

    def challenge(self, message: SignedMessage) -> Challenge:
        return self.post("/v1/challenge", message, Challenge)

    def evidence(self, message: SignedMessage) -> Result:
        return self.post("/v1/evidence", message, Result)

    def gone(self, message: SignedMessage) -> GoneAnswer:
        return self.post("/v1/gone", message, GoneAnswer)


@dataclass
class Indoors:
    """What the attestors' door lets through, as calls of the service: what it raises comes out."""

    service: Service

    def enrol(self, message: Enrol) -> Activation:
        return enrol(self.service, message)

    def answer_activation(self, message: ActivationAnswer) -> Enrolled:
        return answer_activation(self.service, message)

    def wanted(self, message: SignedMessage) -> WantedAnswer:
        return answer_wanted(self.service, message)

    def challenge(self, message: SignedMessage) -> Challenge:
        return make_challenge(self.service, message)

    def evidence(self, message: SignedMessage, *, address: str = "") -> Result:
        return judge_evidence(self.service, message, address=address)

    def gone(self, message: SignedMessage) -> GoneAnswer:
        return answer_gone(self.service, message)


def trusting(ca: Path) -> ssl.SSLContext:
    """Return a client's context that trusts the CA alone."""
    return ssl.create_default_context(cafile=str(ca))


@contextmanager
def open_doors(
    service: Service,
    *,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    port: int = 0,
) -> Iterator[Door]:
    """Open both doors until the end of the block."""
    loop = asyncio.new_event_loop()
    thread = Thread(target=loop.run_forever)
    thread.start()
    runners = [web.AppRunner(make_app(service)), web.AppRunner(make_operators_app(service))]

    async def start() -> int:
        for runner in runners:
            await runner.setup()
        await web.SockSite(runners[1], operators_socket(service.config.socket)).start()
        await web.TCPSite(runners[0], "127.0.0.1", port, ssl_context=server).start()
        return int(runners[0].addresses[0][1])

    async def stop() -> None:
        for runner in runners:
            await runner.cleanup()
        await asyncio.get_running_loop().shutdown_default_executor()

    try:
        yield Door(asyncio.run_coroutine_threadsafe(start(), loop).result(), client)
    finally:
        asyncio.run_coroutine_threadsafe(stop(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
