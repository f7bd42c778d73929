"""The doors: HTTP for attestors, a UNIX socket for operators. Decode, call, encode; no more.

Each route says what protects it (`ROUTES`). Bodies are bounded before they are read, read before
they are decoded, and never decompressed. A refusal is JSON, whatever the route; a failure that
is no refusal says that nothing was decided.
"""

import asyncio
import base64
import contextlib
import json
import logging
import os
import secrets
import signal
import ssl
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from http import HTTPStatus
from pathlib import Path
from socket import AF_UNIX, SOCK_STREAM, socket
from urllib.parse import parse_qsl

from aiohttp import web

from credential import Malformed as MalformedUse
from credential.status import MEDIA_TYPE as STATUS_LIST
from credential.use import MEDIA_TYPE as USE_LINES
from credential.use import MOST_BATCH_BYTES, Use, read_batch
from evidence import Malformed
from evidence.messages import ActivationAnswer, Enrol, SignedMessage
from evidence.shapes import Message
from verifier.bounds import demand_envelope, demand_payload
from verifier.config import Config, Misconfigured
from verifier.conversation.activations import Busy, answer_activation, enrol
from verifier.conversation.announcements import answer_gone, answer_wanted
from verifier.conversation.challenges import make_challenge
from verifier.conversation.judgement import judge_evidence
from verifier.hints import next_step
from verifier.keys import jwks
from verifier.ledger import findings_json
from verifier.listeners import Listeners
from verifier.operators import Operators, Unfit, call
from verifier.reasons import Rejected, label
from verifier.relying_parties import MISUSES, Asker, NotAllowed, RelyingParties
from verifier.service import Service
from verifier.store import Stale
from verifier.sweeper import Sweeper

CBOR = "application/cbor"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

MOST_OPERATOR_BYTES = 64 << 20
"""A reference set of a whole distribution is some megabytes of TOML."""
BODY_SECONDS = 60
"""How long a body may take to arrive."""
LARGE_BODY_BYTES = 1 << 20
LARGE_BODIES = 8
"""Bodies longer than LARGE_BODY_BYTES that are in memory at a time."""
SWEEP_SECONDS = 1.0
"""How often silence is looked for: what a stated time can be longer by."""
MOST_FORM_BYTES = 32 << 10
MOST_FORM_FIELDS = 16

_BASIC = {"WWW-Authenticate": 'Basic realm="procseal"'}
"""RFC 7662, section 2.3, and RFC 7009, section 2.2.1, by way of RFC 6749, section 5.2."""

log = logging.getLogger("verifier")


class Protection(StrEnum):
    """What stands between a route and a stranger."""

    NOTHING = "public: it tells what everybody may know"
    TPM = "activation: only the TPM with the EK can answer, and only the inventory counts"
    SIGNATURE = "signature by an instance key; an unproven one gets a challenge and no more"
    INSTANCE = "signature by the instance key of the last accepted quote"
    RELYING_PARTY = "name and secret of a relying party, which hears of its own audience only"


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that comes in about the token in it, and the verb that answers it."""

    path: str
    verb: Callable[[RelyingParties, Asker, dict[str, str]], object]
    protection: Protection = Protection.RELYING_PARTY


FORMS = (
    Form(path="/v1/introspect", verb=lambda one, asker, form: one.introspect(asker, form["token"])),
    Form(path="/v1/revoke", verb=lambda one, asker, form: one.revoke(asker, form["token"])),
    Form(
        path="/v1/misuse",
        verb=lambda one, asker, form: one.report(asker, form["token"], _misuse(form)),
    ),
)
USES = "/v1/uses"
"""POST, lines of a relying party's log (`credential.use`); protected as the forms are."""
STATUS_LISTS = "/v1/status/{number:[0-9]{1,18}}"
"""GET, for everybody too: a status list tells nothing of whose its places are."""
STATUS_CHANGES = "/v1/status-changes"
"""GET, for everybody, as long as they listen: which lists have changed."""


class TooLarge(Exception):
    """A body longer than its route reads."""


class NoLines(Exception):
    """A body that is no lines of a relying party's log, for reasons of `credential.use`."""

    def __init__(self, findings: list[dict[str, str]]) -> None:
        self.findings = findings
        super().__init__(findings)


# The attestors' door


def make_app(service: Service) -> web.Application:
    """Return the attestors' door."""
    app = web.Application(
        middlewares=[_refusals], client_max_size=service.config.most_evidence_bytes
    )
    large = asyncio.Semaphore(LARGE_BODIES)
    for route in ROUTES:
        app.router.add_post(route.path, _message_handler(service, route, large))
    for path, answer in OPEN_ROUTES.items():
        app.router.add_get(path, _open_handler(service, answer))
    for form in FORMS:
        app.router.add_post(form.path, _form_handler(service, form, large))
    app.router.add_post(USES, _uses_handler(service, large))
    app.router.add_get(STATUS_LISTS, _status_handler(service))
    listeners = Listeners(service)
    app.router.add_get(STATUS_CHANGES, listeners.handle)
    app.on_shutdown.append(listeners.close)
    return app


Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def _message_handler(service: Service, route: Route, large: asyncio.Semaphore) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        async with _body(request, CBOR, route.most_bytes(service.config), large) as body:
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


