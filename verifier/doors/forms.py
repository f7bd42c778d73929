"""Forms: what relying parties ask and report, each under its name and secret; and status lists."""

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import parse_qsl

from aiohttp import web

from credential import Malformed as MalformedUse
from credential.status import MEDIA_TYPE as STATUS_LIST
from credential.use import MEDIA_TYPE as USE_LINES
from credential.use import MOST_BATCH_BYTES, Use, read_batch
from evidence import Malformed
from verifier.doors.bodies import Bodies, NoLines
from verifier.doors.protection import Protection
from verifier.doors.refusals import Handler, finding
from verifier.reasons import label
from verifier.relying_parties import (
    MISUSES,
    Asker,
    NotAllowed,
    introspect,
    make_status_list,
    record_uses,
    report_misuse,
    revoke_token,
)
from verifier.service import Service

FORM = "application/x-www-form-urlencoded"
MOST_FORM_BYTES = 32 << 10
MOST_FORM_FIELDS = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """A form that comes in about the token in it, and the verb that answers it."""

    path: str
    verb: Callable[[Service, Asker, dict[str, str]], object]
    protection: Protection = Protection.RELYING_PARTY


FORMS = (
    Form(
        path="/v1/introspect",
        verb=lambda service, asker, form: introspect(service, asker, form["token"]),
    ),
    Form(
        path="/v1/revoke",
        verb=lambda service, asker, form: revoke_token(service, asker, form["token"]),
    ),
    Form(
        path="/v1/misuse",
        verb=lambda service, asker, form: report_misuse(
            service, asker, form["token"], _misuse(form)
        ),
    ),
)
USES = "/v1/uses"
"""POST, lines of a relying party's log (`credential.use`); protected as the forms are."""
STATUS_LISTS = "/v1/status/{number:[0-9]{1,18}}"
"""GET, for everybody too: a status list tells nothing of whose its places are."""


def add_forms(app: web.Application, service: Service, bodies: Bodies) -> None:
    """Have the door answer relying parties, and everybody about status lists."""
    for form in FORMS:
        app.router.add_post(form.path, _form_handler(service, form, bodies))
    app.router.add_post(USES, _uses_handler(service, bodies))
    app.router.add_get(STATUS_LISTS, _status_handler(service))


def _form_handler(service: Service, form: Form, bodies: Bodies) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        asker = _asker(request)
        async with bodies.read(request, FORM, most=MOST_FORM_BYTES) as body:
            fields = _fields(body)
        answer = await asyncio.to_thread(form.verb, service, asker, fields)
        return web.json_response(answer, headers={"Cache-Control": "no-store"})

    return handle


def _uses_handler(service: Service, bodies: Bodies) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        asker = _asker(request)
        async with bodies.read(request, USE_LINES, most=MOST_BATCH_BYTES) as body:
            uses = await asyncio.to_thread(_uses, body)
        return web.json_response(await asyncio.to_thread(record_uses, service, asker, uses))

    return handle


def _status_handler(service: Service) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        number = int(request.match_info["number"])
        text = await asyncio.to_thread(make_status_list, service, number)
        if text is None:
            raise web.HTTPNotFound
        return web.Response(
            text=text, content_type=STATUS_LIST, headers={"Cache-Control": "no-cache"}
        )

    return handle


def _uses(body: bytes) -> tuple[Use, ...]:
    try:
        return read_batch(body)
    except MalformedUse as error:
        findings = [finding(one.reason, label(one.what)) for one in error.findings]
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