# Relying parties


def _form_handler(service: Service, form: Form, large: asyncio.Semaphore) -> Handler:
    parties = RelyingParties(service)

    async def handle(request: web.Request) -> web.Response:
        asker = _asker(request)
        async with _body(request, FORM, MOST_FORM_BYTES, large) as body:
            fields = _fields(body)
        answer = await asyncio.to_thread(form.verb, parties, asker, fields)
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    return handle


def _uses_handler(service: Service, large: asyncio.Semaphore) -> Handler:
    parties = RelyingParties(service)

    async def handle(request: web.Request) -> web.Response:
        asker = _asker(request)
        async with _body(request, USE_LINES, MOST_BATCH_BYTES, large) as body:
            uses = await asyncio.to_thread(_uses, body)
        return web.json_response(await asyncio.to_thread(parties.record, asker, uses))

    return handle


def _uses(body: bytes) -> tuple[Use, ...]:
    try:
        return read_batch(body)
    except MalformedUse as error:
        findings = [_finding(one.reason, label(one.what)) for one in error.findings]
        raise NoLines(findings) from error


def _asker(request: web.Request) -> Asker:
    """Return whom the request names by HTTP's Basic scheme (RFC 7617)."""
    given = request.headers.getall("Authorization", [])
    try:
        (scheme, text), *others = [one.split(" ", 1) for one in given]
        name, secret = base64.b64decode(text, validate=True).decode("ascii").split(":", 1)
    except ValueError as error:
        raise NotAllowed("relying-party.unknown", "Authorization", is_unknown=True) from error
    if others or scheme.lower() != "basic":
        raise NotAllowed("relying-party.unknown", "Authorization", is_unknown=True)
    return Asker(name=name, secret=secret)


def _fields(body: bytes) -> dict[str, str]:
    """Return the fields of a form, the token among them; unknown ones are nobody's business."""
    try:
        pairs = parse_qsl(
            body.decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=MOST_FORM_FIELDS,
        )
    except ValueError as error:
        raise Malformed(f"expected a form of at most {MOST_FORM_FIELDS} fields") from error
    fields = dict(pairs)
    if len(fields) != len(pairs) or "token" not in fields:
        raise Malformed("expected a token, and no field twice")
    return fields


def _misuse(form: dict[str, str]) -> str:
    found = form.get("misuse", "")
    if found not in MISUSES:
        raise Malformed(f"expected misuse to be one of {', '.join(sorted(MISUSES))}")
    return found


def _status_handler(service: Service) -> Handler:
    parties = RelyingParties(service)

    async def handle(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        text = await asyncio.to_thread(parties.status_list, number)
        if text is None:
            raise web.HTTPNotFound
        return web.Response(
            text=text, content_type=STATUS_LIST, headers={"Cache-Control": "no-cache"}
        )

    return handle


# The operators' door


def make_operators_app(service: Service) -> web.Application:
    """Return the operators' door: `POST /NAME-OF-THE-VERB`, JSON arguments, JSON answer."""
    app = web.Application(middlewares=[_refusals], client_max_size=MOST_OPERATOR_BYTES)
    operators = Operators(service)
    large = asyncio.Semaphore(LARGE_BODIES)

    async def handle(request: web.Request) -> web.Response:
        async with _body(request, JSON, MOST_OPERATOR_BYTES, large) as body:
            arguments = _arguments(body)
        name = request.match_info["verb"]
        return web.json_response(await asyncio.to_thread(call, operators, name, arguments))

    app.router.add_post("/{verb}", handle)
    return app


def _arguments(body: bytes) -> dict[str, object]:
    try:
        arguments = json.loads(body)
        json.dumps(arguments, ensure_ascii=False).encode()  # JSON can name what is no text
    except (ValueError, RecursionError) as error:
        raise Malformed("expected JSON") from error
    if not isinstance(arguments, dict):
        raise Malformed("expected a JSON object")
    return arguments


# What both share


@contextlib.asynccontextmanager
async def _body(
    request: web.Request, content_type: str, most: int, large: asyncio.Semaphore
) -> AsyncIterator[bytes]:
    """Give the body, at most `most` bytes of it, and hold a place for it while it is large."""
    if request.content_type != content_type:
        raise Malformed(f"expected Content-Type {content_type}")
    if "Content-Encoding" in request.headers:
        raise Malformed("expected a body without Content-Encoding")
    if request.content_length is None:
        raise Malformed("expected a Content-Length")
    if request.content_length > most:
        raise TooLarge(f"expected at most {most} bytes")
    place = large if request.content_length > LARGE_BODY_BYTES else contextlib.nullcontext()
    async with place:
        async with asyncio.timeout(BODY_SECONDS):
            body = await request.read()
        yield body


@web.middleware
async def _refusals(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Turn what a verb raises into an answer; what nobody expected decides nothing."""
    try:
        return await handler(request)
    except Exception as error:  # noqa: BLE001 - told apart just below
        refused = _told_apart(error)
    if refused is None:
        return web.json_response({"verdict": "unknown", "findings": []}, status=503)
    status, findings = refused
    told = [{**one, "next": next_step(one["reason"])} for one in findings]
    headers = _BASIC if status == HTTPStatus.UNAUTHORIZED else {}
    return web.json_response(
        {"verdict": "refused", "findings": told}, status=status, headers=headers
    )


def _told_apart(error: Exception) -> tuple[int, list[dict[str, str]]] | None:
    """Return status and findings of a refusal; None, and a line in the log, for all else."""
    match error:
        case Malformed() | TimeoutError():
            found = 400, [_finding("malformed.message", label(str(error) or "too slow"))]
        case NoLines():
            found = 400, error.findings
        case TooLarge() | web.HTTPRequestEntityTooLarge():
            found = 413, [_finding("malformed.too-large", str(error))]
        case Rejected():
            found = 403, findings_json(error.findings)
        case Unfit():
            found = 403, [error.finding]
        case NotAllowed():
            found = 401 if error.is_unknown else 403, [error.finding]
        case web.HTTPException():
            found = error.status, [_finding("malformed.request", error.reason)]
        case Stale() | Busy() | ConnectionError():
            log.warning("nothing decided: %r", error)
            return None
        case _:
            log.error("nothing decided", exc_info=error)
            return None
    return found


def _finding(reason: str, found: str) -> dict[str, str]:
    return {"reason": reason, "what": "", "expected": "", "found": found}


# Serving


@dataclass(frozen=True, slots=True, kw_only=True)
class Doors:
    """Everything that `serve` needs; `check-config` makes it too."""

    service: Service
    tls: ssl.SSLContext | None

    @classmethod
    def build(cls, config: Config) -> "Doors":
        """Return the doors of the verifier that the configuration describes."""
        service = Service.open(config, now=_now, random=secrets.token_bytes)
        return cls(service=service, tls=None if config.plain_http_on_loopback else _tls(config))


def _now() -> datetime:
    return datetime.now(UTC)


def _tls(config: Config) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    try:
        context.load_cert_chain(config.tls_certificate, config.tls_key)
    except (OSError, ssl.SSLError) as error:
        names = f"{config.tls_certificate}, {config.tls_key}"
        raise Misconfigured(f"tls_certificate, tls_key: {names}: {error}") from error
    return context


async def serve(doors: Doors, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is told the URL once both doors are open."""
    config = doors.service.config
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    nodes = web.AppRunner(make_app(doors.service), access_log=None)
    operators = web.AppRunner(make_operators_app(doors.service), access_log=None)
    async with contextlib.AsyncExitStack() as stack:
        for runner in (nodes, operators):
            await runner.setup()
            stack.push_async_callback(runner.cleanup)
        await web.SockSite(operators, operators_socket(config.socket)).start()
        stack.callback(config.socket.unlink, missing_ok=True)
        site = web.TCPSite(nodes, config.listen, config.port, ssl_context=doors.tls)
        await site.start()
        sweeper = asyncio.create_task(_sweep_for_ever(Sweeper(doors.service)))
        stack.callback(sweeper.cancel)
        ready(_url(nodes, is_tls=doors.tls is not None))
        await stop.wait()


def _url(runner: web.AppRunner, *, is_tls: bool) -> str:
    host, port, *_ = runner.addresses[0]
    shown = f"[{host}]" if ":" in host else host
    return f"{'https' if is_tls else 'http'}://{shown}:{port}"


def operators_socket(path: Path) -> socket:
    """Return the listening socket, which nobody but its owner may ever have opened."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists():
        _remove_stale(path)
    listening = socket(AF_UNIX, SOCK_STREAM)
    before = os.umask(0o177)
    try:
        listening.bind(str(path))
    except OSError as error:
        listening.close()
        raise Misconfigured(f"socket: {path}: {error}") from error
    finally:
        os.umask(before)
    return listening


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed verifier has left; raise Misconfigured if one is alive."""
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise Misconfigured(f"socket: {path} is there and no socket")
    with socket(AF_UNIX, SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise Misconfigured(f"socket: another verifier listens at {path}")


async def _sweep_for_ever(sweeper: Sweeper) -> None:
    """Suspend, and later end, the credentials of nodes that are silent for too long."""
    while True:
        await asyncio.sleep(SWEEP_SECONDS)
        try:
            await asyncio.to_thread(sweeper.sweep)
        except Exception:
            log.exception("the sweep failed; it is tried again")
